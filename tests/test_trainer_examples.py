"""The examples for existing trainers: they run, and they say how many of their lines are SAAT's."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples" / "trainers"


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("lightning_module.py", 1, "one changed line"),
        ("sleap_nn_single_instance.py", 1, "one changed line"),
        ("accelerate_loop.py", 4, "three new lines, and a fourth"),
    ],
)
def test_an_example_marks_as_many_lines_as_it_says(name, count, words):
    head, *lines = (EXAMPLES / name).read_text().splitlines()
    assert words in head
    marked = [line for line in lines if line.rstrip().endswith(("# new", "# SAAT"))]
    assert len(marked) == count


def test_the_loop_on_accelerate_runs_in_two_processes(tmp_path):
    words = ("--cpu", "--steps", "3", "--output", str(tmp_path / "end"))
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    done = subprocess.run(
        [*launch, "--nproc-per-node", "2", str(EXAMPLES / "accelerate_loop.py"), *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("3 batches") == 1  # the first process speaks for both
    held = torch.load(tmp_path / "end" / "custom_checkpoint_0.pkl", weights_only=True)
    assert held["_extra_state"]["calls"] == 3


def test_the_module_on_lightning_runs(monkeypatch, capsys):
    pytest.importorskip("lightning.pytorch")
    monkeypatch.setattr(
        sys, "argv", ["lightning_module.py", "--steps", "2", "--accelerator", "cpu"]
    )
    monkeypatch.syspath_prepend(EXAMPLES)
    with pytest.warns():  # Lightning's own, on the machine
        runpy.run_path(str(EXAMPLES / "lightning_module.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "adversary/beta" in printed
    assert "loss" in printed
