"""Processes of one machine that are asked, and may die without taking the others along."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import Any

from lab.study.settings import Settings
from lab.study.worker import work

__all__ = ["Pool", "Worker"]

Message = tuple[str, tuple[Any, ...]]


class Worker:
    """One process, and what it is at."""

    def __init__(self, settings: Settings, *, captured: bool) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, theirs = context.Pipe()
        arguments = (theirs, settings, captured)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.captured = captured

    def tell(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 # the method's
        """Have a method run; `answer` gives what it returns, also that the process has died."""
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self.connection.send((name, arguments))

    def answer(self) -> tuple[bool, Any]:
        """Wait for the answer. A process that has died answers that."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(1)
            return False, f"the process ended (exit code {self.process.exitcode})"

    def end(self) -> None:
        """End the process, whatever it is at."""
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


class Pool:
    """Several workers.

    Args:
        settings: Of the study.
        count: How many.
        say: Tells what happens.
    """

    def __init__(self, settings: Settings, count: int, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.say = say
        self.workers = [Worker(settings, captured=settings.captured) for _ in range(count)]

    def ask(
        self, messages: Mapping[Worker, Message], stop_at: float
    ) -> tuple[dict[Worker, Any], dict[Worker, str]]:
        """Ask workers at the same time, and wait for all.

        Args:
            messages: What each of them is to do.
            stop_at: When waiting ends, as of `time.time()`.

        Returns:
            The answers, and what went wrong with those that have failed, or have not answered
            in time. They are of no use any more: drop or replace them.
        """
        answers: dict[Worker, Any] = {}
        failures: dict[Worker, str] = {}
        for worker, (name, arguments) in messages.items():
            worker.tell(name, *arguments)
        waiting = list(messages)
        while waiting and (ready := self.ready(waiting, stop_at)):
            for worker in ready:
                fine, result = worker.answer()
                (answers if fine else failures)[worker] = result
                waiting.remove(worker)
        failures |= dict.fromkeys(waiting, "no answer in time")
        for worker, reason in failures.items():
            self.say(f"a process failed at {messages[worker]}: {reason}")
        return answers, failures

    def ready(self, workers: list[Worker], stop_at: float) -> list[Worker]:
        """Those of the workers that have answered or died; none when the time is over."""
        by_connection = {worker.connection: worker for worker in workers}
        left = max(0.0, stop_at - time.time())
        return [by_connection[each] for each in wait(list(by_connection), left)]  # type: ignore[index]

    def drop(self, worker: Worker) -> None:
        """End a worker and go on without it."""
        worker.end()
        self.workers.remove(worker)

    def replace(self, worker: Worker, *, captured: bool) -> Worker:
        """End a worker and start another one in its place."""
        place = self.workers.index(worker)
        worker.end()
        self.workers[place] = Worker(self.settings, captured=captured)
        return self.workers[place]

    def end(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.end()
        self.workers = []
