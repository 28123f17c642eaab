"""The trainer: batches by step number, exact resume, honest output folders."""

import argparse
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from lab.arguments import PAPER, Experiment, Recipe, add_arguments, experiment_from
from lab.codecs import HeatmapCodec
from lab.experiment import claim, trainer_for
from lab.problem import Problem
from lab.trainer import Trainer, TrainingConfig

from advaug import HeatmapTask, SampleAdaptiveAdversary, decode_heatmaps
from advaug.augment import HandcraftedAugmentation
from advaug.datasets import LandmarkSample
from advaug.detectors import HourglassNet
from advaug.evaluation.evaluate import evaluate
from advaug.schemes import FACE_68
from advaug.training import InMemoryLandmarks
from advaug.training.loading import Batch

SIDE = 32
SMALL = Recipe(steps=7, batch_size=3, image_size=SIDE, learning_rate=1e-3)


def samples(count):
    generator = torch.Generator().manual_seed(0)
    return [
        LandmarkSample(
            (torch.rand(3, SIDE, SIDE, generator=generator) * 255).round() / 255,
            torch.rand(68, 2, generator=generator) * (SIDE - 1),
            torch.ones(68, dtype=torch.bool),
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def pictures():
    return InMemoryLandmarks(samples(10), workers=0)


def test_mean_shape_counts_what_is_visible_alone():
    visible = torch.rand(4, 68, generator=torch.Generator().manual_seed(0)) < 0.7
    visible[:, 0] = False  # in no picture
    visible[0, 1:] = True
    shown = [sample._replace(visible=row) for sample, row in zip(samples(4), visible, strict=True)]
    found = InMemoryLandmarks(shown, workers=0).mean_shape()
    for k in range(1, 68):
        seen = [sample.landmarks[k] for sample in shown if sample.visible[k]]
        torch.testing.assert_close(found[k], torch.stack(seen).mean(dim=0))
    everything = torch.cat([sample.landmarks[sample.visible] for sample in shown])
    torch.testing.assert_close(found[0], everything.mean(dim=0))


def trainer(pictures, output, *, saat=True, steps=4, accumulate=1, **settings):
    torch.manual_seed(0)
    return Trainer(
        HourglassNet(68, width=8, depth=2, out_stride=4),
        HeatmapCodec(4),
        pictures,
        TrainingConfig(steps=steps, batch_size=4, checkpoint_every=2, log_every=1, **settings),
        output,
        augmentation=HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation),
        adversary=SampleAdaptiveAdversary(HeatmapTask()) if saat else None,
        accelerator=Accelerator(cpu=True, gradient_accumulation_steps=accumulate),
    )


@pytest.mark.parametrize("saat", [False, True])
def test_accumulation_takes_several_batches_a_step_and_one_step_for_them(pictures, tmp_path, saat):
    run = trainer(pictures, tmp_path, saat=saat, accumulate=3)
    numbers, steps = [], []
    batch, inner = run.data.batch, run.optimizer.optimizer
    inner.register_step_post_hook(lambda *_: steps.append(len(numbers)))
    run.data = SimpleNamespace(batch=lambda n, *a, **k: numbers.append(n) or batch(n, *a, **k))
    run.fit()
    assert numbers == list(range(4 * 3))
    assert steps == [3, 6, 9, 12]


def test_an_accumulated_gradient_is_the_mean_of_its_batches(pictures, tmp_path):
    gradients = {}
    for count in (1, 2):
        run = trainer(pictures, tmp_path, saat=False, accumulate=count, steps=1)
        run.augmentation = None
        if count == 1:  # both batches at once
            batches = [run.data.batch(n, 4, seed=0) for n in range(2)]
            names = ("images", "landmarks", "visible")
            whole = Batch(*(torch.cat([getattr(b, name) for b in batches]) for name in names))
            run.data = SimpleNamespace(batch=lambda *_, whole=whole, **__: whole)
        run.detector.eval()  # no statistics of each batch

        def keep(held, *_, count=count):
            gradients[count] = [p.grad.clone() for p in held.param_groups[0]["params"]]

        run.optimizer.optimizer.register_step_pre_hook(keep)
        run.step(0)
    for one, two in zip(gradients[1], gradients[2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_decay_reaches_a_second_set_of_batch_norms(pictures, tmp_path):
    run = trainer(pictures, tmp_path, decay=0.1)
    plain = len(run.schedulers)
    torch.manual_seed(0)
    split = SampleAdaptiveAdversary(HeatmapTask(), batch_norm="split")
    run = Trainer(
        HourglassNet(68, width=8, depth=2, out_stride=4),
        HeatmapCodec(4),
        pictures,
        TrainingConfig(steps=2, batch_size=4, decay=0.1),
        tmp_path,
        adversary=split,
        adversary_sees="augmented",
        accelerator=Accelerator(cpu=True),
    )
    assert len(run.schedulers) == plain + 1
    assert split.batch_norms._optimizer in [each.optimizer for each in run.schedulers]


@pytest.mark.parametrize("recipe", [SMALL, PAPER], ids=["small", "paper"])
def test_the_examples_attack_the_batch_itself_unless_they_follow_the_paper(
    pictures, tmp_path, recipe
):
    experiment = Experiment(
        data="synthetic",
        root=None,
        recipe=replace(recipe, batch_size=2, literal=False),
        seed=0,
        device="cpu",
        output=tmp_path,
        resume=False,
        arms=("saat",),
        skip_broken=False,
    )
    seen, attacked = [], []
    detector = HourglassNet(68, width=8, depth=2, out_stride=4)
    problem = Problem(pictures, pictures, FACE_68, {}, lambda *_: None, "nothing")
    run = trainer_for(experiment, "saat", lambda _: detector, HeatmapCodec(4), pictures, problem)
    run.detector.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    run.adversary.register_forward_hook(lambda _, inputs, __: attacked.append(inputs[1]))
    run.step(0)
    assert run.adversary_sees == ("augmented" if recipe is PAPER else "batch")
    if recipe is PAPER:
        assert torch.equal(seen[0], attacked[0])
    else:
        assert attacked == []  # not called: the batch goes through `augment`


def test_pictures_survive_being_kept_as_bytes(pictures):
    original = torch.stack([sample.image for sample in samples(10)])
    torch.testing.assert_close(pictures[slice(None)].images, original, rtol=0, atol=0)


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order(pictures):
    def epoch(first):
        parts = [pictures.batch(step, 5, seed=1).landmarks[:, 0, 0] for step in (first, first + 1)]
        return torch.cat(parts)

    everything = pictures.landmarks[:, 0, 0].sort().values
    assert torch.equal(epoch(0).sort().values, everything)
    assert torch.equal(epoch(2).sort().values, everything)
    assert not torch.equal(epoch(0), epoch(2))


def test_processes_share_a_step_without_overlap(pictures):
    together = pictures.batch(3, 4, seed=2).landmarks
    parts = [pictures.batch(3, 2, seed=2, process=rank, processes=2).landmarks for rank in range(2)]
    assert torch.equal(torch.cat(parts), together)


def test_a_set_smaller_than_a_batch_fills_it():
    assert InMemoryLandmarks(samples(3), workers=0).batch(0, 8).images.shape[0] == 8


@pytest.mark.parametrize("saat", [False, True], ids=["plain", "saat"])
def test_a_stopped_run_goes_on_to_the_bit(pictures, tmp_path, saat):
    whole = trainer(pictures, tmp_path / "whole", saat=saat)
    expected = whole.fit().state_dict()

    stopped = trainer(pictures, tmp_path / "stopped", saat=saat)
    step = stopped.step

    def interrupted(number):
        if number == 3:  # after the checkpoint of step 2, with a step that is lost
            raise KeyboardInterrupt
        return step(number)

    stopped.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    resumed = trainer(pictures, tmp_path / "stopped", saat=saat)
    found = resumed.fit(resume=True).state_dict()

    assert resumed.progress.history == whole.progress.history
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    if saat:
        for ours, theirs in zip(
            whole.adversary.state_dict().values(),
            resumed.adversary.state_dict().values(),
            strict=True,
        ):
            if isinstance(ours, torch.Tensor):  # a running mean that is not known yet is NaN
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_both_arms_start_from_the_same_weights_and_see_the_same_pictures(pictures, tmp_path):
    plain = trainer(pictures, tmp_path / "a", saat=False)
    saat = trainer(pictures, tmp_path / "b", saat=True)
    saat.adversary_sees = "augmented"  # the paper's call adds a loss of its own
    for one, other in zip(plain.detector.parameters(), saat.detector.parameters(), strict=True):
        assert torch.equal(one, other)
    plain.fit()
    saat.fit()
    first = [run.progress.history[0] for run in (plain, saat)]
    assert first[1]["loss"] > first[0]["loss"]  # the same loss and a positive one on top


def test_half_a_checkpoint_is_never_taken_for_one(pictures, tmp_path):
    run = trainer(pictures, tmp_path, saat=False, steps=2)
    run.fit()
    (tmp_path / "checkpoints" / "partial").mkdir()
    (tmp_path / "checkpoints" / "partial" / "model.safetensors").write_bytes(b"half")
    again = trainer(pictures, tmp_path, saat=False, steps=2)
    again.fit(resume=True)
    assert again.progress.step == 2


def test_evaluation_leaves_modes_alone_and_masks_hurt(pictures):
    detector = HourglassNet(68, width=8, depth=2)
    detector.train()
    detector.stem.eval()
    batch = pictures[slice(None)]

    def decode(output, size):
        return decode_heatmaps(output, image_size=size)

    found = evaluate(
        detector, decode, batch.images, batch.landmarks, batch.visible, normalizer="box"
    )
    assert list(found) == ["clean", "masked", "occluded"]
    assert detector.training
    assert not detector.stem.training
    summary = found["clean"].summary()
    assert set(summary) == {"nme", "failure_rate", "auc"}
    assert not torch.equal(found["clean"].values, found["occluded"].values)


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return experiment_from(parser.parse_args(words), SMALL)


def test_presets_and_flags():
    assert parsed().recipe == SMALL
    assert parsed("--preset", "paper").recipe == PAPER
    assert parsed("--preset", "paper", "--steps", "5").recipe.steps == 5
    assert PAPER.steps == 200_000
    assert (PAPER.image_size, PAPER.batch_size) == (256, 8)
    assert (PAPER.learning_rate, PAPER.decay) == (2e-4, 0.97)
    assert parsed("--no-saat").arms == ("plain",)
    assert parsed("--no-compare").arms == ("saat",)
    assert parsed().arms == ("plain", "saat")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "0"), "`--steps` must be at least 1, but got 0"),
        (("--image-size", "-4"), "`--image-size` must be at least 1"),
        (("--data", "pts"), "`--root` must name the folder"),
    ],
    ids=["steps", "size", "root"],
)
def test_arguments_that_cannot_work_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parsed(*words)


def experiment(output, **changes) -> Experiment:
    settings = {
        "data": "synthetic",
        "root": None,
        "recipe": SMALL,
        "seed": 0,
        "device": "cpu",
        "output": output,
        "resume": False,
        "arms": ("plain",),
        "skip_broken": False,
    }
    return Experiment(**(settings | changes))


def test_an_earlier_run_is_kept_aside(tmp_path, capsys):
    output = tmp_path / "run"
    claim(experiment(output))
    (output / "metrics.json").write_text("{}")
    claim(experiment(output))
    assert (tmp_path / "run.1" / "metrics.json").exists()
    assert not (output / "metrics.json").exists()
    assert "kept the earlier run" in capsys.readouterr().out


def test_resume_refuses_other_settings_and_names_them(tmp_path):
    output = tmp_path / "run"
    claim(experiment(output))
    before = (output / "settings.json").read_text()
    with pytest.raises(ValueError, match="differs in seed: 0 there, 7 here"):
        claim(experiment(output, seed=7, resume=True))
    assert (output / "settings.json").read_text() == before
    claim(experiment(output, resume=True))
    assert json.loads(before)["recipe"]["steps"] == SMALL.steps
