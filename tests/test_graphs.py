"""A captured step: the same numbers as the step itself, and in words why not where it cannot be."""

import pytest
import torch
from torch import distributed
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from toys import HeatmapToy, differences, heatmap_batch, snapshot, tiny_adversary

from advaug import HeatmapTask
from advaug.step.loan import private_randomness
from advaug.training import CapturedStep, graphs

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Run:
    """A detector in training, its optimizer and, unless it is None, an adversary."""

    def __init__(self, adversary=None, device="cpu", dtype=torch.float32):
        torch.manual_seed(5)
        self.detector = HeatmapToy(dropout=0.0).to(device)
        self.adversary = None if adversary is None else adversary.to(device)
        self.optimizer = Adam(self.detector.parameters(), lr=1e-3, fused=True)
        self.scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
        self.kind = {"device_type": device, "dtype": dtype, "enabled": dtype != torch.float32}

    def step(self, images, heatmaps):
        with torch.autocast(**self.kind):
            loss = HeatmapTask().error(self.detector(images), heatmaps).mean()
            if self.adversary is not None:
                loss = loss + self.adversary(self.detector, images, heatmaps)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss

    def state(self):
        parts = (self.detector, self.optimizer, self.adversary)
        return snapshot([part.state_dict() for part in parts if part is not None])


def seeded(**options):
    torch.manual_seed(3)
    return tiny_adversary(**options)


class Tape:
    """Stands for CUDA's graph on a CPU: replaying runs the captured work again."""

    made = ()

    def __init__(self):
        self.log = []
        Tape.made = (*Tape.made, self)

    def run(self, work):
        self.log.append("run")
        return work()

    def capture(self, work):
        self.log.append("capture")
        self.work, self.loss = work, torch.zeros(())
        return self.loss

    @torch.enable_grad()
    def replay(self):
        self.log.append("replay")
        self.loss.copy_(self.work().detach())


@pytest.fixture
def tape(monkeypatch):
    """CapturedStep as on a device with graphs, so far as a CPU can follow it."""
    monkeypatch.setattr(Tape, "made", ())
    monkeypatch.setattr(graphs, "_Graph", Tape)
    monkeypatch.setattr(graphs, "_waits", lambda: graphs.contextlib.nullcontext([]))
    monkeypatch.setattr(graphs, "_obstacle", lambda *_: None)
    return lambda: Tape.made[0].log


# --- fallback ------------------------------------------------------------------------------------


def test_on_a_cpu_the_step_runs_as_it_is_and_the_reason_is_said():
    plain, captured = Run(seeded()), Run(seeded())
    step = CapturedStep(captured.step, captured.adversary, [captured.optimizer])
    for number in range(5):
        batch = heatmap_batch(seed=number)
        assert torch.equal(step(*batch), plain.step(*batch).detach())
        assert step.reason == "a tensor is on the device 'cpu', and only CUDA has graphs"
    assert not differences(plain.state(), captured.state())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attacker_every": 2}, "with `attacker_every=2` not every step does the same"),
        ({"discriminator_every": 3}, "with `discriminator_every=3` not every step"),
        ({"batch_norm": "split"}, "`batch_norm='split'` hands gradients from one step"),
        ({"transform": lambda *both: both}, "`transform` may draw random numbers on the CPU"),
        ({"optimizer": lambda p: SGD(p, lr=1.0)}, "the adversary's SGD waits for the device"),
        ({"optimizer": Adam}, "Adam must be made with `fused=True` or `capturable=True`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adversary_whose_steps_differ_or_wait_is_not_captured(options, reason):
    run = Run(tiny_adversary(**options))
    step = CapturedStep(run.step, run.adversary, [run.optimizer])
    step(*heatmap_batch())
    assert step.reason.startswith(reason)


def test_an_optimizer_that_keeps_its_state_on_the_cpu_is_not_captured():
    run = Run()
    run.optimizer = Adam(run.detector.parameters())
    step = CapturedStep(run.step, optimizers=[run.optimizer])
    step(*heatmap_batch())
    assert step.reason == "Adam must be made with `fused=True` or `capturable=True`"


def test_a_run_of_several_processes_is_not_captured(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    step = CapturedStep(Run().step)
    step(*heatmap_batch())
    assert step.reason == "several processes exchange gradients within the step"


# --- the order of things, with a tape in the place of a graph ------------------------------------


def test_three_calls_settle_the_step_the_fourth_captures_it_and_each_is_one_step(tape):
    plain, captured = Run(), Run()
    step = CapturedStep(captured.step, optimizers=[captured.optimizer])
    reasons = []
    for number in range(6):
        batch = heatmap_batch(seed=number)
        assert torch.equal(step(*batch), plain.step(*batch).detach())
        reasons.append(step.reason)
    assert tape() == ["run"] * 3 + ["capture"] + ["replay"] * 3
    assert reasons == [*(f"call {n} of 3 that settle the step" for n in (1, 2, 3)), *[None] * 3]
    assert not differences(plain.state(), captured.state())


def test_a_batch_of_another_shape_runs_as_it_is_and_the_next_is_replayed(tape):
    plain, captured = Run(), Run()
    step = CapturedStep(captured.step)
    for count in (4, 4, 4, 4, 3, 4):
        batch = heatmap_batch(count, seed=count)
        assert torch.equal(step(*batch), plain.step(*batch).detach())
        assert count == 4 or step.reason.startswith(
            "the graph is for (4, 3, 32, 32) float32 on cpu, (4, 3, 32, 32) float32 on cpu, but "
            "got (3, 3, 32, 32) float32 on cpu"
        )
    assert step.reason is None
    assert tape() == ["run"] * 3 + ["capture"] + ["replay"] * 2


def test_the_loss_of_a_call_is_not_overwritten_by_the_next(tape):
    run = Run()
    step = CapturedStep(run.step)
    losses = [step(*heatmap_batch()) for _ in range(6)]
    assert len({loss.item() for loss in losses}) == 6


def test_a_learning_rate_that_python_changes_ends_the_replays(tape):
    plain, captured = Run(), Run()
    schedules = [StepLR(run.optimizer, 5) for run in (plain, captured)]
    step = CapturedStep(captured.step, optimizers=[captured.optimizer])
    for number in range(7):
        batch = heatmap_batch(seed=number)
        assert torch.equal(step(*batch), plain.step(*batch).detach())
        assert number < 5 or step.reason.startswith("an option of an optimizer has changed")
        for schedule in schedules:
            schedule.step()
    assert tape() == ["run"] * 3 + ["capture"] + ["replay"] * 2
    assert not differences(plain.state(), captured.state())


def test_each_replay_has_random_numbers_of_its_own_from_the_adversarys_seed(tape):
    def drawn(seed):
        draws = []

        def step(images):
            draws.append(torch.rand(()).item())
            return images.sum()

        captured = CapturedStep(step, tiny_adversary(seed=seed))
        for _ in range(3):
            captured(torch.zeros(1))
        before = torch.get_rng_state()
        for _ in range(3):
            captured(torch.zeros(1))
        assert torch.equal(torch.get_rng_state(), before)
        return draws[3:]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again
    assert len({*first, *other}) == 6


def test_a_replay_counts_as_a_call_of_the_adversary_and_the_capture_does_not(tape):
    adversary = tiny_adversary()
    step = CapturedStep(lambda images: images.sum(), adversary)
    for _ in range(5):
        step(torch.zeros(1))
    assert adversary.get_extra_state()["calls"] == 2  # of the two replays


def test_fused_optimizers_may_be_captured_and_are_as_before_afterwards(tape):
    seen = []
    run = Run()

    def step(images, heatmaps):
        seen.append(run.optimizer.param_groups[0]["capturable"])
        return run.step(images, heatmaps)

    class Recording(Tape):
        def capture(self, work):
            loss = super().capture(work)
            work()
            return loss

    graphs._Graph = Recording  # the fixture takes it back
    captured = CapturedStep(step, optimizers=[run.optimizer])
    for _ in range(5):
        captured(*heatmap_batch())
    assert seen == [False] * 3 + [True] + [False] * 2


def test_nothing_is_drawn_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    generator = torch.Generator().manual_seed(0)
    states = generator.get_state(), torch.get_rng_state()
    with private_randomness(generator, torch.device("cuda")):
        assert torch.equal(torch.get_rng_state(), states[1])
    assert torch.equal(generator.get_state(), states[0])


# --- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", ["fused", "shared"])
def test_a_graph_gives_the_numbers_of_the_step(mode, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    norm = "running" if mode == "fused" else "isolated"
    plain, captured = (Run(seeded(mode=mode, batch_norm=norm), "cuda", dtype) for _ in range(2))
    step = CapturedStep(captured.step, captured.adversary, [captured.optimizer])
    before = torch.cuda.get_rng_state()
    for number in range(8):
        batch = [tensor.cuda() for tensor in heatmap_batch(seed=number)]
        torch.testing.assert_close(step(*batch), plain.step(*batch).detach(), rtol=1e-4, atol=1e-4)
        assert (step.reason is None) == (number >= 3), step.reason
    assert torch.equal(torch.cuda.get_rng_state(), before)
    states = [run.detector.state_dict() for run in (plain, captured)]
    states += [run.adversary.attacker.state_dict() for run in (plain, captured)]
    for one, other in zip(states[::2], states[1::2], strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)
    extras = [run.adversary.get_extra_state() for run in (plain, captured)]
    assert extras[0]["calls"] == extras[1]["calls"] == 8
    assert torch.equal(extras[0]["generator"], extras[1]["generator"])


@pytest.mark.gpu
@needs_gpu
def test_a_step_that_reads_a_number_is_found_before_it_is_captured():
    run = Run(None, "cuda")

    def step(*batch):
        loss = run.step(*batch)
        assert loss.item() > 0
        return loss

    captured = CapturedStep(step, optimizers=[run.optimizer])
    batch = [tensor.cuda() for tensor in heatmap_batch()]
    for _ in range(5):
        captured(*batch)
    assert "the step waits for the device" in captured.reason
    assert "test_graphs.py" in captured.reason


@pytest.mark.gpu
@needs_gpu
def test_a_schedule_reaches_the_graph_through_a_tensor():
    run = Run(None, "cuda")
    rate = torch.tensor(1e-3, device="cuda")
    run.optimizer = Adam(run.detector.parameters(), lr=rate, fused=True)
    captured = CapturedStep(run.step, optimizers=[run.optimizer])
    batch = [tensor.cuda() for tensor in heatmap_batch()]
    for _ in range(5):
        captured(*batch)
    assert captured.reason is None
    rate.zero_()
    before = snapshot(list(run.detector.parameters()))
    captured(*batch)
    assert captured.reason is None
    assert not differences(before, list(run.detector.parameters()))
