"""The paper's tables made again: its numbers, our runs, exact resumes, what is refused."""

import importlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from lab.reproduce import BUDGETS, TABLES, Settings
from lab.reproduce.kills import killed_and_restarted
from lab.reproduce.networks import ABLATIONS, make_adversary, make_detector
from lab.reproduce.plan import needed_runs
from lab.reproduce.print import format_paper_table
from lab.reproduce.rows import Ours
from lab.reproduce.runs import Bench
from lab.reproduce.sources import open_source
from PIL import Image
from small_sets import add_picture, make_300vw, make_300w_lp, make_cofw68, make_wflw, points

from advaug import HeatmapTask
from advaug.datasets import SyntheticFaces
from advaug.datasets.readers import cofw, faces_300w, lp_300w, videos_300vw, wflw
from advaug.datasets.readers.pts import write_pts
from advaug.detectors import HourglassNet
from advaug.evaluation.evaluate import CONDITIONS

script = importlib.import_module("reproduce")  # of the folder `examples`
SMALLEST = ("--steps", "3", "--seeds", "1", "--device", "cpu")


def bench_in(folder, **changes):
    usual = {"data": "synthetic", "root": None, "budget": BUDGETS["smoke"].with_steps(3)}
    settings = Settings(**usual | changes, output=folder)
    budget = settings.budget
    return Bench(settings, open_source("synthetic", None, budget.image_size, budget.limit))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of drawn faces as `.pts` data."""
    root = tmp_path_factory.mktemp("faces")
    for split, count in {"train": 8, "val": 10}.items():
        (root / split).mkdir()
        faces = SyntheticFaces(count, split=split, image_size=40, seed=3)
        for number in range(count):
            pixels = (255 * faces[number].image.permute(1, 2, 0)).round().byte().numpy()
            Image.fromarray(np.asarray(pixels)).save(root / split / f"{number}.png")
            write_pts(root / split / f"{number}.pts", faces[number].landmarks)
    return root


# The paper's numbers.


def test_every_table_is_there_and_every_row_as_long_as_its_heading():
    assert list(TABLES) == list(range(1, 10))
    for table in TABLES.values():
        assert {len(row.values) for row in table.rows} == {len(table.columns)}


def test_the_known_errata_are_found_by_the_sum_of_the_subsets():
    found = {
        (number, note.row)
        for number, table in TABLES.items()
        for note in table.notes
        if note.column == "Full"
    }
    ours = {
        (number, row.method)
        for number, table in TABLES.items()
        for row in table.rows
        if row.ours is not None
    }
    assert found & ours == {(1, "MDM"), (5, "HG*2"), (7, "SAAT (w/o S)"), (7, "SAAT (w/o L_R)")}


@pytest.mark.parametrize(("table", "count"), [(1, 6), (2, 7), (3, 2), (4, 2), (5, 6), (9, 12)])
def test_the_paper_has_as_many_rows_of_its_own_as_it_prints(table, count):
    rows = [row for row in TABLES[table].rows if row.ours and row.values[0] is not None]
    assert len(rows) == count


def test_every_note_is_about_something_in_its_table():
    for table in TABLES.values():
        methods = {None, *(row.method for row in table.rows)}
        columns = {None, *(column.title for column in table.columns)}
        for note in table.notes:
            assert note.row in methods
            assert note.column in columns
            text = format_paper_table(table, table.rows, lambda row, column: [1.0], about=[])
            assert text.count(f"[^t{table.number}-1]") == 2  # where it belongs, and below


def test_ablations_are_those_of_tables_6_and_7():
    ways = [row.ours.way for number in (6, 7) for row in TABLES[number].rows]
    assert {*ways} - {"plain", "paper", "augment"} == {*ABLATIONS}
    assert len(TABLES[6].rows) == 9 + 2
    assert len(TABLES[7].rows) == 5 + 1


# The runs.


@pytest.mark.parametrize("way", ABLATIONS)
@pytest.mark.parametrize("width", [8, None], ids=["narrow", "the paper's"])
def test_an_ablation_replaces_what_it_names_and_nothing_else(way, width):
    budget = replace(BUDGETS["smoke"], attacker_width=width)
    literal = make_adversary("paper", HeatmapTask(), budget, 0)
    ablated = make_adversary(way, HeatmapTask(), budget, 0)
    changed = {
        name
        for name, value in vars(literal.objective).items()
        if getattr(ablated.objective, name) != value
    }
    named = {"beta": "beta", "lambda": "relaxation", "LR": "reconstruction_weight"}
    assert changed == {field for word, field in named.items() if word in way}
    assert (ablated.discriminator is None) == ("no-D" in way)
    assert ablated.structure == (way != "no-S")
    assert ablated.attacker.structure == (way != "no-S")


def test_the_ways_are_plain_literal_and_the_default():
    budget = BUDGETS["paper"]
    assert make_adversary("plain", HeatmapTask(), budget, 0) is None
    literal = make_adversary("paper", HeatmapTask(), budget, 0)
    assert sum(p.numel() for p in literal.attacker.parameters()) == 54_416_003
    default = make_adversary("augment", HeatmapTask(), budget, 0)
    assert default.structure == "discriminator"


def test_the_paper_budget_trains_the_papers_networks():
    shape = 256 * torch.rand(68, 2)
    counts = {
        name: sum(p.numel() for p in make_detector(name, shape, BUDGETS["paper"]).parameters())
        for name in ("hg1", "hg2", "mdm")
    }
    assert counts == {"hg1": 3_784_252, "hg2": 7_299_384, "mdm": 80_558_632}


def test_tables_share_runs(tmp_path):
    bench = bench_in(tmp_path)
    alone = {run for run, _ in needed_runs([1], [], bench)}
    together = {run for run, _ in needed_runs([1, 4, 7], [3], bench)}
    assert len(alone) == 9
    assert len(together - alone) == 4
    assert {test for run, test in needed_runs([1, 4], [], bench)} == {"300w", "cofw68"}


def test_every_set_of_a_source_can_be_measured(root):
    for name, folder in (("synthetic", None), ("pts", root)):
        source = open_source(name, folder, 32, 8)
        assert {table.test for table in TABLES.values()} - {None} <= {*source.tests}
        for table in TABLES.values():
            for row in table.rows:
                assert row.ours is None or row.ours.train in source.trains
            if table.test is not None:
                subsets = source.tests[table.test].open().subsets
                assert {column.subset for column in table.columns} <= {*subsets}
                assert source.tests[table.test].condition in CONDITIONS


def test_training_sets_of_a_folder_grow(root):
    trains = open_source("pts", root, 32, None).trains
    counts = {key: len(train.open()) for key, train in trains.items()}
    assert counts["helen"] < counts["300w of table 9"] < counts["300w+300w-lp"]
    assert counts["300w of table 2"] < counts["300w+300vw"] == counts["300w"] == 8


def test_the_challenging_faces_of_a_folder_are_the_turned_ones(root):
    from advaug.evaluation.hardness import turn_of_head

    opened = open_source("pts", root, 32, None).tests["300w"].open()
    turns = turn_of_head(torch.stack([sample.landmarks for sample in opened.dataset]))
    common, challenging = (opened.subsets[name] for name in ("common", "challenging"))
    assert turns[list(challenging)].min() >= turns[list(common)].max()
    assert sorted([*common, *challenging]) == sorted(opened.subsets["full"]) == list(range(10))


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A folder with a small copy of every set of the paper."""
    pytest.importorskip("av")
    pytest.importorskip("h5py")
    counts = {"300w": dict.fromkeys(faces_300w.PART_COUNTS, 2), "wflw": {"train": 5, "test": 12}}
    counts["wflw"] |= dict.fromkeys(wflw.WFLW_ATTRIBUTES, 2)
    counts |= {"cofw": {"train": 3, "test": 4}, "lp": {"AFW": 2, "HELEN": 3, "IBUG": 1, "LFPW": 1}}
    names = ("train", "category-1", "category-2", "category-3")
    videos = dict(zip(names, (("001",), ("114",), ("203",), ("410",)), strict=True))
    monkeypatch.setattr(faces_300w, "PART_COUNTS", counts["300w"])
    monkeypatch.setattr(wflw, "COUNTS", counts["wflw"])
    monkeypatch.setattr(cofw, "COUNTS", counts["cofw"])
    monkeypatch.setattr(lp_300w, "PART_COUNTS", counts["lp"])
    monkeypatch.setattr(videos_300vw, "VIDEOS", videos)
    root = tmp_path / "real"
    for number, part in enumerate(part for part in counts["300w"] for _ in range(2)):
        path = add_picture(root / "300w" / part / f"{number}.png", number)
        write_pts(path.with_suffix(".pts"), points(68, number))
    make_wflw(root / "wflw", counts["wflw"])
    make_cofw68(root / "cofw68", counts["cofw"])
    make_300w_lp(root / "300w-lp", counts["lp"])
    make_300vw(root / "300vw", ["001", "114", "203", "410"], 11)
    return root


def test_the_real_sets_are_found_by_their_names(real):
    source = open_source("real", real, 32, None)
    counts = {key: len(train.open()) for key, train in source.trains.items()}
    assert counts["300w"] == counts["300w of table 2"] == counts["300w of table 9"] == 6
    assert counts["300w+300vw"] == 6 + 11
    assert counts["300w+300w-lp"] == 6 + 7
    assert counts["wflw"] == 5
    subsets = {name: test.open().subsets for name, test in source.tests.items()}
    assert len(subsets["300w"]["full"]) == len(subsets["masked-300w"]["full"]) == 6
    assert [len(subsets["300vw"][f"category-{number}"]) for number in (1, 2, 3)] == [2, 2, 2]
    assert len(subsets["cofw68"]["test"]) == 4
    assert not source.stands_in


def test_a_table_of_a_real_set_has_its_own_landmarks(real, tmp_path, capsys):
    words = ["--table", "3", "--detectors", "hg1", *SMALLEST, "--output", str(tmp_path / "out")]
    assert script.main([*words, "--data", "real", "--root", str(real)]) == 0
    printed = capsys.readouterr().out
    assert "measured on WFLW." in printed
    assert "trained on WFLW, of at most 32 pictures spread over it;" in printed
    assert "with each other only" not in printed
    (path,) = (tmp_path / "out").glob("runs/hg1-plain-wflw-*/detector.safetensors")
    assert HourglassNet.load(path).arguments["num_landmarks"] == 98


def test_visible_and_occluded_landmarks_stand_apart_where_the_set_knows_them(
    real, tmp_path, capsys, monkeypatch
):
    measured = []
    usual = Bench._landmark_errors
    monkeypatch.setattr(
        Bench, "_landmark_errors", lambda *given: (measured.append(1), usual(*given))[1]
    )
    words = ["--table", "4", "--detectors", "hg1", *SMALLEST, "--output", str(tmp_path / "out")]
    words += ["--data", "real", "--root", str(real)]
    assert script.main(words) == 0
    printed = capsys.readouterr().out
    (heading,) = [line for line in printed.splitlines() if line.startswith("| method | test")]
    assert heading == "| method | test, visible | test, occluded |"
    row = [line for line in printed.splitlines() if line.startswith(r"| HG\*1 |")][-1]
    visible, occluded = (float(cell) for cell in row.split("|")[2:4])
    (folder,) = (tmp_path / "out").glob("runs/hg1-plain-*")
    whole = 100 * np.mean(json.loads((folder / "errors_cofw68.json").read_text()))
    marked = np.mean(np.arange(68) % 5 == 0)  # by `make_cofw68`
    # Not to the digit: a landmark outside of its crop counts in neither.
    assert (1 - marked) * visible + marked * occluded == pytest.approx(whole, rel=0.01)
    assert min(visible, occluded) < whole < max(visible, occluded)
    assert script.main(words) == 0  # from what is kept
    assert capsys.readouterr().out == printed
    assert len(measured) == 3  # each of the three ways once


def test_drawn_faces_have_no_landmarks_apart(tmp_path, capsys):
    words = ["--table", "4", "--detectors", "hg1", *SMALLEST, "--output", str(tmp_path)]
    assert script.main(words) == 0
    assert "apart" not in capsys.readouterr().out


# Whole commands.


def test_a_table_shows_the_papers_numbers_ours_and_the_difference(tmp_path, capsys):
    words = ("--table", "4", "--detectors", "hg1", "--seeds", "2", "--steps", "2")
    assert script.main([*words, "--device", "cpu", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "table_4.md").read_text() + "\n"
    (row,) = [line for line in printed.splitlines() if line.startswith(r"| HG\*1 + SAAT |")]
    _, _, paper, ours, difference, *_ = (cell.strip() for cell in row.split("|"))
    assert paper == "4.61"
    folders = sorted((tmp_path / "runs").glob("hg1-paper-drawn-seed?-*"))
    means = [
        100 * np.nanmean(json.loads((folder / "errors_cofw68.json").read_text()))
        for folder in folders
    ]
    assert ours == f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f}"
    assert difference == f"{np.mean(means) - 4.61:+.2f}"
    assert "compare our rows with each other only" in printed
    assert "[^t4-1]:" in printed
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("checkpoints"))


def test_a_finished_table_is_made_again_without_training(tmp_path, capsys):
    words = ["--table", "7", *SMALLEST, "--output", str(tmp_path)]
    assert script.main(words) == 0
    first = capsys.readouterr()
    assert ", seed 0" in first.err
    assert script.main(words) == 0
    second = capsys.readouterr()
    assert ", seed 0" not in second.err
    assert first.out == second.out


def test_other_settings_make_other_runs(tmp_path, capsys):
    words = ["--table", "4", "--detectors", "mdm", "--seeds", "1", "--output", str(tmp_path)]
    for steps in ("1", "2"):
        assert script.main([*words, "--steps", steps]) == 0
        assert ", seed 0" in capsys.readouterr().err


def test_killed_and_started_again_it_ends_with_the_same_table(tmp_path):
    words = ["--table", "4", "--detectors", "hg1", "--seeds", "1", "--steps", "8"]
    words += ["--device", "cpu"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert script.main([*words, "--output", str(straight)]) == 0
    assert killed_and_restarted(words, killed, kills=2, seed=3) == 2
    assert (killed / "table_4.md").read_bytes() == (straight / "table_4.md").read_bytes()


@pytest.mark.parametrize("stop", [2, 7, 9])
def test_an_observed_run_that_is_stopped_goes_on_to_the_same_errors(tmp_path, monkeypatch, stop):
    from lab.trainer import Trainer

    budget = replace(BUDGETS["smoke"].with_steps(8), checkpoint_every=3, observe_every=2)
    budget = replace(budget, observe_until=10)
    benches = [bench_in(tmp_path / name, budget=budget) for name in ("straight", "stopped")]
    (run,) = benches[0].runs_of(Ours("hg1", "augment", "helen", watched=True))
    straight = benches[0].observations(run)
    step = Trainer.step

    def stopping(trainer, number):
        if number == stop:
            raise KeyboardInterrupt
        return step(trainer, number)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            benches[1].observations(run)
    again = bench_in(tmp_path / "stopped", budget=budget).observations(run)
    assert len(straight) == len(again) == 2
    for found, expected in zip(again, straight, strict=True):
        assert torch.equal(found["test"], expected["test"])


def test_an_observed_run_is_measured_after_it_has_converged(tmp_path):
    bench = bench_in(tmp_path, seeds=1)
    (run,) = bench.runs_of(Ours("hg1", "plain", "helen", watched=True))
    assert len(bench.observations(run)) == 2  # after 3 steps and after 4
    steps = [path.name for path in sorted((bench.folder(run) / "observations").iterdir())]
    assert steps == ["step_00000003.json", "step_00000004.json"]
    first, last = (found["test"] for found in bench.observations(run))
    assert not torch.equal(first, last)


def test_the_size_of_the_networks_is_counted(tmp_path, capsys):
    assert script.main(["--table", "8", "--detectors", "hg1", "--output", str(tmp_path)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "| 23.3 |" in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert "3.78" in cells
    assert any(7.5 < float(cell) < 8.5 for cell in cells if cell.startswith(("7.", "8.")))


def test_figures_show_all_ways(tmp_path, capsys):
    words = ["--figure", "all", *SMALLEST, "--output", str(tmp_path)]
    assert script.main(words) == 0
    printed = capsys.readouterr().out
    for number in (3, 4, 5):
        assert (tmp_path / f"figure_{number}.png").stat().st_size > 10_000
        assert f"figure_{number}.png" in printed
    assert printed.count("by `augment`") == 3


def test_weights_take_the_place_of_training(tmp_path, capsys):
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    HourglassNet(68, width=8, depth=1, out_stride=2).save(path)
    bench = bench_in(tmp_path / "runs", seeds=3, weights={"hg1-plain-drawn": path})
    (run,) = bench.runs_of(Ours("hg1", "plain"))
    errors = bench.errors(run, "300w")
    assert len(errors["full"]) == 16
    assert bench.detector(run).arguments["out_stride"] == 2
    assert not list(bench.folder(run).glob("*.safetensors"))
    words = ["--table", "1", "--detectors", "hg1", *SMALLEST, "--output", str(tmp_path / "runs")]
    assert script.main([*words, "--weights", f"hg1-plain-drawn={path}"]) == 0
    assert "however they were trained: hg1-plain-drawn." in capsys.readouterr().out


# What is refused.


def saved(folder, detector):
    path = folder / "detector.safetensors"
    detector.save(path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "`--table` or `--figure` must say what to make"),
        (("--table", "10"), "`--table` must be one of 1, 2, 3, 4, 5, 6, 7, 8, 9 or all"),
        (("--figure", "1"), "`--figure` must be one of 3, 4, 5 or all"),
        (("--table", "1", "--seeds", "0"), "`seeds` must be"),
        (("--table", "1", "--steps", "0"), "`steps` must be"),
        (("--table", "1", "--workers", "-1"), "`--workers` must not be negative"),
        (("--table", "1", "--data", "pts"), "`--root` must name the folder"),
        (("--table", "1", "--root", "there"), "`--root` must be left out"),
        (("--table", "1", "--data", "pts", "--root", "nowhere"), "nowhere"),
        (("--table", "1", "--weights", "hg1-plain-drawn"), "`--weights` must be NAME=FILE"),
        (("--table", "1", "--data", "real", "--root", "nowhere"), "Ask for the set at"),
    ],
)
def test_it_refuses_in_one_line_before_anything_begins(tmp_path, capsys, words, message):
    output = tmp_path / "out"
    assert script.main([*words, "--output", str(output)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("hg1-plain-drawn", lambda: HourglassNet(68, 2, width=8, depth=1), "of 1 stacks for hg1"),
        ("hg1-plain-drawn", lambda: HourglassNet(29, width=8, depth=1), "detector of 68 landmarks"),
        ("mdm-plain-drawn", lambda: HourglassNet(68, width=8, depth=1), "written by `MDM.save`"),
        ("hg9-plain-drawn", lambda: HourglassNet(68, width=8, depth=1), "must name a run of what"),
    ],
    ids=["stacks", "landmarks", "architecture", "name"],
)
def test_weights_of_another_detector_are_refused(tmp_path, capsys, name, make, message):
    path, output = saved(tmp_path, make()), tmp_path / "out"
    words = ["--table", "1", "--weights", f"{name}={path}", "--output", str(output)]
    assert script.main(words) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_weights_cannot_be_observed_while_they_train(tmp_path, capsys):
    path = saved(tmp_path, HourglassNet(68, width=8, depth=1))
    name = "hg1-plain-drawn-watched"
    assert script.main(["--table", "9", "--weights", f"{name}={path}"]) == 2
    assert "observed while it trains" in capsys.readouterr().err


def test_two_processes_do_not_work_in_one_folder(tmp_path, capsys):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        words = ["--table", "8", "--detectors", "hg1", "--output", str(tmp_path)]
        assert script.main(words) == 2
    assert "is in use" in capsys.readouterr().err


def test_footnotes_are_numbered_as_a_reader_meets_them():
    for number, table in TABLES.items():
        text = format_paper_table(table, table.rows, lambda row, column: "", about=())
        met = list(dict.fromkeys(re.findall(rf"\[\^t{number}-(\d+)\]", text)))
        assert met == [str(place + 1) for place in range(len(met))]


def test_a_number_and_a_word_are_printed_as_they_are():
    table = TABLES[8]
    row = next(row for row in table.rows if row.ours is not None)
    text = format_paper_table(
        table, [row], lambda row, column: "no" if column.measure == "sub_nets" else [1.5], about=[]
    )
    (line,) = [line for line in text.splitlines() if line.startswith(r"| HG\*1")]
    assert line.endswith("| no | no | – |")
    assert "| 23.3 | 1.5 | -21.8 |" in line
