"""Kill `reproduce.py` at random moments and start it again: its tables must not change.

python -m lab.reproduce.kills --kills 10 -- --table 1 2 --detectors hg1
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["killed_and_restarted", "main"]

SCRIPT = Path(__file__).parents[2] / "reproduce.py"
RUNS_BETWEEN = 3  # at most so many runs begin before a kill
SECONDS_MORE = 1.0  # at most so long after a run has begun


def killed_and_restarted(words: Sequence[str], output: Path, *, kills: int, seed: int) -> int:
    """Start with these arguments until the work is done, killed so often on the way.

    Args:
        words: Arguments of `reproduce.py`, without `--output`.
        output: Its folder.
        kills: How often it is to be killed while it trains.
        seed: Of the moments.

    Returns:
        How many kills hit a run in training; fewer if the work was done before.

    Raises:
        RuntimeError: If a start that is not killed fails.
    """
    moments = random.Random(seed)
    hits = 0
    while hits < kills and _kill_one(words, output, moments):
        hits += 1
    done = subprocess.run(_command(words, output), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"reproduce.py must go on after {hits} kills, but failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return hits


def _kill_one(words: Sequence[str], output: Path, moments: random.Random) -> bool:
    """Start, wait for some runs to begin and a little longer, kill; whether it was in time."""
    wait_for = moments.randint(1, RUNS_BETWEEN)
    with subprocess.Popen(
        _command(words, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        begun = 0
        for line in process.stderr:
            begun += ", seed " in line
            if begun == wait_for:
                break
        time.sleep(SECONDS_MORE * moments.random())
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def _command(words: Sequence[str], output: Path) -> list[str]:
    return [sys.executable, os.fspath(SCRIPT), *words, "--output", os.fspath(output)]


def main() -> int:
    """Compare the files of a run that was killed with those of one that was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="arguments of reproduce.py, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder) / "straight", Path(folder) / "killed"
        killed_and_restarted(arguments.words, straight, kills=0, seed=0)
        hits = killed_and_restarted(
            arguments.words, killed, kills=arguments.kills, seed=arguments.seed
        )
        names = sorted(path.name for path in straight.glob("*.md"))
        differing = [n for n in names if (straight / n).read_bytes() != (killed / n).read_bytes()]
    print(f"{hits} kills in training; {len(names)} files compared, {len(differing)} differ")
    return 1 if differing or not names else 0


if __name__ == "__main__":
    sys.exit(main())
