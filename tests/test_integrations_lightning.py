"""The Lightning callback against a plain loop, alone and in two processes, and its checkpoint."""

import contextlib
import os
import re
import warnings

import pytest
import torch
from ranks import leave
from torch import distributed, multiprocessing, nn
from torch.utils.data import DataLoader, TensorDataset
from toys import (
    HeatmapToy,
    differences,
    heatmap_batch,
    snapshot,
    tiny_adversary,
    tiny_attacker,
)

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy  # noqa: E402

from advaug.integrations.lightning import AdversaryCallback  # noqa: E402

pytestmark = [
    # Lightning's own: on the versions beside it, on this machine's cores, on what we leave out.
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(LeafSpec|num_workers|logging interval|litlogger)"),
    pytest.mark.filterwarnings("ignore:.*(srun|Checkpoint directory|loops.*state|resum)"),
]
BATCH, BATCHES = 4, 5
WINDOWS = (1, 2)
QUIET = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


class Module(lightning.LightningModule):
    """What a user has, with nothing of ours in it."""

    def __init__(self, net=None, optimizer=None):
        super().__init__()
        self.net = HeatmapToy() if net is None else net
        self.make_optimizer = optimizer or (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
        self.losses = []

    def training_step(self, batch, batch_idx):
        images, heatmaps = batch
        loss = nn.functional.mse_loss(self.net(images), heatmaps)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def loader(batches=BATCHES, batch=BATCH, seed=0):
    return DataLoader(TensorDataset(*heatmap_batch(batch * batches, seed=seed)), batch_size=batch)


def fit(module, adversary, data=None, callback=None, **options):
    callbacks = [callback or AdversaryCallback(adversary)]
    trainer = lightning.Trainer(**{**QUIET, **options}, callbacks=callbacks)
    trainer.fit(module, data or loader())
    return trainer


def plain_loop(module, adversary, *, accumulate=1, clip=None, dtype=None):
    """The README's diff; every loss counts one over the window's length, as in Lightning."""
    optimizer = module.configure_optimizers()
    batches = list(loader())
    for index, (images, heatmaps) in enumerate(batches):
        # As Lightning's, without a cache.
        options = {"enabled": dtype is not None, "cache_enabled": False}
        with torch.autocast("cpu", dtype or torch.bfloat16, **options):
            images = adversary.augment(images, heatmaps)
            loss = nn.functional.mse_loss(module.net(images), heatmaps)
        (loss / accumulate).backward()
        if (index + 1) % accumulate == 0 or index + 1 == len(batches):
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()


def twins(seed=0, **options):
    """Two modules and two adversaries alike."""
    pairs = []
    for _ in range(2):
        torch.manual_seed(seed)
        pairs.append((Module(), tiny_adversary(**options)))
    return pairs


def assert_close(one, other, rtol=1e-4, atol=1e-5):
    for name, value in one.state_dict().items():
        if isinstance(value, torch.Tensor):
            expected = other.state_dict()[name]  # the report is NaN where nobody told the errors
            torch.testing.assert_close(value, expected, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize(
    ("trainer", "loop"),
    [
        ({}, {}),
        ({"gradient_clip_val": 1.0}, {"clip": 1.0}),
        # Five batches: the last window is shorter.
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
        (
            {"accumulate_grad_batches": 3, "gradient_clip_val": 1.0},
            {"accumulate": 3, "clip": 1.0},
        ),
        ({"precision": "bf16-mixed"}, {"dtype": torch.bfloat16}),
    ],
    ids=["plain", "clip", "accumulate", "accumulate-clip", "bf16"],
)
def test_a_fit_is_the_loop_of_the_readme(trainer, loop):
    (module, adversary), (other_module, other_adversary) = twins()
    before = snapshot(module.net.state_dict())
    torch.manual_seed(3)
    fit(module, adversary, **trainer)
    torch.manual_seed(3)
    plain_loop(other_module, other_adversary, **loop)
    assert differences(module.net.state_dict(), other_module.net.state_dict()) == []
    assert differences(adversary.state_dict(), other_adversary.state_dict()) == []
    assert differences(before, module.net.state_dict())


def test_without_the_callback_the_module_ends_elsewhere():
    """The comparison above can fail."""
    (module, adversary), (alone, _) = twins()
    torch.manual_seed(3)
    fit(module, adversary)
    torch.manual_seed(3)
    trainer = lightning.Trainer(**QUIET)
    trainer.fit(alone, loader())
    with pytest.raises(AssertionError):
        assert_close(module.net, alone.net)


class Scaled(MixedPrecision):
    """The loss scale of float16, with everything computed in float32 all the same."""

    def autocast_context_manager(self):
        return contextlib.nullcontext()


def test_a_loss_scale_changes_nothing():
    (module, adversary), (other_module, other_adversary) = twins()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for each, ours, options in (
        (module, adversary, {"plugins": [Scaled("16-mixed", "cpu", scaler)]}),
        (other_module, other_adversary, {}),
    ):
        torch.manual_seed(3)
        fit(each, ours, gradient_clip_val=1.0, **options)
    assert_close(module.net, other_module.net)
    assert_close(adversary, other_adversary)


def test_float16_trains():
    (module, adversary), _ = twins()
    before = snapshot(module.net.head.state_dict())
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**12))
    fit(module, adversary, plugins=[plugin])
    assert differences(before, module.net.head.state_dict())
    assert all(p.isfinite().all() for p in (*module.parameters(), *adversary.parameters()))


def test_an_overflow_skips_the_detectors_step_and_the_run_goes_on():
    (module, adversary), _ = twins()
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**40))
    before = snapshot(module.net.head.state_dict())
    fit(module, adversary, data=loader(batches=1), plugins=[plugin])
    assert differences(before, module.net.head.state_dict()) == []
    assert plugin.scaler.get_scale() == 2.0**39
    assert all(value.isfinite().all() for value in adversary.parameters())


def test_a_fit_that_is_taken_up_ends_where_an_uninterrupted_one_ends(tmp_path):
    (whole, adversary), (part, other_adversary) = twins()

    def run(module, adversary, epochs, **options):
        trainer = lightning.Trainer(
            **{**QUIET, "max_epochs": epochs}, callbacks=[AdversaryCallback(adversary)]
        )
        torch.manual_seed(epochs)
        trainer.fit(module, loader(), **options)
        return trainer

    for net in (whole.net, part.net):
        net.body[3].p = 0.0  # dropout's random state is the caller's to resume
    run(part, other_adversary, 1).save_checkpoint(tmp_path / "one.ckpt")
    held = torch.load(tmp_path / "one.ckpt", weights_only=True)["callbacks"]
    assert differences(held["advaug.AdversaryCallback"], other_adversary.state_dict()) == []
    run(whole, adversary, 2)
    resumed, fresh = Module(), tiny_adversary(seed=9)
    resumed.net.body[3].p = 0.0
    run(resumed, fresh, 2, ckpt_path=tmp_path / "one.ckpt")
    assert differences(whole.net.state_dict(), resumed.net.state_dict()) == []
    assert differences(adversary.state_dict(), fresh.state_dict()) == []


def test_the_report_is_logged_when_lightning_logs(tmp_path):
    (module, adversary), _ = twins()
    logger = lightning.loggers.CSVLogger(tmp_path)
    trainer = fit(module, adversary, logger=logger, log_every_n_steps=2)
    lines = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 2  # steps 2 and 4 of five
    assert "adversary/beta" in lines[0]
    beta = trainer.callback_metrics["adversary/beta"]
    assert beta.item() == pytest.approx(adversary.report.read()["beta"])


def test_an_unhealthy_run_ends_with_a_warning():
    (module, adversary), _ = twins()
    adversary.running_means.steps += 100
    adversary.running_means.values.fill_(1.0)
    with pytest.warns(UserWarning, match="β is 0 for"):
        fit(module, adversary, data=loader(batches=1))


def test_a_healthy_run_ends_without():
    (module, adversary), _ = twins()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit(module, adversary, data=loader(batches=1))
    assert not [warning for warning in seen if "health" in str(warning.message)]


def test_validation_sees_its_pictures_as_they_are():
    (module, adversary), _ = twins()
    seen = []
    module.validation_step = lambda batch, batch_idx: seen.append(batch[0])
    trainer = lightning.Trainer(**QUIET, callbacks=[AdversaryCallback(adversary)])
    trainer.fit(module, loader(), loader(seed=5))
    images = torch.cat([batch[0] for batch in loader(seed=5)])
    assert torch.equal(torch.cat(seen)[-len(images) :], images)
    assert adversary._calls == BATCHES


def test_the_batch_of_the_loader_stays_as_it_was_and_so_does_the_strategy():
    (module, adversary), _ = twins()
    images, heatmaps = heatmap_batch(4)
    batch = [images, heatmaps]
    before = images.clone()
    held = DataLoader([batch], batch_size=None)
    trainer = fit(module, adversary, data=held)
    assert batch[0] is images
    assert torch.equal(images, before)
    assert adversary.report is not None
    assert "training_step" not in vars(trainer.strategy)


def test_the_strategy_is_as_it_was_after_an_exception():
    (module, adversary), _ = twins()
    trainer = lightning.Trainer(**QUIET, callbacks=[AdversaryCallback(adversary)])
    module.training_step = lambda batch, batch_idx: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, loader())
    assert "training_step" not in vars(trainer.strategy)


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def test_manual_optimization_is_the_loop_too():
    (_, adversary), (other_module, other_adversary) = twins()
    module = Manual()
    module.net.load_state_dict(other_module.net.state_dict())
    torch.manual_seed(3)
    fit(module, adversary)
    torch.manual_seed(3)
    plain_loop(other_module, other_adversary)
    assert differences(module.net.state_dict(), other_module.net.state_dict()) == []
    assert differences(adversary.state_dict(), other_adversary.state_dict()) == []


def test_several_backwards_a_step_are_several_lessons():
    module, adversary = Module(optimizer=lambda p: torch.optim.LBFGS(p, max_iter=3)), None
    adversary = tiny_adversary()
    fit(module, adversary, data=loader(batches=2))
    assert adversary._calls > 2
    assert adversary.health() is not None
    assert all(value.isfinite().all() for value in module.parameters())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda b: (b["image"], b["maps"]), "a list of 2: a tensor"),
        (lambda b: b[0], "must give .images, target."),
        (lambda b: (b[0][:, :1], b[1]), "`images` must be .B, 3, H, W."),
        (lambda b: (b[0].clone(), b[1]), "`images` must return one of"),
    ],
    ids=["no dict", "one part", "no pictures", "new pictures"],
)
def test_a_batch_that_does_not_fit_is_refused(batch, message):
    module, adversary = Module(), tiny_adversary()
    before = snapshot(module.net.state_dict())
    with pytest.raises((ValueError, TypeError), match=message):
        fit(module, adversary, callback=AdversaryCallback(adversary, batch))
    assert differences(before, module.net.state_dict()) == []


def test_a_batch_of_names_is_found_as_the_message_says():
    images, heatmaps = heatmap_batch()
    batch = {"image": images, "keypoints": heatmaps}
    with pytest.raises(ValueError, match="Pass what fits your loader, such as") as caught:
        AdversaryCallback(tiny_adversary()).augmented(batch)
    fix = re.search("`batch=(lambda .*)`", str(caught.value)).group(1)
    after = AdversaryCallback(tiny_adversary(), eval(fix)).augmented(batch)
    assert after["keypoints"] is heatmaps
    assert not torch.equal(after["image"], images)


# --- two processes -----------------------------------------------------------------------------


class Noiseless(nn.Module):
    """An attacker that leaves out the noise, which differs between processes."""

    def __init__(self):
        super().__init__()
        self.net = tiny_attacker()

    def forward(self, images, structure, noise):
        return self.net(images, structure, torch.zeros_like(noise))


def parts():
    """A detector without BatchNorm and dropout, and an adversary without noise."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2),
        *(nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)),
    )
    module = Module(net, lambda p: torch.optim.SGD(p, lr=0.1))
    # Under the limit a young attacker's gradients are as small as rounding, and Adam follows them.
    # All pictures are attacked, since two processes choose others than one would.
    adversary = tiny_adversary(attacker=Noiseless(), adversarial_limit=None, share=1.0, beta=1.0)
    return module, adversary


def process(rank, folder, port):
    """One process as torchrun starts it: every second batch of four pictures is its own."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0",
    )
    together = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    for accumulate in WINDOWS:
        module, adversary = parts()
        fit(module, adversary, half(rank), accumulate_grad_batches=accumulate, **together)
        ends = [module.net.state_dict(), adversary.state_dict()]
        torch.save(ends, f"{folder}/{accumulate}-{rank}.pt")
    module, adversary = parts()
    fit(module, adversary, half(rank), **{**together, "strategy": DDPStrategy(static_graph=True)})
    assert adversary.report is not None
    distributed.destroy_process_group()
    leave(rank, folder)


def half(rank):
    """Of four batches of four pictures, the two pictures of each that this process sees."""
    images, heatmaps = (part.unflatten(0, (4, 2, 2))[:, rank] for part in heatmap_batch(16))
    return DataLoader(TensorDataset(images, heatmaps), batch_size=None)


def test_two_processes_end_where_one_on_the_joined_batches_ends(tmp_path):
    # As torchrun does it: a port that is only looked up may be another's when it is needed.
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    multiprocessing.spawn(process, args=(str(tmp_path), store.port), nprocs=2)
    for accumulate in WINDOWS:
        (net, weights), (other_net, other_weights) = (
            torch.load(tmp_path / f"{accumulate}-{rank}.pt", weights_only=True) for rank in range(2)
        )
        module, adversary = parts()
        before = snapshot(module.net.state_dict())
        fit(module, adversary, loader(batches=4), accumulate_grad_batches=accumulate)
        assert differences(net, other_net) == []
        for name, value in module.net.state_dict().items():
            torch.testing.assert_close(value, net[name], rtol=1e-4, atol=1e-5)
            assert (value - before[name]).abs().max() > 1e-4, name
        for name, value in adversary.named_parameters():
            assert torch.equal(weights[name], other_weights[name]), name
            torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-4)
