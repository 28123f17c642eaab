"""Refuse a wheel that holds anything but the package, lacks a part of it, or is over 1 MB."""

import sys
import zipfile
from pathlib import Path

MOST_BYTES = 1_000_000
ROOT = Path(__file__).parents[1]


def check(wheel: Path) -> None:
    """Compare the wheel's files with those of the checkout."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT.joinpath("advaug").rglob("*")
    expected = {str(path.relative_to(ROOT)) for path in package if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    if held != expected:
        sys.exit(f"{wheel.name} differs from advaug/ in {sorted(held ^ expected)}")
    size = wheel.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{wheel.name} must have at most {MOST_BYTES} bytes, but has {size}")
    print(f"{wheel.name}: {size} bytes, {len(held)} files, all of advaug/")


check(Path(sys.argv[1]))
