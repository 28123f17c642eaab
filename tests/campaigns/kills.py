"""Kill the commands at random moments, run them again, and compare every byte.

From the folder `tests`: python -m campaigns.kills --kills 100 --seed 0
"""

import argparse
import io
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from campaigns.faces import contents, half_written, make_faces, table

COMMANDS = {
    "make-masked": ["make-masked"],
    "corrupt": ["corrupt", "--kinds", "fog", "bar", "--severities", "2", "4"],
}
PRELOAD = ["advaug.datasets.writers.masked", "advaug.datasets.writers.corrupted"]


def run(arguments: list[str]) -> None:
    """What a process of the command does."""
    from advaug.cli import main

    sys.stdout = io.StringIO()
    sys.exit(main(arguments))


def fresh(arguments: list[str]) -> Any:
    """Start a command as a shell does."""
    return subprocess.Popen([sys.executable, "-m", "advaug", *arguments], stdout=subprocess.DEVNULL)


def forked(arguments: list[str]) -> Any:
    """Start a command in a process that has imported the library already: a tenth of the time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=run, args=(arguments,))
    process.start()
    return process


def finished(process: Any) -> int:
    """Wait for either kind of process; give its exit status."""
    if isinstance(process, subprocess.Popen):
        return process.wait(timeout=120)
    process.join(timeout=120)
    return process.exitcode


def kill_once(
    start: Any, command: list[str], source: Path, out: Path, whole: dict[str, bytes], wait: float
) -> Counter[str]:
    """One kill `wait` seconds after the first file, and one run to the end."""
    counts: Counter[str] = Counter({"kills": 1})
    arguments = [command[0], str(source), str(out), *command[1:]]
    process = start(arguments)
    limit = time.monotonic() + 60
    while not any(out.rglob("*")) and time.monotonic() < limit and process_runs(process):
        time.sleep(0.001)
    time.sleep(wait)
    counts["killed while it ran"] += process_runs(process)
    process.kill()
    finished(process)
    counts["files that were half written"] += len(half_written(out, whole))
    counts["runs that did not end after the kill"] += finished(forked(arguments)) != 0
    counts["trees that differ"] += contents(out) != whole
    counts["leftovers"] += len(list(out.rglob("*.tmp")))
    return counts


def process_runs(process: Any) -> bool:
    """Whether a process of either kind has not ended yet."""
    if isinstance(process, subprocess.Popen):
        return process.poll() is None
    return process.is_alive()


def campaign(kills: int, seed: int, *, start: Any = fresh, faces: int = 12) -> Counter[str]:
    """Kill `kills` processes; all counts but the first two must be 0."""
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        source = make_faces(Path(folder, "faces"), faces)
        whole, seconds = {}, {}
        finished(forked(["--version"]))  # starts the server, which imports the library
        for name, command in COMMANDS.items():
            out = Path(folder, name)
            begun = time.monotonic()
            assert finished(forked([command[0], str(source), str(out), *command[1:]])) == 0
            whole[name], seconds[name] = contents(out), time.monotonic() - begun
        for index in range(kills):
            name = list(COMMANDS)[index % len(COMMANDS)]
            out = Path(folder, f"out{index}")
            wait = draw.uniform(0, seconds[name])
            counts.update(kill_once(start, COMMANDS[name], source, out, whole[name], wait))
            shutil.rmtree(out, ignore_errors=True)
    return counts


def main() -> None:
    """Run at full size and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forked", action="store_true", help="start them from a warm server")
    arguments = parser.parse_args()
    start = forked if arguments.forked else fresh
    counts = campaign(arguments.kills, arguments.seed, start=start)
    print(table("kills of the commands", counts))


if __name__ == "__main__":
    main()
