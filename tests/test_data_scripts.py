"""The scripts that draw and time the corruptions, on tiny pictures."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from advaug.augment.corruptions import CORRUPTIONS

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example, *words):
    command = [sys.executable, str(EXAMPLES / example), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_benchmark_prints_a_rate_for_every_kind():
    tiny = ("--image-size", "32", "--batch-size", "2", "--repeats", "1")
    done = run("benchmark.py", "data", *tiny, "--markdown")
    assert done.returncode == 0, done.stderr
    head, rule, *rows = [line.strip("|").split("|") for line in done.stdout.splitlines()]
    rates = {name.strip(): float(rate) for name, rate in rows}
    assert (len(head), len(rule)) == (2, 2)
    assert list(rates)[: len(CORRUPTIONS)] == list(CORRUPTIONS)
    assert {"all kinds of corruption", "add_masks, any style", "occlude, any kind"} < set(rates)
    assert min(rates.values()) > 0
    kinds = [rates[kind] for kind in CORRUPTIONS]
    assert min(kinds) < rates["all kinds of corruption"] < max(kinds)


def test_the_sheet_shows_every_kind(tmp_path):
    done = run(
        "benchmark.py", "corruption-sheet", str(tmp_path / "sheet.png"), "--image-size", "32"
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 32 * len(CORRUPTIONS) / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("benchmark.py", "data", "--image-size", "8"), "`image_size` must be"),
        (("benchmark.py", "data", "--repeats", "0"), "must be at least 1"),
        (
            ("benchmark.py", "corruption-sheet", "nowhere/sheet.png", "--image-size", "32"),
            "nowhere",
        ),
    ],
)
def test_the_scripts_refuse_in_one_line(words, message):
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
