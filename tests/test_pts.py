"""The `.pts` format: what is read, what is written, what is refused."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advaug.datasets import read_pts, write_pts
from advaug.errors import DatasetError, ShapeError

PLAIN = "version: 1\nn_points: 2\n{\n1 1\n10.5 20\n}\n"


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "face.pts"
    path.write_bytes(text.encode(encoding))
    return path


def test_the_top_left_pixel_is_0_0(tmp_path):
    landmarks = read_pts(written(tmp_path, PLAIN))
    assert landmarks.dtype == np.float64
    assert landmarks.tolist() == [[0, 0], [9.5, 19]]


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nn_points:  2\n{\n1 1\n10.5 20\n}\n",
        "version:1\nn_points:2\n{\n1 1\n10.5 20\n}",
        "version: 1\r\nn_points: 2\r\n{\r\n1 1\r\n10.5 20\r\n}\r\n",
        "version: 1\n n_points : 2 \n  {\n\t1\t1 \n\n 1.05e1   20.0\n  }\n\ntrailing words\n",
        "{\n1 1\n10.5 20\n}\n",
    ],
    ids=["wide", "narrow", "windows", "blanks", "no header"],
)
def test_spacing_does_not_matter(tmp_path, text):
    assert read_pts(written(tmp_path, text)).tolist() == [[0, 0], [9.5, 19]]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    assert len(read_pts(written(tmp_path, PLAIN, encoding="utf-8-sig"))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line `{`"),
        ("1 1\n2 2\n", "a line `{`"),
        ("n_points: 1\n{\n1 1\n", "a line `}`"),
        ("n_points: 2\n{\n1 1\n}\n", "got 1 with `n_points: 2`"),
        ("n_points: many\n{\n1 1\n}\n", "line 1, .*'n_points: many'"),
        ("n_points: 2\n{\n1 1\nnose 2\n}\n", "line 4, .*'nose 2'"),
        ("n_points: 1\n{\n1 2 3\n}\n", "line 3, .*'1 2 3'"),
        ("n_points: 1\n{\n1\n}\n", "line 3, .*'1'"),
        ("n_points: 1\n{\n1 nan\n}\n", "line 3, .*'1 nan'"),
        ("n_points: 1\n{\n1 inf\n}\n", "line 3, .*'1 inf'"),
    ],
)
def test_a_broken_file_is_refused_with_its_name(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DatasetError, match=message) as caught:
        read_pts(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.pts"):
        read_pts(tmp_path / "absent.pts")
    (tmp_path / "binary.pts").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(DatasetError, match=r"binary\.pts.*text file"):
        read_pts(tmp_path / "binary.pts")


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=70)
)
def test_reading_gives_back_what_was_written(tmp_path_factory, points):
    path = tmp_path_factory.mktemp("pts") / "face.pts"
    write_pts(path, points)
    found = read_pts(path, negative="position")
    np.testing.assert_allclose(found, points, rtol=0, atol=1e-11)


def test_writing_leaves_one_file_in_the_documented_format(tmp_path):
    write_pts(tmp_path / "face.pts", [[0, 0], [9.5, 19]])
    assert (tmp_path / "face.pts").read_text() == (
        "version: 1\nn_points: 2\n{\n1.0 1.0\n10.5 20.0\n}\n"
    )
    assert os.listdir(tmp_path) == ["face.pts"]


def test_writing_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = written(tmp_path, PLAIN)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_pts(path, [[5, 5]])
    assert path.read_text() == PLAIN
    assert os.listdir(tmp_path) == ["face.pts"]


def test_writing_refuses_what_the_format_cannot_hold(tmp_path):
    with pytest.raises(ShapeError, match=r"must be \(N, 2\), but got \(1, 2, 2\)"):
        write_pts(tmp_path / "a.pts", [[[1, 1], [2, 2]]])
    with pytest.raises(ValueError, match="at index 1"):
        write_pts(tmp_path / "a.pts", [[1, 1], [float("nan"), 2]])
    assert os.listdir(tmp_path) == []
