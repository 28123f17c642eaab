"""The study: equal budgets, exact resume, folders that are shared and never mixed, fair tables."""

import importlib
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from filelock import FileLock
from lab.codecs import HeatmapCodec
from lab.problem import Problem
from lab.study import Arm, Over, Together, parse_variant
from lab.study.benchmark import corruption_conditions, hold_conditions
from lab.study.cost import Costs
from lab.study.own import CHANGES, ChangedAugmentation
from lab.study.report import MEASURES, Row, _robustness, write_report
from lab.study.results import paired, read_results
from lab.study.runs import Study
from lab.trainer import Trainer, TrainingConfig
from safetensors.torch import load_file
from scipy.stats import ttest_rel
from torch import nn
from toys import tiny_adversary, tiny_attacker

from advaug import CoordinateTask, HeatmapTask
from advaug.augment.corruptions import CORRUPTIONS, corrupt
from advaug.baselines import AdvMix, SecondCopy
from advaug.datasets import SyntheticFaces
from advaug.detectors import HourglassNet
from advaug.schemes import FACE_68
from advaug.training import InMemoryLandmarks

study = importlib.import_module("study")  # of the folder `examples`
TINY = (
    *("--detector", "tiny", "--image-size", "32", "--steps", "6", "--batch-size", "4"),
    *("--pictures", "12", "5", "--severities", "3", "--threads", "1", "--workers", "0"),
    *("--device", "cpu"),
)


def words(output, *more, arms=("plain", "second-copy"), seeds=(0,)):
    return [*TINY, "--output", str(output), "--arms", *arms, "--seeds", *map(str, seeds), *more]


def begin(finished, output):
    """A folder of the same study that has no run yet, but test pictures and prices."""
    for name in ("settings.json", "costs.json"):
        shutil.copy(finished / name, output)
    shutil.copytree(finished / "pictures", output / "pictures")


def numbers(output):
    """Everything in the results that does not depend on the clock."""
    found = read_results(output)
    return [{name: value for name, value in each.items() if name != "seconds"} for each in found]


@pytest.fixture(autouse=True)
def _threads():
    """`--threads` is for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of three arms and three seeds at both budgets, trained without a stop."""
    output = tmp_path_factory.mktemp("study") / "whole"
    arms = ("plain", "second-copy", "saat+erasing")
    assert study.main(words(output, "--budget", "both", arms=arms, seeds=(0, 1, 2))) == 0
    return output


def test_every_run_gives_one_whole_json(finished):
    results = read_results(finished)
    costs = json.loads((finished / "costs.json").read_text())
    dearest = costs["arms"]["saat+erasing"]["ratio"]
    assert costs["factor"] == dearest > costs["arms"]["second-copy"]["ratio"] > 1
    wanted = {
        (arm, steps, seed)
        for arm in ("plain", "second-copy", "saat+erasing")
        for steps in (6, max(1, round(6 * dearest / costs["arms"][arm]["ratio"])))
        for seed in (0, 1, 2)
    }
    assert {(each["arm"], each["steps"], each["seed"]) for each in results} == wanted
    for each in results:
        nme = each["nme"]
        assert set(nme["kinds"]) == set(CORRUPTIONS)
        kinds = [value for row in nme["kinds"].values() for value in row.values()]
        assert nme["corrupted"] == pytest.approx(np.mean(kinds))
        assert nme["worst"] == max(kinds) == nme["kinds"][nme["worst_kind"]]["3"]
        assert {"clean", "masked", "occluded"} < set(nme)
        assert each["seconds"]["steps_timed"] == each["steps"]
        assert each["seconds"]["wall_per_step"] > 0
        assert each["seconds"]["measured"] == costs["arms"][each["arm"]]
        assert each["curves"][-1]["step"] == each["steps"]
        assert (each["report"] is not None) == (each["arm"] == "saat+erasing")
        assert each["settings"]["steps"] == 6
        assert each["versions"]["torch"]


def test_the_dearest_arm_serves_both_budgets_with_one_run(finished):
    assert {each["steps"] for each in read_results(finished) if each["arm"] == "saat+erasing"} == {
        6
    }


def test_arms_of_a_seed_start_alike_and_seeds_differ(finished):
    first = {
        (each["arm"], each["seed"]): each["curves"][0]["loss"]
        for each in read_results(finished)
        if each["steps"] == 6
    }
    assert first["second-copy", 0] > first["plain", 0]  # the same, and a positive one on top
    assert len({first["plain", seed] for seed in (0, 1, 2)}) == 3


def test_the_report_shows_every_arm(finished, capsys):
    assert study.main(["report", "--output", str(finished), "--control", "second-copy"]) == 0
    text = capsys.readouterr().out
    assert (finished / "report.md").read_text() in text
    for title in ("At an equal number of steps", "At equal time", "Against second-copy"):
        assert title in text
    assert len(re.findall(r"^\| saat\+erasing \| 3 \|", text, re.MULTILINE)) == 2
    assert "Fewer than" not in text
    for name in ("robustness.png", "gallery.png"):
        assert (finished / name).stat().st_size > 10_000


def test_what_is_finished_is_not_trained_again(finished, monkeypatch):
    before = numbers(finished)
    monkeypatch.setattr(Study, "_train", lambda *_: pytest.fail("trained again"))
    assert study.main(words(finished, seeds=(0, 1, 2))) == 0
    assert numbers(finished) == before


def test_a_run_killed_anywhere_ends_with_the_same_numbers(finished, tmp_path, monkeypatch):
    begin(finished, tmp_path)
    arms, wanted = ("plain", "saat+erasing"), random.Random().randrange(12)
    step, taken = Trainer.step, []

    def stopping(trainer, number):
        if trainer.output.name == "seed_1":  # not while the price is measured
            taken.append(number)
            if len(taken) == wanted + 1:
                raise KeyboardInterrupt
        return step(trainer, number)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        study.main(words(tmp_path, arms=arms, seeds=(1,)))
    assert study.main(words(tmp_path, arms=arms, seeds=(1,))) == 0
    assert 13 <= len(taken) <= 14  # all twelve, and those after the last checkpoint
    expected = [each for each in numbers(finished) if each["seed"] == 1 and each["steps"] == 6]
    assert numbers(tmp_path) == [each for each in expected if each["arm"] in arms], wanted


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    """A study whose runs have eight steps of plain training behind them."""
    output = tmp_path_factory.mktemp("study") / "ahead"
    assert study.main(words(output, "--head-start", "8")) == 0
    return output


def test_all_arms_of_a_seed_go_on_from_one_head_start(ahead, finished, tmp_path, monkeypatch):
    shutil.copytree(ahead, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "runs")
    weights = load_file(tmp_path / "head_start" / "seed_0" / "detector.safetensors")
    fit, begun = Trainer.fit, []

    def watched(trainer, **options):
        begun.append({key: value.clone() for key, value in trainer.detector.state_dict().items()})
        return fit(trainer, **options)

    monkeypatch.setattr(Trainer, "fit", watched)
    assert study.main(words(tmp_path, "--head-start", "8")) == 0
    assert len(begun) == 2  # the arms: what is there is not trained again
    assert all(torch.equal(start[key], weights[key]) for start in begun for key in weights)
    assert numbers(tmp_path) == numbers(ahead)
    fresh = {each["arm"]: each["curves"][0]["loss"] for each in reversed(read_results(finished))}
    for each in read_results(ahead):
        assert each["settings"]["head_start"] == 8
        assert each["curves"][0]["loss"] < fresh[each["arm"]]


def test_a_head_start_killed_anywhere_ends_with_the_same_numbers(ahead, tmp_path, monkeypatch):
    begin(ahead, tmp_path)
    wanted, step = random.Random().randrange(8), Trainer.step

    def stopping(trainer, number):
        if number == wanted:
            raise KeyboardInterrupt
        return step(trainer, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            study.main(words(tmp_path, "--head-start", "8"))
    assert not list(tmp_path.rglob("detector.safetensors"))
    assert study.main(words(tmp_path, "--head-start", "8")) == 0
    assert study.main(words(tmp_path)) == 2  # never mixed with runs from fresh weights
    assert numbers(tmp_path) == numbers(ahead), wanted
    assert {path.name for path in (tmp_path / "head_start" / "seed_0").iterdir()} == {
        *("detector.safetensors", "curves.json", "tensorboard", ".lock"),
    }


@pytest.mark.parametrize("content", ["", '{"arm": "plain", "nme": {"cl', '{"arm": "plain"}', "[]"])
def test_a_half_written_result_is_made_anew(finished, tmp_path, capsys, content):
    begin(finished, tmp_path)
    folder = tmp_path / "runs" / "plain" / "6_steps" / "seed_0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(content)
    assert read_results(tmp_path) == []
    assert study.main(words(tmp_path, arms=("plain",))) == 0
    assert "is not whole" in capsys.readouterr().out
    assert numbers(tmp_path) == [
        each
        for each in numbers(finished)
        if (each["arm"], each["seed"], each["steps"]) == ("plain", 0, 6)
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--steps", "7"), "steps: 6 there, 7 here"),
        (("--severities", "2"), "severities"),
        (("--head-start", "8"), "head_start"),
        (("--variant", "saat+erasing-b:beta=1.0"), "options: {'beta': 0.5} there"),
        (("--budget", "time", "--time-factor", "77"), "`--time-factor` must be that of the folder"),
    ],
    ids=["steps", "severities", "head-start", "arm", "factor"],
)
def test_a_folder_of_another_study_is_refused_and_left_alone(finished, capsys, more, message):
    arm = finished / "runs" / "saat+erasing-b"
    arm.mkdir(exist_ok=True)
    made = Arm(study.saat, {"beta": 0.5}).description()
    (arm / "arm.json").write_text(json.dumps(made))
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert study.main(words(finished, *more)) == 2
    assert message in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    locks = {path for path in after if path.name.endswith(".lock")}
    assert {p: t for p, t in after.items() if p not in locks} == {
        p: t for p, t in before.items() if p not in locks
    }


def test_a_run_that_another_process_has_is_left_to_it(finished, tmp_path, capsys):
    begin(finished, tmp_path)
    folder = tmp_path / "runs" / "plain" / "6_steps" / "seed_0"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert study.main(words(tmp_path)) == 1
    out = capsys.readouterr().out
    assert "plain, seed 0, 6 steps: another process is at it" in out
    assert "1 of 2 runs have no result yet: plain (seed 0)" in out
    assert [each["arm"] for each in read_results(tmp_path)] == ["second-copy"]
    assert study.main(words(tmp_path)) == 0
    assert len(read_results(tmp_path)) == 2


def test_two_processes_share_the_runs(finished, tmp_path):
    script = Path(study.__file__)
    command = [sys.executable, str(script), *words(tmp_path, seeds=(0, 1))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    trained = [re.findall(r"^(\S+, seed \d, 6 steps): NME", out, re.MULTILINE) for out in outputs]
    runs = [f"{arm}, seed {seed}, 6 steps" for arm in ("plain", "second-copy") for seed in (0, 1)]
    assert sorted(trained[0] + trained[1]) == sorted(runs)  # each of them once
    assert 0 in [process.returncode for process in both]
    expected = [each for each in numbers(finished) if each["seed"] < 2 and each["steps"] == 6]
    assert numbers(tmp_path) == [each for each in expected if each["arm"] != "saat+erasing"]


def test_an_arm_that_fails_stops_no_other(finished, tmp_path, capsys, monkeypatch):
    begin(finished, tmp_path)
    step = Trainer.step

    def failing(trainer, number):
        if trainer.adversary is None:
            raise torch.OutOfMemoryError("no memory left")
        return step(trainer, number)

    monkeypatch.setattr(Trainer, "step", failing)
    assert study.main(words(tmp_path)) == 1
    assert "plain, seed 0, 6 steps: failed (OutOfMemoryError: no" in capsys.readouterr().out
    assert [each["arm"] for each in read_results(tmp_path)] == ["second-copy"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--arms", "saat", "second-cpoy"), "Did you mean 'second-copy'?"),
        (("--variant", "a:beta"), "options as option=value"),
        (("--variant", "a:beta=f(1)"), "options as option=value"),
        (("--variant", "plain:beta=1"), "with a new name"),
        (("--variant", "../a:beta=1"), "with a new name"),
        (("--variant", "a:base=sat,beta=1"), "must be among plain"),
        (("--variant", "a:betta=1"), "the options of arm 'a' must be"),
        (("--variant", "a:relaxation=-1"), "`relaxation` must"),
        (("--variant", "a:over=odd"), "`over` must be one of erasing"),
        (("--variant", "a:base=erasing,kind=odd"), "`kind` must be one of erasing"),
        (("--image-size", "40"), "divisible by"),
        (("--steps", "0"), "`--steps` must be at least 1"),
        (("--head-start", "-1"), "`--head-start` must be at least 0"),
        (("--pictures", "0", "3"), "`--pictures` must be at least 1"),
        (("--severities", "6"), "`severity` must be from 1 to 5"),
        (("--data", "pts"), "`--root` must name"),
        (("--budget", "time", "--time-factor", "0"), "`--time-factor` must be above 0"),
        (("report",), "there are results of: none"),
    ],
)
def test_bad_words_are_refused_before_anything_is_written(tmp_path, capsys, more, message):
    output = tmp_path / "never"
    first = more if more == ("report",) else ()
    rest = () if first else more
    assert study.main([*first, *words(output), *rest]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_variant_changes_some_options_of_an_arm():
    arms = {"saat": Arm(study.saat, {"beta": 1.0}), "pgd": Arm(study.PGD, {"steps": 3})}
    line = "a.b-1:beta=semantic,target=0.8,structure=False,discriminator=None"
    name, arm = parse_variant(line, arms)
    assert name == "a.b-1"
    assert arm.make is study.saat
    assert arm.options == {
        "beta": "semantic",
        "target": 0.8,
        "structure": False,
        "discriminator": None,
    }
    assert parse_variant("b:base=pgd,epsilon=2e-2", arms)[1].options == {
        "steps": 3,
        "epsilon": 0.02,
    }


@pytest.mark.parametrize("task", [HeatmapTask(), CoordinateTask()], ids=["heatmap", "coordinate"])
def test_every_arm_can_be_built(task):
    for name, arm in study.ARMS.items():
        defence = arm.make(task, 0, **arm.options)
        assert (defence is None) == name.startswith("plain")
        json.dumps(arm.description())


def made_up(output, values, *, steps=6):
    """Results with these numbers: `{arm: {seed: percent}}`."""
    (output / "settings.json").write_text(json.dumps({"steps": steps}))
    for arm, by_seed in values.items():
        for seed, value in by_seed.items():
            folder = output / "runs" / arm / f"{steps}_steps" / f"seed_{seed}"
            folder.mkdir(parents=True)
            nme = dict.fromkeys(MEASURES, value / 100)
            nme |= {"worst_kind": "fog", "kinds": {"fog": {"3": value / 100}}}
            result = {"arm": arm, "seed": seed, "steps": steps, "nme": nme, "seconds": {}}
            (folder / "result.json").write_text(json.dumps(result))


def test_the_paired_test_is_the_one_of_the_textbook(tmp_path):
    made_up(tmp_path, {"plain": {0: 10, 1: 12, 2: 11, 7: 5}, "new": {0: 9, 1: 10, 2: 8, 4: 1}})
    text = write_report(tmp_path, control="plain")
    # Differences -1, -2, -3: mean -2, standard deviation 1, t = -2 sqrt(3), two degrees of freedom.
    # Its distribution function is known there: p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14).
    assert "| new | clean | -2.00 | -21.1 % | 0.0742 | -1.00, -2.00, -3.00 |" in text
    found = paired({0: 9, 1: 10, 2: 8, 4: 1}, {0: 10, 1: 12, 2: 11, 7: 5})
    assert found.p == pytest.approx(1 - (12 / 14) ** 0.5)
    assert found.p == pytest.approx(ttest_rel([9, 10, 8], [10, 12, 11]).pvalue)
    assert "| plain | 4 | 6 | nan | 9.50 ± 3.11 |" in text


def test_fewer_than_three_seeds_are_said_to_be(tmp_path):
    made_up(tmp_path, {"plain": {0: 10, 1: 12, 2: 11}, "two": {0: 9, 1: 10}, "one": {2: 9}})
    text = write_report(tmp_path, control="plain", order=("two", "plain"))
    assert "**Fewer than 3 seeds** (no conclusion): one, two." in text
    assert "| two | 2 (few) | 6 | nan | 9.50 ± 0.71 |" in text
    assert "| one | 1 (few) | 6 | nan | 9.00 ± – |" in text
    assert "| one | clean | -2.00 | -18.2 % | – (few seeds) | -2.00 |" in text
    assert text.index("| two |") < text.index("| plain |") < text.index("| one |")


def test_differences_without_a_spread_have_an_answer():
    same = {0: 1.0, 1: 2.0}
    assert paired(same, same).p == 1
    assert paired({0: 2.0, 1: 3.0}, same).p == 0
    assert paired({5: 1.0}, same) is None


def test_equal_time_gives_the_dear_arm_fewer_steps():
    costs = Costs(arms={"plain": {"ratio": 1.0}, "dear": {"ratio": 4.0}}, factor=4.0)
    assert (costs.steps("plain", 100), costs.steps("dear", 100)) == (400, 100)


@pytest.fixture(scope="module")
def faces():
    return InMemoryLandmarks(SyntheticFaces(5, image_size=32), workers=0)


def test_held_pictures_are_the_benchmarks_to_half_a_level(faces, tmp_path):
    wanted = corruption_conditions((2,), faces=True)
    assert set(wanted) == {(kind, 2) for kind in CORRUPTIONS}
    assert ("mask", 2) not in corruption_conditions((2,), faces=False)
    named = {f"{kind}/2": wanted[kind, 2] for kind in ("shot_noise", "sunglasses")}
    held = hold_conditions(named, faces, tmp_path)
    batch, some = faces[slice(None)], torch.tensor([3, 1])
    for kind in ("shot_noise", "sunglasses"):
        seeds = torch.arange(5)
        whole = corrupt(batch.images, kind, 2, seeds=seeds, landmarks=batch.landmarks)
        found = held[f"{kind}/2"](batch.images[some], batch.landmarks[some], some)
        torch.testing.assert_close(found, whole[some], rtol=0, atol=0.5001 / 255)


def test_held_pictures_are_made_once(faces, tmp_path):
    calls = []

    def condition(images, landmarks, numbers):
        calls.append(len(images))
        return 1 - images

    for _ in range(2):
        held = hold_conditions({"negative": condition}, faces, tmp_path)
    assert calls == [5]
    batch = faces[slice(None)]
    torch.testing.assert_close(
        held["negative"](batch.images, None, torch.arange(5)), 1 - batch.images
    )


def test_fewer_pictures_are_spread_over_all():
    problem = Problem(list(range(10)), list(range(3)), FACE_68, {}, None, "")
    thin = problem.thinned((4, 7))
    assert list(thin.train) == [0, 2, 5, 7]
    assert list(thin.test) == [0, 1, 2]
    assert problem.thinned(None) is problem


class Watching(nn.Module):
    """A defence that remembers what it was given."""

    def forward(self, detector, images, target):
        self.images, self.heatmaps = images, target[0]
        return 0 * images.sum()


def trainer(faces, output, adversary, **options):
    config = options.pop("config", TrainingConfig(steps=2, batch_size=4))
    return Trainer(
        HourglassNet(68, width=8, depth=2, out_stride=4),
        HeatmapCodec(4),
        faces,
        config,
        output,
        augmentation=ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation),
        adversary=adversary,
        accelerator=Accelerator(cpu=True),
        **options,
    )


def test_a_defence_may_see_the_pictures_from_before_the_augmentation(faces, tmp_path):
    batch = faces.batch(0, 4)
    for sees in ("augmented", "original"):
        defence = Watching()
        trainer(faces, tmp_path, defence, adversary_sees=sees).step(0)
        assert torch.equal(defence.images, batch.images) == (sees == "original")
        truth = HeatmapCodec(4).encode(batch.landmarks, batch.visible, batch.size)[0]
        assert torch.equal(defence.heatmaps, truth) == (sees == "original")


def test_a_defence_may_see_the_same_pictures_augmented_anew(faces, tmp_path):
    defence = Watching()
    run = trainer(faces, tmp_path, defence, adversary_sees="again")
    learned = []
    run.detector.register_forward_pre_hook(lambda _, given: learned.append(given[0]))
    run.step(0)
    batch, augmentation = (
        faces.batch(0, 4),
        ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation),
    )
    labels = (batch.landmarks, batch.visible)
    first, second = (augmentation(batch.images, labels) for _ in range(2))
    assert torch.equal(learned[0], first[0])
    assert torch.equal(defence.images, second[0])
    truth = HeatmapCodec(4).encode(*second[1], batch.size)[0]
    assert torch.equal(defence.heatmaps, truth)


def test_a_defence_may_take_half_of_each_batch(faces, tmp_path):
    defence = Watching()
    run = trainer(faces, tmp_path, defence, adversary_sees="rest")
    learned = []
    run.detector.register_forward_pre_hook(lambda _, given: learned.append(given[0]))
    run.step(0)
    batch = faces.batch(0, 4)
    augmentation = ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation)
    first, second = (
        augmentation(part.images, (part.landmarks, part.visible)) for part in (batch[:2], batch[2:])
    )
    assert torch.equal(learned[0], first[0])
    assert torch.equal(defence.images, second[0])
    assert torch.equal(defence.heatmaps, HeatmapCodec(4).encode(*second[1], batch.size)[0])
    alone = TrainingConfig(steps=2, batch_size=1)
    with pytest.raises(ValueError, match="`batch_size` must be at least 2 for a batch to"):
        trainer(faces, tmp_path, defence, adversary_sees="rest", config=alone)


def test_all_rates_of_a_defence_decay_with_the_detectors(faces, tmp_path):
    config = TrainingConfig(steps=2, batch_size=4, decay=0.5)
    for defence, count in (
        (SecondCopy.erasing(HeatmapTask()), 1),
        (AdvMix(HeatmapTask()), 2),
        (Together(tiny_adversary(), SecondCopy.erasing(HeatmapTask())), 3),
    ):
        assert len(trainer(faces, tmp_path, defence, config=config).schedulers) == count


@pytest.mark.parametrize("change", CHANGES)
def test_half_of_the_own_pictures_are_changed_and_the_state_resumes(change):
    augmentation = ChangedAugmentation(
        change, flip=0, rotation=0, scale=(1, 1), translation=0, brightness=0, contrast=(1, 1),
        saturation=(1, 1), hue=0,
    )  # fmt: skip
    images = torch.full((200, 3, 32, 32), 0.5)
    landmarks = torch.full((200, 1, 2), 9.0)
    state = augmentation.state_dict()
    changed, moved = augmentation(images, landmarks)
    assert torch.equal(moved, landmarks)
    assert 70 < (changed != images).flatten(1).any(dim=1).sum() < 130
    augmentation.load_state_dict(state)
    assert torch.equal(augmentation(images, landmarks)[0], changed)


def test_an_attack_over_another_augmentation_starts_from_its_pictures(faces):
    batch = faces[slice(None)]
    target = HeatmapCodec(4).encode(batch.landmarks, batch.visible, batch.size)
    detector = HourglassNet(68, width=8, depth=2, out_stride=4)
    change = SecondCopy.erasing(HeatmapTask()).transform
    torch.manual_seed(0)
    changed, _ = change(batch.images, target)
    first, second = (tiny_adversary(attacker=tiny_attacker(), seed=1) for _ in range(2))
    second.load_state_dict(first.state_dict())
    expected = first(detector, changed, target)
    torch.manual_seed(0)
    over = Over(change, second)
    assert torch.equal(over(detector, batch.images, target), expected)
    assert over.report.read() == first.report.read()


def test_defences_together_add_up(faces):
    batch = faces[slice(None)]
    target = HeatmapCodec(4).encode(batch.landmarks, batch.visible, batch.size)
    detector = HourglassNet(68, width=8, depth=2, out_stride=4)

    def make():
        torch.manual_seed(0)
        return tiny_adversary(seed=1), SecondCopy.erasing(HeatmapTask(), weight=0.4, seed=1)

    first, second = (each(detector, batch.images, target) for each in make())
    both = Together(*make())
    assert both(detector, batch.images, target).item() == pytest.approx((first + second).item())
    assert both.report is not None


def test_the_plot_tells_arms_apart_by_the_cost_of_a_step():
    """At equal time all runs cost the same, and the axis would show what rounding left."""
    nme = {"clean": 0.05, "masked": 0.1, "corrupted": 0.08}
    rows = [
        Row(arm, {0: {"nme": nme}}, round(300 / cost), cost)
        for arm, cost in (("plain", 1.0), ("dear", 2.5))
    ]
    figure = _robustness({"time": rows})
    for axes in figure.axes:
        points = [drawn.lines[0] for drawn in axes.containers]
        assert [point.get_xdata()[0] for point in points] == [1.0, 2.5]
        assert {point.get_marker() for point in points} == {"s"}
