"""The study: people kept apart, equal time, whole ends, exact resumes, processes that die."""

import importlib
import shutil
import time

import numpy as np
import pytest
import torch
from lab.study import ARMS
from lab.study.budget import Costs, budget_of
from lab.study.conditions import condition_names, pictures_under, render
from lab.study.faces import People, hold, measured_people, real_subsets, training_people
from lab.study.learner import Learner, learning_rate
from lab.study.measure import measure
from lab.study.own import CHANGES, ChangedAugmentation
from lab.study.pool import Pool
from lab.study.results import read_result
from lab.study.settings import Run
from lab.study.study import run_study
from small_study import LONG, SEVERAL, people_root, settings_of  # noqa: F401 # a fixture

from advaug import SampleAdaptiveAdversary
from advaug.datasets.readers.pts import read_pts, write_pts
from advaug.errors import DatasetError
from advaug.evaluation.metrics import landmark_errors

study = importlib.import_module("study")  # of the folder `examples`


def test_nobody_is_trained_on_who_is_measured(root, tmp_path):
    training = training_people(settings_of(root, tmp_path))
    choosing = measured_people(settings_of(root, tmp_path, measured="choose"))
    reporting = measured_people(settings_of(root, tmp_path))
    owners = [{name.split("_")[0] for name in each.names} for each in (training, choosing)]
    assert len(owners[1]) == 2
    assert owners[0] | owners[1] == {f"train{number:02d}" for number in range(7)}
    assert not owners[0] & owners[1]
    assert {name[:3] for name in reporting.names} == {"val"}
    assert len(hold(training, "cpu")) == 5 * SEVERAL


@pytest.mark.parametrize("count", [0, 7])
def test_some_people_must_be_left_to_train_on(root, tmp_path, count):
    with pytest.raises(DatasetError, match="more people in `train` than the"):
        training_people(settings_of(root, tmp_path, choose_people=count))


def test_the_real_subsets_are_of_the_measured_pictures(root, tmp_path):
    people = measured_people(settings_of(root, tmp_path))
    subsets = real_subsets(people, hold(people, "cpu"))
    assert {name: mask.sum().item() for name, mask in subsets.items()} == {
        "large pose": 2,
        "low quality": 2,
    }


def test_too_few_pictures_have_no_subsets(root, tmp_path):
    people = measured_people(settings_of(root, tmp_path))
    few = People(people.folder, people.places[:4])
    assert real_subsets(few, hold(few, "cpu")) == {}


@pytest.fixture(scope="module")
def marked(root, tmp_path_factory):
    """The drawn faces, with negative points: the mouth is hidden, and one eye has no position."""
    folder = tmp_path_factory.mktemp("marked") / "people"
    shutil.copytree(root, folder)
    for path in sorted(folder.glob("val/*.pts"))[:3]:
        points = read_pts(path)
        points[48:] = -points[48:] - 2  # (-x, -y), counted from 1
        write_pts(path, points)
    points[36] = -2
    write_pts(path, points)
    return folder


def test_hidden_landmarks_are_measured_apart(root, marked, tmp_path):
    settings = settings_of(marked, tmp_path, negative="occluded")
    people = measured_people(settings)
    pictures, occluded = hold(people, "cpu"), people.occluded
    assert occluded.sum(dim=1).tolist() == [20, 20, 21] + [0] * 7
    plain = measured_people(settings_of(root, tmp_path))
    assert plain.occluded is None
    torch.testing.assert_close(
        pictures.landmarks[pictures.visible], hold(plain, "cpu").landmarks[pictures.visible]
    )
    data = hold(training_people(settings), "cpu")
    learner = Learner(Run("plain", 0), 5, data, settings, captured=False)
    errors = measure(learner, pictures, settings, 0.0, occluded=occluded)
    found = torch.from_numpy(errors["predictions"])
    boxes = landmark_errors(
        found, pictures.landmarks, normalizer="box", visible=pictures.visible
    ).numpy()
    np.testing.assert_allclose(errors["occluded"][0, :3], boxes[:3, 48:].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(errors["visible"][0, :2], boxes[:2, :48].mean(axis=1), rtol=1e-5)
    assert np.isnan(errors["occluded"][0, 3:]).all()
    np.testing.assert_allclose(errors["visible"][0, 3:], errors["box"][0, 3:], rtol=1e-5)
    # Whose eye has no position is turned farther than anybody else.
    assert real_subsets(people, pictures)["large pose"][2]


def test_conditions_are_rendered_once(root, tmp_path):
    settings = settings_of(root, tmp_path)
    assert pictures_under("fog/3", settings) is None
    render(settings)
    names = condition_names(settings)
    assert names[:3] == ["clean", "masked", "occluded"]
    held = {name: pictures_under(name, settings) for name in names[1:]}
    assert all(pictures.shape == (10, 3, 32, 32) for pictures in held.values())
    assert not torch.equal(held["fog/3"], held["masked"])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    render(settings)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written


def test_the_learning_rate_rises_and_falls_to_nothing():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[4] == 1.0
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.01


@pytest.mark.parametrize("arm", ARMS)
def test_a_killed_run_goes_on_to_the_same_numbers(root, tmp_path, arm):
    settings = settings_of(root, tmp_path)
    data = hold(training_people(settings), "cpu")

    def learner():
        return Learner(Run(arm, 1), 5, data, settings, captured=False)

    whole, killed, later = learner(), learner(), learner()
    losses = [whole.step().item() for _ in range(5)]
    for _ in range(2):
        killed.step()
    killed.save(tmp_path / "checkpoints")
    torch.rand(3)  # whatever happens between
    later.load(tmp_path / "checkpoints")
    assert later.done == 2
    assert [later.step().item() for _ in range(3)] == losses[2:]
    for name, value in whole.detector.state_dict().items():
        assert torch.equal(later.detector.state_dict()[name], value), name


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns(root, tmp_path, arm):
    settings = settings_of(root, tmp_path)
    data = hold(training_people(settings), "cpu")
    learner = Learner(Run(arm, 0), 2, data, settings, captured=False)
    before = [each.clone() for each in learner.detector.parameters()]
    adversary = learner.adversary
    held = [] if adversary is None else [each.clone() for each in adversary.parameters()]
    losses = [learner.step().item() for _ in range(2)]
    assert np.isfinite(losses).all()
    assert all(
        not torch.equal(old, new)
        for old, new in zip(before, learner.detector.parameters(), strict=True)
        if new.ndim == 4
    )
    learned = [] if adversary is None else list(adversary.parameters())
    assert bool(held) == isinstance(adversary, SampleAdaptiveAdversary)
    assert not held or any(
        not torch.equal(old, new) for old, new in zip(held, learned, strict=True)
    )


class Watched(torch.nn.Module):
    """A detector that remembers what it was shown."""

    def __init__(self, detector):
        super().__init__()
        self.detector, self.shown = detector, []

    def forward(self, images):
        self.shown.append(images.detach().clone())
        return self.detector(images)


def shown(arm, root, output):
    """The batches of the first step, in the order in which the detector learned from them."""
    settings = settings_of(root, output)
    data = hold(training_people(settings), "cpu")
    learner = Learner(Run(arm, 0), 2, data, settings, captured=False)
    learner.detector = Watched(learner.detector)
    learner.step()
    return learner.detector.shown


def test_each_arm_shows_as_many_pictures_as_it_says(root, tmp_path):
    first = {arm: shown(arm, root, tmp_path) for arm in ARMS}
    own = ("plain", "appearance", "erasing", "prime")
    for arm in (*own, "saat", "saat-quarter", "saat-told", "mixing"):
        assert [len(images) for images in first[arm]] == [4], arm
    assert [len(images) for images in first["saat-erasing"]] == [4]
    assert {len(images) for images in first["augmax"]} == {2}
    for arm in ("saat-geometry", "saat-adaptive", "saat-growing"):
        assert [len(images) for images in first[arm]] == [4], arm
    assert [len(images) for images in first["saat-average"]] == [2, 2]  # its own half, the attacked
    assert len(first["augmax"]) == 3  # its own half, a step of the choice, the chosen pictures
    assert len(first["geometry"]) == 5  # its own half, three draws, the hardest
    (plain,), (erased,) = first["plain"], first["saat-erasing"]
    changed = (plain != erased).flatten(1).any(dim=1)
    assert changed[:2].all()  # the first half is erased, whatever the attack does to the second
    (quarter,) = first["saat-quarter"]
    assert (plain != quarter).flatten(1).any(dim=1).sum() <= 1


def test_only_the_told_arm_is_told(root, tmp_path, monkeypatch):
    told = []
    usual = SampleAdaptiveAdversary.tell
    monkeypatch.setattr(
        SampleAdaptiveAdversary, "tell", lambda own, errors: (told.append(1), usual(own, errors))
    )
    shown("saat", root, tmp_path)
    assert told == []
    shown("saat-told", root, tmp_path)
    assert told == [1]


def can_be_replayed(arm):
    return arm not in ("augmax", "geometry") and ARMS[arm].trial is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("arm", [arm for arm in ARMS if can_be_replayed(arm)])
def test_a_replayed_run_gives_the_numbers_of_its_steps(root, tmp_path, arm, precision):
    settings = settings_of(root, tmp_path, device="cuda", precision=precision)
    data = hold(training_people(settings), "cuda")
    losses = []
    for captured in (False, True):
        learner = Learner(Run(arm, 1), 12, data, settings, captured=captured)
        losses.append([learner.step().item() for _ in range(10)])
    assert learner.way == "replayed"
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02 if precision == "no" else 0.1)


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


def test_the_first_half_can_be_the_one_that_is_changed():
    quiet = {"flip": 0, "rotation": 0, "scale": (1, 1), "translation": 0, "probability": 0}
    augmentation = ChangedAugmentation("erasing", first_half=True, **quiet)
    images = torch.full((6, 3, 32, 32), 0.5)
    changed, _ = augmentation(images, torch.full((6, 1, 2), 9.0))
    assert (changed != images).flatten(1).any(dim=1).tolist() == [True] * 3 + [False] * 3


def test_arms_of_a_seed_start_from_the_same_weights(root, tmp_path):
    settings = settings_of(root, tmp_path)
    data = hold(training_people(settings), "cpu")
    first, second, other = (
        Learner(run, 5, data, settings, captured=False).detector.state_dict()
        for run in (Run("plain", 0), Run("literal", 0), Run("plain", 1))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_a_checkpoint_of_another_length_is_not_gone_on_with(root, tmp_path):
    settings = settings_of(root, tmp_path)
    data = hold(training_people(settings), "cpu")
    short = Learner(Run("plain", 0), 5, data, settings, captured=False)
    short.step()
    short.save(tmp_path / "checkpoints")
    longer = Learner(Run("plain", 0), 6, data, settings, captured=False)
    told = []
    longer.load(tmp_path / "checkpoints", told.append)
    assert longer.done == 0
    assert "is of a run of 5 steps, not 6: begun again" in told[0]
    assert not (tmp_path / "checkpoints").exists()  # it would hide those of this run


def test_a_process_that_dies_takes_no_other_along(root, tmp_path):
    settings = settings_of(root, tmp_path)
    told = []
    pool = Pool(settings, 2, told.append)
    try:
        fine, dies = pool.workers
        dies.process.terminate()
        prepare = ("prepare", (Run("plain", 0),))
        answers, failures = pool.ask({fine: prepare, dies: prepare}, time.time() + LONG)
        assert set(answers) == {fine}
        assert answers[fine]["way"] == "as they are"
        assert set(failures) == {dies}
        assert "the process ended" in failures[dies]
        hangs = {fine: ("rehearse", (time.time() + LONG, 1.0))}
        assert pool.ask(hangs, time.time() + 0.1) == ({}, {fine: "no answer in time"})
    finally:
        pool.end()
    assert len(told) == 2


MINUTES = 10.0  # for 12 seconds of work, as a busy machine may need a minute to start


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A study with an arm that fails, for nobody knows it."""
    output = tmp_path_factory.mktemp("study")
    settings = settings_of(root, output, arms=("plain", "unknown"), seeds=(0,))

    def in_a_hurry(costs, *, left, pictures, **more):
        """As many steps on every machine, whatever one costs there."""
        known = Costs(dict.fromkeys(costs.steps, 0.1), picture=0.0, build=0.0, throughput=1.0)
        return budget_of(known, left=12.0, pictures=0, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.study.study.budget_of", in_a_hurry)
        patch.setattr("lab.study.study.STARTING", LONG)
        patch.setattr("lab.study.study.TIMED", 0.0)  # one round, however long it may take
        patch.setattr("lab.study.study.TIMING", 0.1)
        patch.setattr("lab.study.study.REHEARSAL", 0.1)
        began = time.time()
        left = run_study(settings, minutes=MINUTES, report=output / "report")
    return settings, left, time.time() - began


def test_minutes_that_are_over_before_the_timing_are_told(root, tmp_path):
    settings = settings_of(root, tmp_path / "out", arms=("plain",), seeds=(0,), committee=0)
    with pytest.raises(ValueError, match="`--minutes` must leave time to measure what a step"):
        run_study(settings, minutes=0.001, report=tmp_path / "report")


def test_a_study_ends_in_time_and_without_the_run_that_fails(finished):
    settings, left, seconds = finished
    assert seconds < 60 * MINUTES
    assert left == [Run("unknown", 0)]
    result = read_result(Run("plain", 0), settings)
    assert result["steps"] == result["planned"] > 0
    text = (settings.output / "report" / "study.md").read_text()
    assert "hardest tenth, box" in text
    assert "large pose, box" in text
    assert "| fog " in text


def test_a_finished_run_is_not_done_again(finished):
    settings, *_ = finished
    path = Run("plain", 0).folder(settings.output) / "result.json"
    before = path.stat().st_mtime_ns
    again = settings_of(settings.root, settings.output, arms=("plain", "unknown"), seeds=(0,))
    assert [run.arm for run in again.runs() if read_result(run, again) is None] == ["unknown"]
    assert path.stat().st_mtime_ns == before


def test_a_folder_belongs_to_one_study(finished):
    settings, *_ = finished
    other = settings_of(settings.root, settings.output, arms=("plain",), seeds=(0,), batch_size=2)
    with pytest.raises(ValueError, match="differs in .*batch_size"):
        run_study(other, minutes=1.0, report=settings.output / "report")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "huge"], "invalid choice: 'huge'"),
        (["--arms", "nonsense"], "invalid choice: 'nonsense'"),
        (["--severities", "7"], "severit"),
        (["--minutes", "0"], "`--minutes` must be above 0"),
        (["--averaging", "1"], "`--averaging` must be from 0 to below 1, but got 1.0."),
        (["--averaging", "nan"], "`--averaging` must be from 0 to below 1, but got nan."),
        (["--weight-decay", "-1"], "`--weight-decay` must be at least 0, but got -1.0."),
        (["--equal", "nothing"], "invalid choice: 'nothing'"),
        (["report", "--report", "nowhere"], "No such file"),
    ],
)
def test_bad_words_are_told(words, message, capsys):
    with pytest.raises(SystemExit):
        study.main(words)
    assert message in capsys.readouterr().err
