"""Run the commands on disks that are full before they end, then on more room.

From the folder `tests`, as a user who may mount: python -m campaigns.full_disks --disks 50 --seed 0
"""

import argparse
import contextlib
import io
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from campaigns.faces import contents, half_written, make_faces, table
from campaigns.kills import COMMANDS

from advaug.cli import main as advaug


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of `size` bytes on a folder.

    Raises:
        PermissionError: If that is not allowed here.
    """
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise PermissionError(done.stderr.decode())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_once(
    command: list[str], source: Path, disk: Path, size: int, whole: dict[str, bytes]
) -> Counter[str]:
    """One run on too small a disk, and one after it has grown."""
    counts: Counter[str] = Counter({"disks": 1})
    with small_disk(disk, size):
        out = disk / "out"
        arguments = [command[0], str(source), str(out), *command[1:]]
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = advaug(arguments)
        counts["that were full"] += status != 0
        message = said.getvalue()
        taught = "No space left" in message and "Free some space" in message
        counts["full without the promised message"] += status != 0 and not taught
        counts["files that were half written"] += len(half_written(out, whole))
        counts["ended well and incomplete"] += status == 0 and contents(out) != whole
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        with contextlib.redirect_stdout(io.StringIO()):
            counts["runs that did not end on more room"] += advaug(arguments) != 0
        counts["trees that differ"] += contents(out) != whole
        counts["leftovers"] += len(list(out.rglob("*.tmp")))
    return counts


def campaign(disks: int, seed: int, *, faces: int = 12) -> Counter[str]:
    """Fill `disks` disks; all counts but the first two must be 0.

    Raises:
        PermissionError: If disks may not be mounted here.
    """
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        source = make_faces(Path(folder, "faces"), faces)
        whole = {}
        for name, command in COMMANDS.items():
            out = Path(folder, name)
            with contextlib.redirect_stdout(io.StringIO()):
                advaug([command[0], str(source), str(out), *command[1:]])
            whole[name] = contents(out)
        for index in range(disks):
            name = list(COMMANDS)[index % len(COMMANDS)]
            # A page for each file at least: what the tree takes on such a disk.
            needed = sum(-(-len(content) // 4096) * 4096 for content in whole[name].values())
            size = draw.randrange(4096, needed, 4096)
            disk = Path(folder, f"disk{index}")
            counts.update(fill_once(COMMANDS[name], source, disk, size, whole[name]))
    return counts


def main() -> None:
    """Run at full size and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(table("full disks", campaign(arguments.disks, arguments.seed)))


if __name__ == "__main__":
    main()
