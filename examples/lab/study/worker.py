"""A process that times steps, trains runs and measures detectors, as it is told."""

import gc
import json
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advaug.base.files import whole_file
from lab.study.faces import hold, measured_people, training_people
from lab.study.learner import Learner
from lab.study.measure import measure, predicted
from lab.study.settings import Run, Settings
from lab.trainer import write_json

__all__ = ["read_result", "work"]

SETTLED = 5  # steps until a captured one is replayed
LEAST = 3  # steps that a timing is made of, or three times as many as are launched together
TOGETHER = 20  # steps that a GPU is given without waiting for it, as in training
CHECKPOINTS, FARTHEST = 5, 500  # in a run, and steps between two
POINTS = 50  # of a curve
SHOWN = 64  # pictures by which measuring is timed


def work(connection: Connection, settings: Settings, captured: bool) -> None:
    """Answer each `(name of a method, arguments)` until None comes or the other end is closed.

    Answers are `(True, result)`, or `(False, what went wrong)`.
    """
    try:
        worker = _Worker(settings, captured)
        while (message := connection.recv()) is not None:
            name, arguments = message
            connection.send((True, getattr(worker, name)(*arguments)))
    except EOFError:
        return
    except Exception:  # whatever it is, the others go on, and the reason is told
        connection.send((False, traceback.format_exc()))


class _Worker:
    """Whatever fails here ends the process: CUDA is of no use after most errors."""

    def __init__(self, settings: Settings, captured: bool) -> None:
        torch.set_num_threads(settings.threads)
        torch.set_float32_matmul_precision("high")
        # Not cudnn.benchmark: processes that search for kernels beside each other take minutes
        # and find other ones each time.
        self.settings = settings
        self.captured = captured and settings.device == "cuda"
        self.train = hold(training_people(settings), settings.device)
        self.test = hold(measured_people(settings), settings.device)
        self.learner: Learner | None = None

    def prepare(self, run: Run) -> dict[str, Any]:
        """Build a learner to time with. Gives the seconds that building took, and how it runs."""
        began = time.perf_counter()
        self.learner = self._learner(run, 10**6)
        for _ in range(SETTLED):
            self.learner.step()
        self._wait()
        return {"seconds": time.perf_counter() - began, "way": self.learner.way}

    def time_alone(self, seconds: float) -> dict[str, float]:
        """Seconds of a step, and of measuring a picture; the device must have nothing else to do.

        On a CPU with one thread the processor's own, which other processes hardly change.
        """
        assert self.learner is not None
        alone = self.settings.device == "cpu" and self.settings.threads == 1
        clock = time.process_time if alone else time.perf_counter
        began = clock()
        steps = self._steps_in(seconds)
        step = (clock() - began) / steps
        images = self.test.images[:SHOWN]
        predicted(self.learner, images, self.settings)
        self._wait()
        began = clock()
        predicted(self.learner, images, self.settings)
        self._wait()
        return {"step": step, "picture": (clock() - began) / len(images)}

    def rehearse(self, begin_at: float, seconds: float) -> float:
        """Steps a second from a moment on, while the other processes do the same."""
        time.sleep(max(0.0, begin_at - time.time()))
        began = time.perf_counter()
        return self._steps_in(seconds) / (time.perf_counter() - began)

    def run(self, run: Run, steps: int, stop_at: float, end_at: float) -> dict[str, Any]:
        """Train, measure, and write the result.

        Args:
            run: Which one.
            steps: In all.
            stop_at: When training stops in any case, as of `time.time()`.
            end_at: When measuring does.
        """
        self.learner = None
        gc.collect()  # the graph it has been timed with, whose memory others can use
        if self.settings.device == "cuda":
            torch.cuda.empty_cache()
        folder = run.folder(self.settings.output)
        learner = self.learner = self._learner(run, steps)
        checkpoint = folder / "checkpoint.pt"
        learner.load(checkpoint)
        began, first = time.time(), learner.done
        curve = self._train(learner, checkpoint, stop_at)
        trained, taken = time.time(), learner.done - first
        errors = measure(learner, self.test, self.settings, end_at)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "errors.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **errors)
        result = {
            "arm": run.arm,
            "seed": run.seed,
            "steps": learner.done,
            "planned": steps,
            "way": learner.way,
            "train_seconds": trained - began,
            "steps_timed": taken,
            "measure_seconds": time.time() - trained,
            "memory": _peak(self.settings.device),
            "curve": curve,
        }
        write_json(folder / "result.json", result)
        if learner.done == steps:
            checkpoint.unlink(missing_ok=True)
        return result

    def _steps_in(self, seconds: float) -> int:
        """Take steps for a time, and say how many they were when all have been done."""
        assert self.learner is not None
        together = TOGETHER if self.settings.device == "cuda" else 1
        steps, end = 0, time.perf_counter() + seconds
        while steps < LEAST * together or time.perf_counter() < end:
            for _ in range(together):
                self.learner.step()
            steps += together
            self._wait()
        return steps

    def _train(self, learner: Learner, checkpoint: Path, stop_at: float) -> list[list[float]]:
        curve: list[list[float]] = []
        apart = min(FARTHEST, max(1, learner.steps // CHECKPOINTS))
        while learner.done < learner.steps and time.time() < stop_at:
            loss = learner.step()
            if learner.done % max(1, learner.steps // POINTS) == 0:
                curve.append([learner.done, loss.item()])
            if learner.done % apart == 0 and learner.done < learner.steps:
                learner.save(checkpoint)
        self._wait()
        if learner.done < learner.steps:
            learner.save(checkpoint)
        return curve

    def _learner(self, run: Run, steps: int) -> Learner:
        return Learner(run, steps, self.train, self.settings, captured=self.captured)

    def _wait(self) -> None:
        if self.settings.device == "cuda":
            torch.cuda.synchronize()


def read_result(run: Run, settings: Settings) -> dict[str, Any] | None:
    """The result of a run that went to its end; None where there is none."""
    path = run.folder(settings.output) / "result.json"
    try:
        result = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return result if result["steps"] == result["planned"] else None


def _peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else None
