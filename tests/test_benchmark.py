"""The benchmark of a step: it runs, counts what can be counted by hand, and refuses bad input."""

import argparse
import json
import re

import pytest
import torch
from lab.benchmarks import inference as benchmark_inference
from lab.benchmarks import step as benchmark_step
from lab.benchmarks import sweep as benchmark_sweep
from lab.benchmarks.arms import ARMS, Settings, Step
from lab.benchmarks.measures import MEBI, Clock, Cost, cost_of, interleaved, matrix_rate, table
from lab.benchmarks.table import Row, _chosen, _goal_table

from advaug.detectors import HourglassNet

CPU = torch.device("cpu")
SMALL = ("--detector", "timm:resnet10t", "--image-size", "32", "--batch-size", "4")


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["benchmark.py step", "--repeats", "1", *words])
    assert benchmark_step.main() == 0
    return capsys.readouterr().out


def cells(text, title):
    """The cells of a row of a Markdown table."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


# --- what it measures with -----------------------------------------------------------------------


def test_memory_and_operations_of_known_work():
    def make():
        weight = torch.ones(512, 512)  # 1 MiB
        # Two more of them at once: the product, and what is added to it.
        return lambda: weight @ weight + torch.ones(512, 512)

    cost = cost_of(make, CPU, calls=3)
    assert cost.flops == 2 * 512**3
    assert 3 * MEBI <= cost.peak <= 4.5 * MEBI


def test_operations_of_a_gradient_are_counted_where_it_is_taken():
    weight = torch.ones(8, 8, requires_grad=True)

    def make():
        return lambda: torch.autograd.grad((weight @ weight.detach()).sum(), weight)

    assert cost_of(make, CPU, calls=1).flops == 2 * (2 * 8**3)


def test_every_other_round_runs_backwards():
    order = []
    timings = {name: lambda name=name: order.append(name) or 1.0 for name in "abc"}
    assert interleaved(timings, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]}
    assert order == [*"abc", *"cba"]


@pytest.mark.parametrize("kind", ["wall", "processor"])
def test_a_clock_gives_the_mean_of_several_calls(kind):
    calls, clock = [], Clock(CPU, kind)
    assert clock.seconds(lambda: calls.append(sum(range(200_000))), times=4) > 0
    assert len(calls) == 4
    clock._now = iter([10.0, 12.0]).__next__
    assert clock.seconds(lambda: None, times=4) == 0.5
    assert matrix_rate(CPU, torch.float32, Clock(CPU, kind), 64) > 0


def test_a_table_lines_up():
    assert table(("a", "bb"), [("x", "1")], markdown=False) == "a  bb\nx   1"
    assert table(("a", "b"), [("x", "1")], markdown=True).splitlines()[1] == "| --- | ---: |"


def test_the_goals_are_ratios_within_a_round_and_wider_on_a_cpu():
    rows = {
        "plain": Row("", [1.0, 10.0, 1.0], cost=Cost(1, 50)),
        "two-copies": Row("", [2.0, 20.0, 2.0], cost=Cost(2, 100)),
        "fused": Row("", [2.6, 26.0, 9.0], cost=Cost(2, 126)),
    }
    settings = Settings("hg1", 256, 8, CPU)
    text = _goal_table(rows, settings, markdown=True)
    assert cells(text, "fused / plain") == ["2.75", "2.60", "yes"]
    assert cells(text, "peak memory, fused / two-copies") == ["1.25", "1.26", "no"]
    settings = Settings("hg1", 256, 8, torch.device("cuda"))
    assert cells(_goal_table(rows, settings, markdown=True), "fused / plain")[2] == "no"


# --- what it measures ----------------------------------------------------------------------------


def test_one_command_gives_one_table_and_its_numbers(monkeypatch, capsys, tmp_path):
    arms = ("two-copies", "pgd-1", "fused", "plain-captured")
    text = run(
        monkeypatch, capsys, *SMALL, "--arms", *arms, "--markdown", "--output", str(tmp_path)
    )
    (numbers,) = tmp_path.glob("*.json")
    assert numbers.with_suffix(".md").read_text() == text
    found = json.loads(numbers.read_text())["arms"]
    assert list(found) == ["plain", *arms]
    plain = found["plain"]["flops"]
    assert found["two-copies"]["flops"] == 2 * plain
    # 8 passes to 3, but for the first layer, which has no gradient to hand on in a plain step.
    assert 8 / 3 < found["pgd-1"]["flops"] / plain < 8 / 3 + 0.1
    assert found["plain-captured"]["note"] is not None
    assert found["plain"]["peak"] < found["two-copies"]["peak"] < found["fused"]["peak"]
    assert cells(text, "plain")[1:4] == ["1.00", "1.00", "1.00"]
    assert "plain, captured: a tensor is on the device 'cpu'" in text
    assert re.search(r"\| fused / plain \| 2.75 \| .* \| (yes|no) \|", text)


def test_steps_are_captured_where_that_is_asked_for():
    def chosen(**given):
        return _chosen(argparse.Namespace(**{"arms": None, "captured": False, **given}))

    assert chosen(captured=True) == list(ARMS)
    assert chosen() == [name for name in ARMS if not name.endswith("captured")]
    assert chosen(arms=["fused-captured", "pgd-1"]) == ["plain", "pgd-1", "fused-captured"]


@pytest.mark.parametrize("name", [name for name in ARMS if "paper" not in name])
def test_every_arm_runs_in_mixed_precision(name, monkeypatch):
    monkeypatch.setattr(
        "lab.benchmarks.arms.HourglassNet",
        lambda marks, stacks: HourglassNet(marks, stacks, width=8, depth=1),
    )
    settings = Settings("hg1", 32, 4, CPU, "bfloat16", channels_last=True)
    step = Step(ARMS[name], settings)
    for _ in range(2):
        loss = step()
    assert loss.isfinite()
    assert step.uncaptured is None or name.endswith("captured")


def test_a_sweep_gives_time_over_batch_and_side_and_a_plot(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark_sweep, "SWEPT", ("plain", "fused"))
    sizes = ("--sweep-batches", "2", "4", "--sweep-sides", "32", "64")
    text = run(
        monkeypatch, capsys, *SMALL, "--sweep", *sizes, "--markdown", "--output", str(tmp_path)
    )
    rows = [cells(text, f"{side}, {batch}") for side, batch in ((32, 2), (32, 4), (64, 4))]
    for (milliseconds, each, *_), pixels in zip(rows, (2048, 4096, 16384), strict=True):
        assert float(each) == pytest.approx(1e6 * float(milliseconds) / pixels, rel=0.02)
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 5000
    assert not list(tmp_path.glob(".*.tmp"))


def test_inference_eager_and_exported(monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(benchmark_inference, "NETWORKS", {"HG*2": "hg2"})
    monkeypatch.setattr(
        benchmark_inference,
        "make_detector",
        lambda *_: HourglassNet(5, stacks=2, width=8, depth=1),
    )
    small = ("--inference", "--ways", "eager", "onnx", "--image-size", "32", "--batch-size", "2")
    text = run(monkeypatch, capsys, *small, "--markdown")
    for way in ("HG*2, eager", "HG*2, ONNX on the CPU"):
        assert all(float(cell) > 0 for cell in cells(text, way))
    assert cells(text, "the paper's") == ["", "23.3"]


def test_an_export_that_gives_other_numbers_is_refused():
    expected = torch.linspace(-1, 1, 9)
    benchmark_inference.check_exported(expected + 1e-5, [expected + 1, expected])
    with pytest.raises(RuntimeError, match="must give the detector's numbers"):
        benchmark_inference.check_exported(expected + 0.01, expected)
    with pytest.raises(RuntimeError, match="must give the detector's numbers"):
        benchmark_inference.check_exported(expected * torch.nan, expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch-size", "0"), "`--batch-size` must be at least 1, but got 0"),
        (("--repeats", "-1"), "`--repeats` must be at least 1"),
        (("--clock", "processor"), "Use `--device cpu --threads 1`"),
        (
            ("--detector", "hg3"),
            "`--detector` must be hg1, hg2, mdm, vitpose or timm:NAME, but got 'hg3'",
        ),
        (("--arms", "fast"), "invalid choice: 'fast'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_arguments_out_of_range_are_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark.py step", *words])
    with pytest.raises(SystemExit, match="2"):
        benchmark_step.main()
    assert message in capsys.readouterr().err
