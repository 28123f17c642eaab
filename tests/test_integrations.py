"""Trainers of others: resumed to the bit, logged where they log, and nothing in evaluation."""

import pytest
import torch
from torch import nn
from toys import MARKS, HeatmapToy, differences, heatmap_batch, pictures, snapshot, tiny_adversary

from advaug.integrations.shared import save_with
from advaug.integrations.torchvision import attach_to_rcnn

# --- an optimizer that carries the adversary ----------------------------------------------------


def half_trained(adversary=None, steps=2):
    """A toy and its optimizer, which carries the adversary, after some steps."""
    torch.manual_seed(0)
    net = HeatmapToy(dropout=0.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    adversary = adversary or tiny_adversary()
    save_with(optimizer, adversary)
    train(net, optimizer, adversary, range(steps))
    return net, optimizer, adversary


def train(net, optimizer, adversary, seeds):
    for seed in seeds:
        images, heatmaps = heatmap_batch(seed=seed)
        nn.functional.mse_loss(net(adversary.augment(images, heatmaps)), heatmaps).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_what_loads_the_optimizer_loads_the_adversary(tmp_path):
    whole = half_trained(steps=4)
    net, optimizer, _ = half_trained(steps=2)
    torch.save([net.state_dict(), optimizer.state_dict()], tmp_path / "two.pt")
    weights, state = torch.load(tmp_path / "two.pt", weights_only=True)
    net, optimizer, adversary = half_trained(tiny_adversary(seed=9), steps=1)
    net.load_state_dict(weights)
    optimizer.load_state_dict(state)
    assert "advaug" in state  # the caller's dict stays as it was
    train(net, optimizer, adversary, range(2, 4))
    for one, other in zip(whole, (net, optimizer, adversary), strict=True):
        assert differences(one.state_dict(), other.state_dict()) == []


def test_an_optimizer_without_it_ignores_the_part_and_a_state_without_it_leaves_it_alone():
    net, optimizer, adversary = half_trained()
    plain = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    plain.load_state_dict(optimizer.state_dict())
    assert "advaug" not in plain.state_dict()
    before = snapshot(adversary.state_dict())
    optimizer.load_state_dict(plain.state_dict())
    assert differences(before, adversary.state_dict()) == []


def test_where_the_optimizers_own_part_does_not_fit_the_adversary_stays_too():
    _, optimizer, adversary = half_trained()
    state = half_trained(steps=3)[1].state_dict()
    state["param_groups"][0]["params"] = [0]
    before = snapshot(adversary.state_dict())
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(state)
    assert differences(before, adversary.state_dict()) == []
    with pytest.raises(TypeError, match="`optimizer` must be a torch.optim.Optimizer"):
        save_with(object(), adversary)


# --- transformers -------------------------------------------------------------------------------


class Scored(nn.Module):
    """A model that gives its loss, as transformers' own do."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = HeatmapToy(dropout=0.0), []

    def forward(self, pixel_values, labels):
        heatmaps = self.net(pixel_values)
        if not self.training:
            self.seen.append(pixel_values)
        return {"loss": nn.functional.mse_loss(heatmaps, labels), "logits": heatmaps}


def hugging(tmp_path, steps, adversary=None, seed=0, **options):
    """A Trainer of transformers over twelve pictures, which runs on when it is asked to resume."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from advaug.integrations.transformers import AdversarialTrainer

    torch.manual_seed(seed)
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=steps,
        per_device_train_batch_size=2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_steps=3,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        **options,
    )
    images, heatmaps = heatmap_batch(12)
    data = [{"pixel_values": i, "labels": h} for i, h in zip(images, heatmaps, strict=True)]
    adversary = adversary or tiny_adversary(seed=seed)
    return AdversarialTrainer(
        Scored(), settings, adversary=adversary, train_dataset=data, eval_dataset=data[:4]
    )


def test_transformers_trainer_resumes_to_the_bit_and_logs(tmp_path):
    whole = hugging(tmp_path / "whole", 6)
    whole.train()
    hugging(tmp_path / "part", 3).train()
    resumed = hugging(tmp_path / "part", 6, seed=9)
    resumed.train(resume_from_checkpoint=True)
    assert differences(whole.model.state_dict(), resumed.model.state_dict()) == []
    assert differences(whole.adversary.state_dict(), resumed.adversary.state_dict()) == []
    weights = {path.name for path in (tmp_path / "whole" / "checkpoint-6").glob("*.safetensors")}
    assert weights == {"model.safetensors"}
    logged = [entry for entry in whole.state.log_history if "loss" in entry]
    assert len(logged) == 6
    last = whole.adversary.report.read()["beta"]
    assert logged[-1]["adversary/beta"] == pytest.approx(last)


def test_transformers_evaluation_sees_its_pictures_as_they_are(tmp_path):
    trainer = hugging(tmp_path, 2, eval_strategy="steps", eval_steps=1)
    trainer.train()
    expected = heatmap_batch(12)[0][:4]
    assert torch.equal(torch.cat(trainer.model.seen)[:4], expected)
    assert trainer.adversary._calls == 2


def test_transformers_batch_without_the_pictures_is_refused(tmp_path):
    trainer = hugging(tmp_path, 2)
    trainer._names = ("image", "labels")
    with pytest.raises(ValueError, match="`images` must name a part .* 'image' is not in a dict"):
        trainer.train()


def test_transformers_keeps_a_part_that_the_model_ignores_as_the_message_says(tmp_path):
    class Ignoring(Scored):
        def forward(self, pixel_values, labels, **ignored):
            return super().forward(pixel_values, labels)

    def run(**options):
        trainer = hugging(tmp_path, 1, **options)
        trainer.model_wrapped = trainer.model = Ignoring()
        trainer.train_dataset = [each | {"maps": each["labels"]} for each in trainer.train_dataset]
        trainer._names = ("pixel_values", "maps")
        trainer.train()
        return trainer.adversary

    with pytest.raises(ValueError, match=r"`TrainingArguments\(remove_unused_columns=False\)`"):
        run()
    assert run(remove_unused_columns=False)._calls == 1


# --- torchvision --------------------------------------------------------------------------------


def rcnn():
    """A Keypoint R-CNN on a backbone of two convolutions."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    backbone.out_channels = 8
    head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    anchors = AnchorGenerator(((16, 32),), ((1.0,),))
    return KeypointRCNN(
        backbone,
        min_size=64,
        max_size=96,
        rpn_anchor_generator=anchors,
        keypoint_head=head,
        keypoint_predictor=nn.ConvTranspose2d(8, MARKS, 4, 2, 1),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(8 * 49, 16), nn.ReLU()),
        box_predictor=Predictor(),
    )


class Predictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores, self.boxes = nn.Linear(16, 2), nn.Linear(16, 8)

    def forward(self, features):
        return self.scores(features), self.boxes(features)


def people(seed):
    """Pictures of two sizes with one person each, in torchvision's form."""
    images, targets = [], []
    for side in (64, 80):
        (image,), (points,) = pictures(1, side, seed=seed)
        corners = torch.cat([points.amin(dim=0) - 4, points.amax(dim=0) + 4])
        seen = torch.cat([points, torch.ones(MARKS, 1)], dim=1)
        images.append(image)
        targets.append(
            {"boxes": corners[None], "labels": torch.ones(1).long(), "keypoints": seen[None]}
        )
    return images, targets


def train_rcnn(model, optimizer, seeds):
    """The loop of torchvision's references, in short."""
    for seed in seeds:
        torch.manual_seed(seed)
        images, targets = people(seed)
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def rcnn_parts(seed=0):
    model = rcnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    adversary = tiny_adversary(seed=seed, structure="discriminator", share=1.0)
    return model, optimizer, attach_to_rcnn(model, optimizer, adversary)


def test_keypoint_rcnn_is_attacked_learns_and_resumes_to_the_bit():
    model, optimizer, handle = rcnn_parts()
    train_rcnn(model, optimizer, range(4))
    part, its_optimizer, _ = rcnn_parts()
    train_rcnn(part, its_optimizer, range(2))
    held = snapshot([part.state_dict(), its_optimizer.state_dict()])
    fresh, new_optimizer, other = rcnn_parts(seed=9)
    fresh.load_state_dict(held[0])
    new_optimizer.load_state_dict(its_optimizer.state_dict())
    train_rcnn(fresh, new_optimizer, range(2, 4))
    assert differences(model.state_dict(), fresh.state_dict()) == []
    assert differences(handle.adversary.state_dict(), other.adversary.state_dict()) == []
    assert handle.adversary.report is not None
    assert handle.calls == 4


def test_keypoint_rcnn_in_evaluation_sees_its_pictures_as_they_are():
    model, _, handle = rcnn_parts()
    images, _ = people(0)
    model.eval()
    with torch.no_grad():
        seen = model(images)
    handle.remove()
    with torch.no_grad():
        expected = model(images)
    assert differences(seen, expected) == []
    assert handle.calls == 0
    net, (images, heatmaps) = HeatmapToy(), heatmap_batch()
    with pytest.raises(TypeError, match=r"`adversary.attach\(model, images=..., target=...\)`"):
        attach_to_rcnn(net)
    adversary = tiny_adversary()
    attached = adversary.attach(net, images="images", target=lambda *_: heatmaps)
    net(images).mean().backward()
    attached.remove()
    assert adversary._calls == 1


# --- Fabric -------------------------------------------------------------------------------------


def fabric_run(tmp_path, seeds, *, resume=False, seed=0):
    """The loop of the page on trainers."""
    lightning = pytest.importorskip("lightning")
    torch.manual_seed(0)
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    net = HeatmapToy(dropout=0.0)
    net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
    adversary = tiny_adversary(seed=seed).to(fabric.device)
    state = {"net": net, "optimizer": optimizer, "adversary": adversary}
    if resume:
        fabric.load(tmp_path / "state.ckpt", state)
    for batch in seeds:
        images, heatmaps = heatmap_batch(seed=batch)
        images = adversary.augment(images, heatmaps)
        fabric.backward(nn.functional.mse_loss(net(images), heatmaps))
        optimizer.step()
        optimizer.zero_grad()
    fabric.save(tmp_path / "state.ckpt", state)
    return [net.state_dict(), adversary.state_dict()]


@pytest.mark.filterwarnings("ignore:.*(srun|LeafSpec)")
@pytest.mark.filterwarnings("ignore::FutureWarning:lightning")
def test_a_loop_on_fabric_resumes_to_the_bit(tmp_path):
    whole = fabric_run(tmp_path, range(4))
    fabric_run(tmp_path, range(2))
    assert differences(whole, fabric_run(tmp_path, range(2, 4), resume=True, seed=9)) == []


# --- ignite -------------------------------------------------------------------------------------


def ignite_run(folder, epochs, resume_from=None, seed=0):
    """The loop of the page on trainers; the state goes where ignite's Checkpoint puts it."""
    from ignite.engine import Engine, Events
    from ignite.handlers import Checkpoint, DiskSaver

    torch.manual_seed(0)
    net = HeatmapToy(dropout=0.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    adversary = tiny_adversary(seed=seed)

    def update(engine, _):
        train(net, optimizer, adversary, [engine.state.iteration])

    trainer = Engine(update)
    held = {"net": net, "optimizer": optimizer, "trainer": trainer, "adversary": adversary}
    saver = Checkpoint(held, DiskSaver(folder, create_dir=True, require_empty=False))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, saver)
    if resume_from is not None:
        Checkpoint.load_objects(held, torch.load(resume_from, weights_only=False))
    trainer.run([0, 1], max_epochs=epochs)
    return [net.state_dict(), adversary.state_dict()]


def test_a_loop_on_ignite_resumes_to_the_bit(tmp_path):
    pytest.importorskip("ignite")
    whole = ignite_run(tmp_path / "whole", 2)
    ignite_run(tmp_path / "part", 1)
    (one,) = (tmp_path / "part").glob("*.pt")
    assert differences(whole, ignite_run(tmp_path / "part", 2, resume_from=one, seed=9)) == []
