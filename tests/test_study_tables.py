"""A study's tables: means and spreads, what was equal, subsets and hidden landmarks."""

import json

import numpy as np
import pytest
from lab.study.report import write_report


def write_study(folder, errors, *, pictures=20, **settings):
    """Two arms of two seeds and one of the committee, each with one number for every picture."""
    names = ["clean", "masked", "fog/2", "fog/4"]
    held, results = {}, []
    for (arm, seed), level in errors.items():
        values = np.full((4, pictures), level, dtype=np.float32) * np.array([[1], [2], [3], [5]])
        values[:, -1] *= 2 if arm == "committee" else 1
        held |= {f"{arm}-{seed}/{kind}": values for kind in ("inter_ocular", "box")}
        held[f"{arm}-{seed}/conditions"] = np.array(names)
        results.append({"arm": arm, "seed": seed, "steps": 9, "planned": 9, "way": "replayed"})
    mask = [place < 2 for place in range(pictures)]
    plan = {
        "settings": {
            "width": 8,
            "image_size": 32,
            "batch_size": 4,
            "precision": "no",
            "measured": "test",
            **settings,
        },
        "steps": {"plain": 9, "other": 9},
        "machine": "a machine",
        "versions": {"torch": "2"},
        "seconds": 3,
        "processes": 2,
        "costs": {"steps": {"plain": 0.01, "other": 0.02}, "throughput": 1.5},
    }
    study = {"plan": plan, "results": results, "names": ["x"] * pictures}
    (folder / "study.json").write_text(json.dumps(study | {"subsets": {"large pose": mask}}))
    np.savez(folder / "errors.npz", **held)


def test_tables_show_means_and_spreads(tmp_path):
    runs = {("plain", 0): 0.02, ("plain", 1): 0.04, ("other", 0): 0.01, ("committee", 9): 0.03}
    write_study(tmp_path, runs)
    write_report(tmp_path)
    text = (tmp_path / "study.md").read_text()
    assert "| plain | 3.00 ± 1.41 | 3.00 ± 1.41 | 3.00 ± 1.41 | 3.00 ± 1.41 |" in text
    assert "| other | 1.00 | 1.00 | 1.00 | 1.00 |" in text
    assert "| fog | 12.00 ± 5.66 | 4.00 |" in text
    assert "| other | 20.0 | 2.00 | 9 | 0 | replayed |" in text
    assert "| committee | 3" not in text


@pytest.mark.parametrize(
    ("equal", "said"),
    [
        ({}, "Equal time: each run takes as many steps as cost 3 s"),  # before there was a choice
        ({"equal": "time"}, "Equal time: each run takes as many steps as cost 3 s"),
        ({"equal": "steps"}, "Equal steps, not equal time: each run takes 9 steps; those of the"),
    ],
)
def test_tables_say_what_was_equal(tmp_path, equal, said):
    write_study(tmp_path, {("plain", 0): 0.02}, **equal)
    write_report(tmp_path)
    assert said in (tmp_path / "study.md").read_text()


def test_arms_are_compared_with_plain_seed_by_seed(tmp_path):
    runs = {("plain", 0): 0.02, ("plain", 1): 0.04, ("other", 0): 0.01, ("other", 1): 0.05}
    write_study(tmp_path, runs | {("other", 7): 0.01})
    write_report(tmp_path)
    text = (tmp_path / "study.md").read_text()
    # Clean: 1 % less 2 %, and 5 % less 4 %; seed 7 has no plain run.
    assert "| other | 2 | 0.00 ± 1.41 | 0.00 ± 1.41 | 0.00 ± 1.41 | 0.00 ± 2.83 |" in text
    assert "**Fewer than 3 seeds: no conclusion.**" in text
    (tmp_path / "more").mkdir()
    three = {(arm, seed): 0.01 + seed / 100 for arm in ("plain", "other") for seed in range(3)}
    write_study(tmp_path / "more", three)
    write_report(tmp_path / "more")
    assert "no conclusion" not in (tmp_path / "more" / "study.md").read_text()


def test_a_set_too_small_for_a_tenth_has_its_other_tables(tmp_path):
    write_study(tmp_path, {("plain", 0): 0.02, ("committee", 9): 0.03}, pictures=9)
    write_report(tmp_path)
    text = (tmp_path / "study.md").read_text()
    assert "hardest tenth" not in text
    assert "| plain | 2.00 | 2.00 | 2.00 |" in text


def test_hidden_landmarks_stand_apart_where_they_are_known(tmp_path):
    runs = {("plain", 0): 0.02, ("other", 0): 0.01}
    write_study(tmp_path, runs)
    write_report(tmp_path)
    assert "hidden" not in (tmp_path / "study.md").read_text()
    with np.load(tmp_path / "errors.npz") as held:
        errors = dict(held)
    for (arm, seed), level in runs.items():
        rows = np.full((4, 20), level)
        rows[:, 3:] = np.nan  # pictures in which nothing is hidden
        errors |= {f"{arm}-{seed}/visible": rows / 2, f"{arm}-{seed}/occluded": 2 * rows}
    np.savez(tmp_path / "errors.npz", **errors)
    write_report(tmp_path)
    text = (tmp_path / "study.md").read_text()
    assert "| large pose, box | landmarks in sight, box | hidden landmarks, box |" in text
    assert "| plain | 2.00 | 2.00 | 2.00 | 1.00 | 4.00 |" in text
    assert "| other | 1 | -1.00 | -1.00 | -1.00 | -0.50 | -2.00 |" in text


def test_without_a_committee_there_is_no_hardest_tenth(tmp_path):
    write_study(tmp_path, {("plain", 0): 0.02})
    write_report(tmp_path)
    assert "hardest tenth" not in (tmp_path / "study.md").read_text()
