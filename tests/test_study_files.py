"""A study's files: damaged ones are named and made anew, or end only their own run."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab.study.conditions import pictures_under, render
from lab.study.faces import hold, training_people
from lab.study.learner import Learner
from lab.study.pool import Pool
from lab.study.results import read_measured, read_result
from lab.study.settings import NEWER, Run
from lab.study.study import _Study, run_study
from lab.study.worker import _Worker
from small_study import LONG, people_root, settings_of  # noqa: F401 # a fixture

from advaug.base.files import locked_folder
from advaug.errors import DatasetError

RUN = Run("saat", 1)
DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-99]),
    "missing": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1])),
}
damaged = pytest.mark.parametrize("damage", DAMAGE)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def learner(root, tmp_path):
    settings = settings_of(root, tmp_path)
    data = hold(training_people(settings), "cpu")
    return lambda: Learner(RUN, 5, data, settings, captured=False)


@pytest.fixture
def checkpoints(learner, tmp_path):
    """Those after the steps 1 to 3, of which two are kept."""
    running = learner()
    for _ in range(3):
        running.step()
        running.save(tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def rewrite(checkpoint, state):
    """Change a checkpoint together with its checksum."""
    torch.save(state, checkpoint / "states.pt")
    summed = hashlib.sha256((checkpoint / "states.pt").read_bytes()).hexdigest()
    (checkpoint / "checksums.json").write_text(json.dumps({"states.pt": summed}))


@damaged
@pytest.mark.parametrize("name", ["states.pt", "checksums.json"])
def test_the_checkpoint_before_a_damaged_one_gives_the_same_numbers(
    learner, checkpoints, name, damage
):
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step_00000002", "step_00000003"]
    DAMAGE[damage](checkpoints / "step_00000003" / name)
    whole, later, told = learner(), learner(), []
    losses = [whole.step().item() for _ in range(5)]
    later.load(checkpoints, told.append)
    assert later.done == 2
    (line,) = told
    assert "step_00000003` is damaged" in line
    assert "\n" not in line
    assert [later.step().item() for _ in range(3)] == losses[2:]


def test_a_missing_random_state_is_an_error(learner, checkpoints):
    last = checkpoints / "step_00000003"
    state = torch.load(last / "states.pt", weights_only=True)
    del state["random"]
    rewrite(last, state)
    running = learner()
    with pytest.raises(DatasetError, match="but random is missing. Remove it to go on"):
        running.load(checkpoints)
    assert running.done == 0
    shutil.rmtree(last)  # the way out
    running.load(checkpoints)
    assert running.done == 2


def test_a_checkpoint_runs_no_code(learner, checkpoints, tmp_path):
    rewrite(checkpoints / "step_00000003", Payload(tmp_path / "ran"))
    with pytest.raises(DatasetError, match="must be a checkpoint of this run"):
        learner().load(checkpoints)
    assert not (tmp_path / "ran").exists()


@damaged
def test_damaged_pictures_are_named_and_made_anew(root, tmp_path, capsys, damage):
    settings = settings_of(root, tmp_path)
    render(settings)
    (path,) = tmp_path.rglob("fog-3.npy")
    before = path.read_bytes()
    DAMAGE[damage](path)
    assert pictures_under("fog/3", settings) is None
    render(settings)
    assert path.read_bytes() == before
    told = capsys.readouterr().out.splitlines()
    assert told == ([] if damage == "missing" else [f"`{path}` is damaged: it is made again"])


def test_a_run_that_was_stopped_is_measured_to_the_same_errors(root, tmp_path):
    found = {}
    for name in ("whole", "stopped"):
        settings = settings_of(root, tmp_path / name)
        render(settings)
        worker, late = _Worker(settings, captured=False), time.time() + LONG
        if name == "stopped":
            stopping = Learner.step

            def limited(own, stopping=stopping):
                if own.done == 3:
                    raise KeyboardInterrupt
                return stopping(own)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Learner, "step", limited)
                with pytest.raises(KeyboardInterrupt):
                    worker.run(RUN, 6, late, late)
            assert read_measured(RUN, settings) is None
        worker.run(RUN, 6, late, late)
        result, found[name] = read_measured(RUN, settings)
        assert result["steps_timed"] == {"whole": 6, "stopped": 3}[name]
        assert not (RUN.folder(settings.output) / "checkpoints").exists()
    for name, errors in found["whole"].items():
        np.testing.assert_array_equal(errors, found["stopped"][name])


def test_a_run_whose_checkpoints_are_all_damaged_ends_alone(root, tmp_path, checkpoints):
    settings = settings_of(root, tmp_path)
    render(settings)
    bad, good = Run("plain", 0), Run("plain", 1)
    shutil.copytree(checkpoints, bad.folder(tmp_path) / "checkpoints")
    for path in bad.folder(tmp_path).rglob("states.pt"):
        path.write_bytes(b"")
    late, told = time.time() + LONG, []
    pool = Pool(settings, 2, told.append)
    try:
        first, second = pool.workers
        answers, failures = pool.ask(
            {worker: ("run", (run, 2, late, late)) for worker, run in
             {first: bad, second: good}.items()}, late
        )  # fmt: skip
    finally:
        pool.end()
    assert set(answers) == {second}
    assert "must hold a whole checkpoint to go on from, but got 2 damaged" in failures[first]
    assert "\n" not in failures[first]
    assert len(told) == 1
    assert read_result(bad, settings) is None
    assert read_result(good, settings)["steps"] == 2


@pytest.fixture
def measured(tmp_path, root):
    """Settings of a study of one run, which is done."""
    settings = settings_of(root, tmp_path, arms=("saat",), seeds=(1,), committee=0)
    render(settings)
    late = time.time() + LONG
    _Worker(settings, captured=False).run(RUN, 2, late, late)
    assert read_result(RUN, settings) is not None
    return settings


@damaged
@pytest.mark.parametrize("name", ["result.json", "errors.npz"])
def test_a_damaged_result_is_as_good_as_none(measured, name, damage):
    DAMAGE[damage](RUN.folder(measured.output) / name)
    assert read_measured(RUN, measured) is None
    assert _Study(measured, time.time(), measured.output / "report").left() == [RUN]


@pytest.mark.parametrize("content", ["[]", '{"arm": "saat"}', '{"arm": "saat", "steps'])
def test_a_result_of_other_content_is_as_good_as_none(measured, content):
    (RUN.folder(measured.output) / "result.json").write_text(content)
    assert read_measured(RUN, measured) is None


@pytest.mark.parametrize("content", [None, "", "[]", '{"steps'])
def test_a_study_without_its_plan_mixes_no_runs(measured, content):
    path = measured.output / "plan.json"
    if content is not None:
        path.write_text(content)
    study = _Study(measured, time.time(), measured.output / "report")
    with pytest.raises(ValueError, match="must hold the plan that the finished runs have followed"):
        study._planned()
    shutil.rmtree(RUN.folder(measured.output))
    assert study._planned() is None  # and is made anew


def test_a_folder_that_is_older_than_a_setting_is_gone_on_with(measured):
    older = {name: value for name, value in measured.description().items() if name not in NEWER}
    path = measured.output / "settings.json"
    path.write_text(json.dumps(older))
    _Study(measured, time.time(), measured.output / "report").claim()
    assert json.loads(path.read_text()) == measured.description()
    other = _Study(replace(measured, equal="steps"), time.time(), measured.output / "report")
    with pytest.raises(ValueError, match="differs in equal: time there, steps here"):
        other.claim()


def test_a_folder_is_worked_in_by_one_study_at_a_time(root, tmp_path):
    settings = settings_of(root, tmp_path / "out")
    with (
        locked_folder(tmp_path / "out"),
        pytest.raises(DatasetError, match="written by one process at a time"),
    ):
        run_study(settings, minutes=1.0, report=tmp_path / "report")
    assert not (tmp_path / "out" / "settings.json").exists()


def test_pictures_that_cannot_be_used_are_told_before_anything_is_written(root, tmp_path):
    settings = settings_of(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DatasetError, match="nowhere"):
        run_study(settings, minutes=1.0, report=tmp_path / "report")
    assert not (tmp_path / "out").exists()


ORPHANS = """
import sys, time
from pathlib import Path
from lab.study import PLANS, Settings
from lab.study.pool import Pool

if __name__ == "__main__":
    settings = Settings(root=Path(sys.argv[1]), output=Path(), **PLANS["tiny"], choose_people=2)
    pool = Pool(settings, 1, print)
    pool.ask({pool.workers[0]: ("_wait", ())}, time.time() + 3600)  # it has read its pictures
    pool.workers[0].tell("rehearse", time.time() + 3600, 1.0)  # it sleeps until then
    print(pool.workers[0].process.pid, flush=True)
    time.sleep(3600)
"""


def test_processes_end_with_a_study_that_is_killed_and_leave_nothing_behind(root, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    paths = os.pathsep.join(sys.path)
    study = subprocess.Popen(
        [sys.executable, str(script), str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
    )
    assert study.stdout is not None
    with study:
        worker = int(study.stdout.readline())
        study.kill()
        _, said = study.communicate(timeout=LONG / 4)  # until the processes that it started end
    end = time.time() + LONG / 4
    while alive(worker) and time.time() < end:
        time.sleep(0.1)
    assert not alive(worker)
    assert "leaked" not in said


def alive(process):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
