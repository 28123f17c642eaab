"""Files that are there as a whole or not at all."""

import pytest

from advaug.base.files import whole_file


def test_a_file_has_its_name_only_when_all_is_written(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["numbers.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as temporary:
        temporary.write_text("h\xe4lf", encoding="ascii")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["numbers.txt"]
