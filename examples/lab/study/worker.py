"""A process that times steps, trains runs and measures detectors, as it is told."""

import gc
import multiprocessing
import os
import shutil
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from advaug.errors import DatasetError
from lab.study.faces import hold, measured_people, training_people
from lab.study.learner import Learner
from lab.study.measure import measure, predicted
from lab.study.results import write_measured
from lab.study.settings import Run, Settings

__all__ = ["can_be_ended", "end_with_parent", "work"]

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
    can_be_ended()
    end_with_parent()
    try:
        worker = _Worker(settings, captured)
        while (message := connection.recv()) is not None:
            name, arguments = message
            connection.send((True, getattr(worker, name)(*arguments)))
    except EOFError:
        return
    except (DatasetError, OSError) as error:  # which say all that there is to know
        connection.send((False, f"{type(error).__name__}: {error}"))
    except Exception:  # whatever it is, the others go on, and the reason is told
        connection.send((False, traceback.format_exc()))


def can_be_ended() -> None:
    """Let this process be ended from outside without leaving anything behind.

    tqdm locks its bars with a semaphore, which a process that is ended does not remove. Python then
    warns of leaked ones. A lock between threads is enough here.
    """
    tqdm.set_lock(threading.RLock())


def end_with_parent() -> None:
    """End this process when the one that started it ends, however that happens.

    Else it would go on writing into a folder in which another study may have begun.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


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
        measured = measured_people(settings)
        self.test, self.occluded = hold(measured, settings.device), measured.occluded
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
        learner = self.learner = self._learner(run, steps)
        checkpoints = run.folder(self.settings.output) / "checkpoints"
        learner.load(checkpoints, lambda text: print(f"{run.arm}, seed {run.seed}: {text}"))
        began, first = time.time(), learner.done
        curve = self._train(learner, checkpoints, stop_at)
        trained, taken = time.time(), learner.done - first
        errors = measure(learner, self.test, self.settings, end_at, occluded=self.occluded)
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
        write_measured(run, self.settings, result, errors)
        if learner.done == steps:
            shutil.rmtree(checkpoints, ignore_errors=True)  # the result stands for them
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

    def _train(self, learner: Learner, checkpoints: Path, stop_at: float) -> list[list[float]]:
        curve: list[list[float]] = []
        apart = min(FARTHEST, max(1, learner.steps // CHECKPOINTS))
        while learner.done < learner.steps and time.time() < stop_at:
            loss = learner.step()
            if learner.done % max(1, learner.steps // POINTS) == 0:
                curve.append([learner.done, loss.item()])
            if learner.done % apart == 0 and learner.done < learner.steps:
                learner.save(checkpoints)
        self._wait()
        if learner.done < learner.steps:
            learner.save(checkpoints)
        return curve

    def _learner(self, run: Run, steps: int) -> Learner:
        return Learner(run, steps, self.train, self.settings, captured=self.captured)

    def _wait(self) -> None:
        if self.settings.device == "cuda":
            torch.cuda.synchronize()


def _peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else None
