"""Time the steps, plan the runs, train them beside each other, and stop in time."""

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from advaug.base.files import locked_folder, remove_leftovers, require_writable
from advaug.errors import DatasetError
from lab.experiment import check_same_settings
from lab.study.budget import Costs, budget_of
from lab.study.collect import collect
from lab.study.conditions import condition_names, render
from lab.study.faces import hold, measured_people, real_subsets, training_people
from lab.study.pool import Pool, Worker
from lab.study.results import read_json, read_measured, read_result
from lab.study.settings import NEWER, Run, Settings
from lab.study.worker import can_be_ended, end_with_parent
from lab.trainer import write_json

__all__ = ["run_study"]

TIMING, REHEARSAL = 2.5, 8.0  # seconds: of each arm by itself, and of all together
STARTING = 180.0  # seconds until a process must have answered for the first time
SOON = 0.5  # seconds from telling processes to begin until they do
TIMED = 0.02  # of a long study's time, in which timing is repeated
LAST = 4.0  # seconds before the end at which whoever is still at work is ended
WRITING = 3.0  # seconds that a run takes to write its result


def run_study(settings: Settings, *, minutes: float, report: Path) -> list[Run]:
    """Run what is not done yet of a study, and end in time.

    The first call measures what a step costs and plans; a later one goes on by that plan. A run
    that fails is left; the others go on.

    Args:
        settings: Of all runs.
        minutes: Until everything has ended, startup and tables among it.
        report: Folder for tables and numbers; they are written again after every run.

    Returns:
        Those runs that have not gone to their end.

    Raises:
        ValueError: If the folder holds a study with other settings or has lost its plan, another
            process is at it, the pictures are unfit, or the time is too short.
    """
    deadline = time.time() + 60 * minutes
    for people in (training_people, measured_people):
        people(settings)  # raises before anything is written
    require_writable("--output", settings.output)
    with locked_folder(settings.output):
        remove_leftovers(settings.output)
        study = _Study(settings, deadline, report)
        study.claim()
        if study.left():
            study.work()
        study.write_tables()
        return study.left()


class _Study:
    def __init__(self, settings: Settings, deadline: float, report: Path) -> None:
        self.settings = settings
        self.deadline = deadline
        self.report = report
        self.began = time.time()
        self.ways: dict[str, str] = {}
        self.failed: set[Run] = set()
        self.plan_path = settings.output / "plan.json"

    def say(self, text: str) -> None:
        print(f"[{time.time() - self.began:6.1f} s] {text}", flush=True)

    def claim(self) -> None:
        """Make the folder this study's, or go on with it."""
        path, ours = self.settings.output / "settings.json", self.settings.description()
        if path.exists():
            check_same_settings(path.parent, {**NEWER, **read_json(path)}, ours)
        write_json(path, ours)

    def left(self) -> list[Run]:
        """Runs without a whole result."""
        return [run for run in self.settings.runs() if read_result(run, self.settings) is None]

    def work(self) -> None:
        """From the first process to the last run."""
        renderer = multiprocessing.get_context("spawn").Process(
            target=_render, args=(self.settings,), daemon=True
        )
        renderer.start()
        if self.settings.device == "cpu":
            renderer.join()  # or it would disturb the timing
            if renderer.exitcode:
                msg = "the changed pictures could not be made: see the failure above."
                raise RuntimeError(msg)
        runs = self.left()
        pool = Pool(self.settings, self.settings.processes or len(runs), self.say)
        try:
            steps = self._planned() or self._plan(pool, runs)
            self._train(pool, self._fit(runs, steps), steps)
        finally:
            pool.end()
            renderer.terminate()

    def _planned(self) -> dict[str, int] | None:
        """The steps of each arm, if an earlier call has planned them."""
        try:
            return read_json(self.plan_path)["steps"]
        except FileNotFoundError:
            fact = "it is missing"
        except (DatasetError, TypeError, KeyError) as error:
            fact = f"{type(error).__name__}: {error}"
            self.say(f"`{self.plan_path}` is not whole")
        if any(read_measured(run, self.settings) for run in self.settings.runs()):
            msg = (
                f"`{self.plan_path}` must hold the plan that the finished runs have followed, but "
                f"got {fact}. Restore it, or begin in another folder."
            )
            raise ValueError(msg)
        return None

    def _fit(self, runs: Sequence[Run], steps: Mapping[str, float]) -> list[Run]:
        """Those runs that can be trained, as far as is known."""
        return [run for run in runs if run.arm in steps and run not in self.failed]

    def _plan(self, pool: Pool, runs: Sequence[Run]) -> dict[str, int]:
        """Measure costs, share out the time that is left, and write it down."""
        by_worker, build = self._prepare(pool, runs)
        steps, picture = self._time_alone(pool, by_worker, runs)
        costs = Costs(steps, picture, build, self._rehearse(pool, by_worker, steps))
        pictures = len(measured_people(self.settings).places) * len(condition_names(self.settings))
        budget = budget_of(
            costs,
            runs=[run.arm for run in self._fit(runs, steps)],
            processes=max(1, len(pool.workers)),
            pictures=pictures,
            left=self.deadline - time.time(),
            equal=self.settings.equal,
        )
        plan = {
            "settings": self.settings.description(),
            "costs": asdict(costs),
            **asdict(budget),
            "processes": len(pool.workers),
            "ways": self.ways,
            "planned_after": time.time() - self.began,
            "machine": _machine(self.settings),
            "versions": {name: version(name) for name in ("torch", "kornia", "timm")},
        }
        write_json(self.plan_path, plan)
        self.say(f"costs {costs}")
        self.say(f"budget {budget}")
        return dict(budget.steps)

    def _prepare(self, pool: Pool, runs: Sequence[Run]) -> tuple[dict[Worker, Run], float]:
        """Let each worker build one run; one that fails gets a second chance without graphs."""
        asked = dict(zip(pool.workers, runs, strict=False))
        until = min(time.time() + STARTING, self.deadline)
        answers, failures = pool.ask(
            {worker: ("prepare", (run,)) for worker, run in asked.items()}, until
        )
        again = {pool.replace(worker, captured=False): asked[worker] for worker in failures}
        more, failures = pool.ask(
            {worker: ("prepare", (run,)) for worker, run in again.items()}, until
        )
        for worker in failures:
            pool.drop(worker)
            self.failed.add(again[worker])
        asked, answers = {**asked, **again}, {**answers, **more}
        self.ways = {asked[worker].arm: answer["way"] for worker, answer in answers.items()}
        self.say(f"{len(answers)} processes are ready; steps run {self.ways}")
        build = max((answer["seconds"] for answer in answers.values()), default=0.0)
        return {worker: asked[worker] for worker in answers}, build

    def _time_alone(
        self, pool: Pool, by_worker: dict[Worker, Run], runs: Sequence[Run]
    ) -> tuple[dict[str, float], float]:
        """Seconds of a step of each arm that works, and of measuring a picture.

        A long study times its arms in several rounds and takes the median: a machine is faster at
        one moment than at another, and the first arm pays for a cold start.
        """
        working = list({run.arm: run for run in reversed(runs)}.values())
        rounds = 1 + int(TIMED * (self.deadline - time.time()) / (TIMING * len(working)))
        timings: dict[str, list[float]] = {}
        pictures = []
        for _ in range(rounds):
            for run in list(working):
                timed = self._time_arm(pool, by_worker, run, shared=len(pool.workers) < len(runs))
                if timed is None:
                    working.remove(run)
                else:
                    timings.setdefault(run.arm, []).append(timed["step"])
                    pictures.append(timed["picture"])
        steps = {arm: median(values) for arm, values in timings.items()}
        if not steps and time.time() >= self.deadline:
            msg = (
                "`--minutes` must leave time to measure what a step costs, but they were over "
                f"{time.time() - self.began:.0f} s after the start. Give more minutes."
            )
            raise ValueError(msg)
        if not steps:
            msg = "no arm could be timed: see the failures above."
            raise RuntimeError(msg)
        self.say(f"seconds of a step by itself: {steps}")
        return steps, median(pictures)

    def _time_arm(
        self, pool: Pool, by_worker: dict[Worker, Run], run: Run, *, shared: bool
    ) -> dict[str, float] | None:
        """One timing of an arm; None if it fails. Several arms may share a worker."""
        worker = next((each for each, own in by_worker.items() if own.arm == run.arm), None)
        if worker is None and shared and pool.workers:
            worker = pool.workers[0]  # which is at another arm
            by_worker[worker] = run
            self._ask_one(pool, by_worker, worker, "prepare", run)
        return worker and self._ask_one(pool, by_worker, worker, "time_alone", TIMING)

    def _ask_one(
        self,
        pool: Pool,
        by_worker: dict[Worker, Run],
        worker: Worker,
        name: str,
        argument: Run | float,
    ) -> Any:  # noqa: ANN401 # the worker's
        """Its answer; None, and another one in its place, where it fails or has failed before."""
        if worker not in by_worker:
            return None
        answers, _ = pool.ask({worker: (name, (argument,))}, self.deadline)
        if worker not in answers:
            del by_worker[worker]
            pool.replace(worker, captured=worker.captured)
        return answers.get(worker)

    def _rehearse(self, pool: Pool, by_worker: dict[Worker, Run], steps: dict[str, float]) -> float:
        """What the processes get done together, in seconds of the undivided device per second."""
        begin = time.time() + SOON
        message = ("rehearse", (begin, REHEARSAL))
        rates, failures = pool.ask(dict.fromkeys(by_worker, message), self.deadline)
        for worker in failures:
            pool.replace(worker, captured=worker.captured)
        return sum(rate * steps[by_worker[worker].arm] for worker, rate in rates.items())

    def _train(self, pool: Pool, runs: list[Run], steps: dict[str, int]) -> None:
        """Give each worker a run after the other, and keep every result at once."""
        plan = read_json(self.plan_path)
        end_at = self.deadline - LAST - WRITING
        rounds = -(-len(runs) // max(1, len(pool.workers)))
        stop_at = end_at - plan["measuring"] / rounds
        waiting, at_work = list(runs), {}

        def give(worker: Worker) -> None:
            if waiting and time.time() < stop_at:
                run = at_work[worker] = waiting.pop(0)
                worker.tell("run", run, steps[run.arm], stop_at, end_at)

        for worker in list(pool.workers):
            give(worker)
        self._keep_subsets()
        while at_work and (ready := pool.ready(list(at_work), self.deadline - LAST)):
            for worker in ready:
                run = at_work.pop(worker)
                fine, result = worker.answer()
                if fine:
                    self._told(run, result)
                else:
                    self.say(f"{run.arm}, seed {run.seed}: failed: {result}")
                    worker = pool.replace(worker, captured=worker.captured)
                give(worker)
        for run in at_work.values():
            self.say(f"{run.arm}, seed {run.seed}: ended, for the time is over")

    def _told(self, run: Run, result: dict[str, Any]) -> None:
        self.say(
            f"{run.arm}, seed {run.seed}: {result['steps']} of {result['planned']} steps in "
            f"{result['train_seconds']:.0f} s, measured in {result['measure_seconds']:.0f} s"
        )
        self.write_tables()

    def _keep_subsets(self) -> None:
        """Which pictures are hard by themselves: found once, while the processes train."""
        path = self.settings.output / "subsets.json"
        if path.exists():
            try:
                read_json(path)
                return
            except DatasetError:
                self.say(f"`{path}` is not whole: it is made again")
        people = measured_people(self.settings)
        subsets = real_subsets(people, hold(people, "cpu"))
        if not subsets:
            self.say(f"{len(people.places)} pictures are too few for subsets: they are left out")
        masks = {name: mask.tolist() for name, mask in subsets.items()}
        write_json(path, {"names": people.names, "subsets": masks})

    def write_tables(self) -> None:
        """Bring numbers and tables up to date; what goes wrong with them stops no run."""
        try:
            collect(self.settings, self.report)
        except (OSError, ValueError, KeyError) as error:
            self.say(f"no tables: {type(error).__name__}: {error}")


def _render(settings: Settings) -> None:
    can_be_ended()
    end_with_parent()
    render(settings)


def _machine(settings: Settings) -> str:
    if settings.device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {settings.threads} thread a process"
