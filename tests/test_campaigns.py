"""A seeded tenth of each campaign; the page on robustness has the counts of the whole."""

import pytest
from campaigns import bad_batches, damaged_inputs, full_disks, kills

SHARED = 10  # 1 of so many is run here


def none_of(counts, names):
    return {name: counts[name] for name in names} == dict.fromkeys(names, 0)


def test_damaged_inputs_are_read_or_refused_as_promised():
    counts, others = damaged_inputs.campaign(10_000 // SHARED, seed=1)
    assert others == []
    assert none_of(counts, damaged_inputs.MUST_NOT)
    assert counts["inputs"] == 1000
    for way in ("picture", "pts", "coco", "mpii", "weights"):
        assert counts[f"{way}: refused as promised"] > 0
        assert counts[f"{way}: read"] > 0


def test_killed_commands_go_on_to_the_same_bytes():
    counts = kills.campaign(100 // SHARED, seed=1, start=kills.forked, faces=6)
    assert counts.pop("kills") == 10
    assert counts.pop("killed while it ran") > 0
    assert none_of(counts, list(counts))


def test_full_disks_are_named_and_nothing_is_half_written():
    try:
        counts = full_disks.campaign(50 // SHARED, seed=1, faces=6)
    except PermissionError as error:
        pytest.skip(f"disks may not be mounted here: {error}")
    assert counts.pop("disks") == counts.pop("that were full") == 5
    assert none_of(counts, list(counts))


def test_bad_batches_are_refused_and_leave_nothing_behind():
    counts, others = bad_batches.campaign(300 // SHARED, seed=1)
    assert others == []
    assert none_of(counts, bad_batches.MUST_NOT)
    assert counts["refused as promised"] > 10
