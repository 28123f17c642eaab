"""Trainers that want an environment of their own, against stand-ins; see `stand_ins`.

`test_trainer_examples` runs the originals where they are installed.
"""

import importlib
import sys

import pytest
import stand_ins
import torch
from torch import nn
from toys import HeatmapToy, differences, heatmap_batch, pictures, tiny_adversary

from advaug import PixelSpec, SampleAdaptiveAdversary

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:lightning")


UNIT = PixelSpec()


@pytest.fixture
def integration(monkeypatch):
    """From a trainer's name to our file for it, on top of the stand-in."""

    def load(name):
        getattr(stand_ins, name)(monkeypatch)
        monkeypatch.delitem(sys.modules, f"advaug.integrations.{name}", raising=False)
        return importlib.import_module(f"advaug.integrations.{name}")

    return load


def adversary(seed=0, pixels=UNIT):
    torch.manual_seed(seed)
    return tiny_adversary(structure="discriminator", share=1.0, seed=seed, pixels=pixels)


# --- Ultralytics --------------------------------------------------------------------------------


def test_ultralytics_resumes_to_the_bit_and_logs_beside_the_training_loss(integration):
    base = integration("ultralytics").AdversarialPoseTrainer

    class Trainer(base):
        def make_adversary(self):
            return adversary(self.args.seed)

    whole, part, resumed = Trainer({"epochs": 4}), Trainer({"epochs": 2}), Trainer({"epochs": 4})
    whole.train()
    part.train()
    resumed.args.seed = 9
    resumed.train(resume=part.checkpoint)
    assert differences(whole.model.state_dict(), resumed.model.state_dict()) == []
    assert differences(whole.adversary.state_dict(), resumed.adversary.state_dict()) == []
    beta = whole.adversary.report.read()["beta"]
    assert whole.rows[-1]["train/adversary/beta"] == pytest.approx(beta)
    assert set(whole.rows[0]) == set(whole.rows[-1])  # the columns of one table
    assert whole.label_loss_items() == ["train/pose_loss"]


def test_ultralytics_validates_on_pictures_as_they_are_and_plots_the_attacked_ones(integration):
    trainer = integration("ultralytics").AdversarialPoseTrainer({"epochs": 1})
    trainer.train()
    expected = stand_ins.flat_people(99)["img"].float() / 255
    assert all(torch.equal(seen, expected) for seen in trainer.validated)
    assert not trainer.ema._forward_pre_hooks
    first = stand_ins.flat_people(0)["img"].float() / 255
    assert trainer.model.seen[0].shape == first.shape
    assert not torch.equal(torch.from_numpy(trainer.plotted[0]), first)
    assert trainer.adversary._calls == 2


def test_ultralytics_is_imported_by_its_own_file_only():
    """The AGPL's: no dependency, no extra, and nothing else of the library touches it."""
    root = importlib.import_module("advaug").__path__[0]
    from pathlib import Path

    users = [path for path in Path(root).rglob("*.py") if "import ultralytics" in path.read_text()]
    users += [path for path in Path(root).rglob("*.py") if "from ultralytics" in path.read_text()]
    assert {path.name for path in users} == {"ultralytics.py"}
    project = (Path(root).parent / "pyproject.toml").read_text()
    assert '"ultralytics' not in project


# --- DeepLabCut ---------------------------------------------------------------------------------


def deeplabcut_run(module, path, epochs, seed=0, snapshot=None):
    torch.manual_seed(0)
    model = HeatmapToy(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with module.adversarial_training(adversary(seed)) as ours:
        runner = stand_ins.build_training_runner(model, optimizer, snapshot_path=snapshot)
    runner.fit(epochs, path)
    return runner, ours


def test_deeplabcut_resumes_to_the_bit_logs_and_evaluates_pictures_as_they_are(
    integration, tmp_path
):
    module = integration("deeplabcut")
    whole, ours = deeplabcut_run(module, tmp_path / "whole.pt", 4)
    deeplabcut_run(module, tmp_path / "part.pt", 2)
    resumed, theirs = deeplabcut_run(
        module, tmp_path / "end.pt", 2, seed=9, snapshot=tmp_path / "part.pt"
    )
    assert differences(whole.model.state_dict(), resumed.model.state_dict()) == []
    assert differences(ours.state_dict(), theirs.state_dict()) == []
    assert whole.logged[-1]["adversary/beta"] == pytest.approx(ours.report.read()["beta"])
    assert torch.equal(whole.seen[0], stand_ins.animals(99)["image"])
    assert ours._calls == 8


def test_deeplabcuts_runner_is_its_own_again_also_after_an_exception(integration):
    module = integration("deeplabcut")
    held = sys.modules["deeplabcut.pose_estimation_pytorch.runners.train"]
    with module.adversarial_training():
        assert held.PoseTrainingRunner is not stand_ins.PoseTrainingRunner
        assert issubclass(held.PoseTrainingRunner, stand_ins.PoseTrainingRunner)
    with pytest.raises(ZeroDivisionError), module.adversarial_training():
        1 / 0  # noqa: B018
    assert held.PoseTrainingRunner is stand_ins.PoseTrainingRunner


# --- mmengine -----------------------------------------------------------------------------------


PIXELS = PixelSpec.from_255([120, 110, 100], [60, 60, 60])


def mm_run(module, epochs, seed=0, resume_from=None):
    hook = module.AdversaryHook(adversary(seed, PIXELS), interval=2)
    runner = stand_ins.Runner(hook, epochs, resume_from)
    runner.train()
    return runner


def test_mmengine_resumes_to_the_bit_logs_and_validates_pictures_as_they_are(integration, tmp_path):
    module = integration("mmengine")
    whole = mm_run(module, 4)
    mm_run(module, 2).save(tmp_path / "two.pth")
    resumed = mm_run(module, 4, seed=9, resume_from=tmp_path / "two.pth")
    assert differences(whole.model.state_dict(), resumed.model.state_dict()) == []
    ours, theirs = whole.hook.adversary, resumed.hook.adversary
    assert differences(ours.state_dict(), theirs.state_dict()) == []
    beta = ours.report.read()["beta"]
    assert whole.logged["train/adversary/beta"] == pytest.approx(beta)
    expected = whole.model.data_preprocessor(stand_ins.crops(99), False)["inputs"]
    assert torch.equal(whole.model.seen[0], expected)
    assert ours._calls == 8
    assert not whole.model._forward_pre_hooks


def test_mmengine_takes_no_adversary_from_weights_of_another_run(integration, tmp_path):
    module = integration("mmengine")
    mm_run(module, 1).save(tmp_path / "one.pth")
    runner = stand_ins.Runner(module.AdversaryHook(), 1)
    runner.load(torch.load(tmp_path / "one.pth", weights_only=True))
    runner.train()
    assert runner.hook.adversary._calls == 2
    assert runner.hook.adversary.pixels == PIXELS


def test_mmposes_samples_give_people_or_heatmaps_and_never_pixels_before_the_crop(integration):
    landmarks_of = integration("mmengine").landmarks_of
    inputs = torch.zeros(4, 3, 32, 32)
    people = landmarks_of(inputs, stand_ins.crops(0)["data_samples"])
    assert torch.equal(people[1][0, :, :2], pictures(4)[1][1])
    assert people[1].shape == (1, 3, 3)
    maps = heatmap_batch(4)[1]

    class Fields(dict):
        heatmaps = property(lambda self: self["heatmaps"])

    samples = [
        stand_ins.Sample(gt_instances={"keypoints": 0}, gt_fields=Fields(heatmaps=m)) for m in maps
    ]
    assert torch.equal(landmarks_of(inputs, samples), maps)
    with pytest.raises(ValueError, match=r"got \['keypoints'\]. .*pack_transformed=True"):
        landmarks_of(inputs, [stand_ins.Sample(gt_instances={"keypoints": 0})])
    assert landmarks_of(inputs) is None


def test_mmengine_without_a_preprocessors_mean_asks_for_an_adversary(integration):
    runner = stand_ins.Runner(integration("mmengine").AdversaryHook(), 1)
    runner.model.data_preprocessor = nn.Identity()
    with pytest.raises(ValueError, match="`adversary` must be given .* a Identity has none"):
        runner.train()
    given = SampleAdaptiveAdversary(pixels=PIXELS)
    runner = stand_ins.Runner(integration("mmengine").AdversaryHook(given), 1)
    runner.model.data_preprocessor.mean = None
    runner.hook.before_train(runner)
    assert runner.hook.adversary.pixels == PIXELS


def test_mmposes_samples_without_points_can_be_given_a_target(integration, monkeypatch):
    def batch(seed):
        images, points = pictures(4, seed=seed)
        samples = [stand_ins.Sample(gt_instances={"xy": each}, gt_fields=None) for each in points]
        return {"inputs": list((255 * images).byte()), "data_samples": samples}

    def points_of(inputs, data_samples=None, mode="tensor"):
        return torch.stack([sample.gt_instances["xy"] for sample in data_samples])

    module = integration("mmengine")
    monkeypatch.setattr(stand_ins, "crops", batch)
    runner = stand_ins.Runner(module.AdversaryHook(adversary(pixels=PIXELS)), 1)
    with pytest.raises(ValueError, match="or pass `target=`"):
        runner.train()
    hook = module.AdversaryHook(adversary(pixels=PIXELS), target=points_of)
    stand_ins.Runner(hook, 1).train()
    assert hook.adversary._calls == 2


# --- sleap-nn and lightning-pose: batches on our Lightning callback -----------------------------


def sleap_batch(**more):
    images, points = pictures(4)
    return {"image": (255 * images[:, None]).byte(), "instances": points[:, None, None], **more}


def test_sleap_frames_go_on_as_floats_of_255_and_keep_their_shape():
    pytest.importorskip("lightning.pytorch")
    from advaug.integrations.sleap_nn import SleapAdversaryCallback

    ours = adversary(pixels=PixelSpec.from_255())
    batch = sleap_batch()
    before = batch["image"].clone()
    after = SleapAdversaryCallback(ours).augmented(batch)
    assert torch.equal(batch["image"], before)
    assert after["image"].shape == before.shape
    kept = ~ours.attacked
    assert torch.equal(after["image"][kept], before[kept].float())
    assert after["image"].max() > 1  # sleap-nn divides by 255 what is above 1
    assert ours.attacked.any()


@pytest.mark.parametrize("name", ["confidence_maps", "centroids_confidence_maps", "nothing"])
def test_sleap_batches_without_instances_are_read_from_their_maps(name):
    pytest.importorskip("lightning.pytorch")
    from advaug.integrations.sleap_nn import SleapAdversaryCallback

    batch = sleap_batch(**{name: heatmap_batch(4)[1][:, None]})
    del batch["instances"]
    ours = adversary(pixels=PixelSpec.from_255())
    SleapAdversaryCallback(ours).augmented(batch)
    assert ours.attacked is not None


def test_sleap_crops_are_attacked_instead_of_the_frame():
    pytest.importorskip("lightning.pytorch")
    from advaug.integrations.sleap_nn import SleapAdversaryCallback

    frame = sleap_batch()
    batch = {**frame, "instance_image": frame["image"], "instance": frame["instances"][:, 0]}
    after = SleapAdversaryCallback(adversary(pixels=PixelSpec.from_255())).augmented(batch)
    assert after["image"] is batch["image"]
    assert after["instance_image"].is_floating_point()


def lightning_pose_batch(images, points):
    return {"images": images, "keypoints": points.flatten(1), "idxs": torch.arange(len(images))}


def test_lightning_pose_attacks_labelled_frames_only():
    pytest.importorskip("lightning.pytorch")
    from advaug.integrations.lightning_pose import LightningPoseAdversaryCallback

    ours = adversary()
    callback = LightningPoseAdversaryCallback(ours)
    images, points = pictures(4)
    points[0, 1] = torch.nan
    labelled, unlabelled = lightning_pose_batch(images, points), {"frames": images}
    after = callback.augmented({"labeled": labelled, "unlabeled": unlabelled})
    assert after["unlabeled"] is unlabelled
    assert torch.equal(after["labeled"]["images"][~ours.attacked], images[~ours.attacked])
    assert not torch.equal(after["labeled"]["images"], images)
    assert labelled["images"] is images


def test_lightning_pose_attacks_every_view_and_the_middle_of_a_context():
    pytest.importorskip("lightning.pytorch")
    from advaug.integrations.lightning_pose import LightningPoseAdversaryCallback

    callback = LightningPoseAdversaryCallback(adversary())
    images, points = pictures(4)
    views = lightning_pose_batch(images.view(2, 2, 3, 32, 32), points.view(2, -1))
    after = callback.augmented({**views, "num_views": torch.tensor([2, 2])})["images"]
    assert after.shape == (2, 2, 3, 32, 32)
    assert not torch.equal(after[:, 1], views["images"][:, 1])
    callback = LightningPoseAdversaryCallback(adversary())
    frames = images[:, None].repeat(1, 5, 1, 1, 1)
    after = callback.augmented(lightning_pose_batch(frames, points))["images"]
    changed = [not torch.equal(after[:, n], images) for n in range(5)]
    assert changed == [False, False, True, False, False]
    with pytest.raises(ValueError, match=r"must be \(B, 3, H, W\), or with one more axis"):
        callback.augmented({"images": images.view(2, 2, 1, 3, 32, 32), "keypoints": points})


# --- mmpose's own data samples ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["people", "heatmaps"])
def test_mmposes_own_samples_are_read(kind):
    structures = pytest.importorskip("mmpose.structures")
    parts = pytest.importorskip("mmengine.structures")
    from advaug.integrations.mmengine import landmarks_of

    (points,), (maps,) = pictures(1)[1], heatmap_batch(1)[1]
    sample = structures.PoseDataSample()
    sample.gt_instances = parts.InstanceData()
    if kind == "people":
        sample.gt_instances.transformed_keypoints = points[None].numpy()
        sample.gt_instances.keypoints_visible = torch.ones(1, 3, 2).numpy()
        (found,) = landmarks_of(torch.zeros(1, 3, 32, 32), [sample])
        assert torch.equal(found[0, :, :2], points)
    else:
        sample.gt_fields = parts.PixelData(heatmaps=maps)
        assert torch.equal(landmarks_of(torch.zeros(1, 3, 32, 32), [sample])[0], maps)
