"""A killed process that reads pictures: one line that says how to go on, and going on works."""

import multiprocessing
import os
import signal

import pytest
import torch
from test_training import samples, trainer
from torch.utils.data import Dataset
from toys import differences

from advaug.datasets import workers
from advaug.errors import DatasetError
from advaug.evaluation.batches import Batches
from advaug.evaluation.looking import collect
from advaug.training import InMemoryLandmarks
from advaug.training.streaming import StreamedLandmarks

SIDE = 32


class Deadly(Dataset):
    """Kills the process that reads one of its pictures, as long as a file is not there."""

    def __init__(self, count, mended, deadly=70):
        self.pictures, self.mended, self.deadly = samples(count), mended, deadly

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        if index == self.deadly and not self.mended.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return self.pictures[index]


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_reading_a_set_into_memory(tmp_path):
    pictures = Deadly(80, tmp_path / "mended")
    with pytest.raises(DatasetError, match=r"must live, but got.*Run the same again") as caught:
        InMemoryLandmarks(pictures, workers=1)
    assert "(`--workers`)" in one_line(caught)
    pictures.mended.touch()
    assert len(InMemoryLandmarks(pictures, workers=1)) == 80


@pytest.mark.parametrize("when", ["reading", "looking"])
def test_evaluating(tmp_path, when):
    """Killed in its own work, and killed while the detector works on an earlier batch."""
    pictures = Deadly(80, tmp_path / "mended", deadly=70 if when == "reading" else -1)
    seen = []

    def find(images):
        seen.append(len(images))
        if when == "looking" and len(seen) == 1:
            kill_a_child()
        return torch.zeros(len(images), 68, 2)

    def run(workers=1):
        options = {"device": "cpu", "batches": Batches(32, print), "workers": workers}
        plain = {"plain": lambda images, landmarks, numbers: images}
        return collect(find, pictures, plain, tmp_path, **options)

    with pytest.raises(DatasetError, match="Run the same again to go on") as caught:
        run()
    one_line(caught)
    pictures.mended.touch()
    assert len(run().found["plain"]) == 80


def kill_a_child():
    """Kill the workers of this process."""
    for worker in multiprocessing.active_children():  # unlike the tracker of Python's resources
        kill(worker.pid)


def kill(worker):
    """Kill a process and wait for its end; with it the signal has come that PyTorch listens to.

    The dead process is left to be waited for: PyTorch asks it what it died of.
    """
    os.kill(worker, signal.SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)


def test_training(tmp_path):
    """Killed from outside, in the middle of a step; resumed, it ends as if nothing had been."""
    straight = trainer(StreamedLandmarks(samples(12), workers=1), tmp_path / "straight")
    end = straight.fit().state_dict()
    streamed = StreamedLandmarks(samples(12), workers=1)
    killed = trainer(streamed, tmp_path / "killed")
    plain = killed.step

    def step(number):
        if number == 2:
            for worker in streamed._reader._workers:
                kill(worker.pid)
        return plain(number)

    killed.step = step
    with pytest.raises(DatasetError, match=r"Pass `resume=True` \(`--resume`\)") as caught:
        killed.fit()
    one_line(caught)
    again = trainer(StreamedLandmarks(samples(12), workers=1), tmp_path / "killed")
    assert differences(end, again.fit(resume=True).state_dict()) == []
    assert again.resumed_at == 2


@pytest.mark.parametrize("kind", [RuntimeError, FileNotFoundError])
def test_other_errors_pass(kind, monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE", 0.0)

    def fail():
        raise kind("a.png")

    with pytest.raises(kind, match=r"a\.png"):
        workers.survived(fail)
