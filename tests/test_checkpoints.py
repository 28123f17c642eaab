"""Checkpoints of the examples: whole, or named and passed over; no code is run."""

import errno
import hashlib
import json
import os
import shutil

import pytest
import torch
from lab import checkpoints
from test_training import pictures, trainer  # noqa: F401 # the fixture

from advaug.errors import DatasetError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):  # noqa: F811 # the fixture
    """A run of four steps with the checkpoints of steps 2 and 4, and what it has learned."""
    folder = tmp_path_factory.mktemp("run")
    return folder, trainer(pictures, folder, saat=False).fit().state_dict()


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def last(run):
    return run / "checkpoints" / "step_00000004"


def resume(pictures, run):  # noqa: F811 # the fixture
    again = trainer(pictures, run, saat=False)
    again.fit(resume=True)
    return again


def test_the_last_two_are_kept_and_the_last_is_taken(pictures, run):  # noqa: F811
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "step_00000002",
        "step_00000004",
    ]
    assert resume(pictures, run).resumed_at == 4


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1])),
}
FILES = ("model.safetensors", "optimizer.bin", "random_states_0.pkl", "own_states.pt")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
def test_a_damaged_one_is_named_and_the_one_before_gives_the_same_result(
    pictures,  # noqa: F811
    finished,
    run,
    name,
    damage,
):
    DAMAGE[damage](last(run) / name)
    with pytest.warns(UserWarning, match=r"step_00000004` is damaged: .*Going on without it"):
        again = resume(pictures, run)
    assert again.resumed_at == 2
    for key, value in finished[1].items():
        assert torch.equal(again.detector.state_dict()[key], value), key


def test_where_all_are_damaged_the_way_out_is_to_begin_anew(pictures, run):  # noqa: F811
    for path in (run / "checkpoints").iterdir():
        (path / "optimizer.bin").unlink()
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(DatasetError, match="got 2 damaged ones.*remove the folder to start over"),
    ):
        resume(pictures, run)
    shutil.rmtree(run / "checkpoints")
    assert resume(pictures, run).resumed_at == 0


@pytest.mark.parametrize("name", ["own_states.pt", "optimizer.bin"])
def test_a_checkpoint_runs_no_code(pictures, run, name):  # noqa: F811
    path = last(run) / name
    torch.save(Payload(run / "ran"), path)
    sums = json.loads((last(run) / "checksums.json").read_text())
    sums[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (last(run) / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(DatasetError, match="must be a checkpoint of this run.*Remove it to go on"):
        resume(pictures, run)
    assert not (run / "ran").exists()
    shutil.rmtree(last(run))  # the way out
    assert resume(pictures, run).resumed_at == 2


@pytest.mark.parametrize("kind", [RuntimeError("writer failed"), OSError(errno.EIO, "broken")])
def test_a_full_disk_is_named_and_other_errors_stay(pictures, run, monkeypatch, kind):  # noqa: F811
    again = trainer(pictures, run, saat=False)

    def fail(*_):
        raise kind

    usage = shutil.disk_usage(run)

    def left(free):
        monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage._replace(free=free))

    monkeypatch.setattr(again.accelerator, "save_state", fail)
    left(2**40)
    with pytest.raises(type(kind), match="writer failed|broken"):
        again.fit()
    left(0)
    with pytest.raises(OSError, match="No space left.*the one before it stays.*--resume"):
        again.fit()
    assert resume(pictures, run).resumed_at == 4
