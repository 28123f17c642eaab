"""Outside the core, too, every message names a fix that works when it is followed literally.

The tables are in `messages/`. Fixes of messages about pictures' orientation, white and size, the
left and right of names, and the number of points are followed in `test_foreign_data`,
`test_safe_files` and `test_fixes`.
"""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from messages import (
    changes,
    detectors,
    face_sets,
    folders,
    measures,
    people,
    reading,
    scoring,
)

from advaug.datasets import Decoding
from advaug.datasets.readers.mat import read_mat
from advaug.datasets.readers.matlab import open_hdf5, read_numbers
from advaug.datasets.readers.video_frames import index_video
from advaug.evaluation import load_onnx
from advaug.evaluation.html import require_report
from advaug.evaluation.pose import require_pycocotools
from advaug.evaluation.report import require_matplotlib

TABLES = [changes.CASES, detectors.CASES, measures.CASES, reading.CASES, scoring.CASES]
IN_FOLDERS = [
    folders.CASES,
    people.CASES,
    face_sets.CASES,
    measures.IN_FOLDERS,
    reading.IN_FOLDERS,
    scoring.IN_FOLDERS,
]


def rows(tables):
    """The rows of all tables, none of which hides another."""
    found = [pytest.param(case, id=name) for table in tables for name, case in table.items()]
    assert len({each.id for each in found}) == len(found)
    return found


@pytest.fixture(autouse=True)
def _small_sets(monkeypatch):
    for reader, name, sizes in face_sets.SIZES:
        monkeypatch.setattr(reader, name, sizes)


@pytest.mark.parametrize("case", rows(TABLES))
def test_the_fix_of_a_message_works(case):
    with pytest.raises(case.kind, match=case.says):
        case.wrong()
    case.fixed()


@pytest.mark.parametrize("case", rows(IN_FOLDERS))
def test_the_fix_of_a_message_about_files_works(case, tmp_path):
    with pytest.raises(case.kind, match=case.says):
        case.wrong(tmp_path)
    case.fixed(tmp_path)


@pytest.mark.parametrize("name", face_sets.TURNED)
@pytest.mark.parametrize("orientation", ["stored", "exif"])
def test_every_reader_of_picture_files_has_the_choice_that_its_warning_names(
    name, orientation, tmp_path
):
    make, reader = face_sets.TURNED[name]
    face_sets.turn(make(tmp_path))
    with pytest.warns(UserWarning, match="has|have an EXIF orientation") as warned:
        plain = reader(tmp_path, image_size=16)
    assert warned[0].filename == __file__
    words = r"`decoding=(Decoding\(orientation=\"exif\"\))` \(`--orientation exif`\)"
    fix = re.search(words, str(warned[0].message)).group(1).replace("exif", orientation)
    chosen = reader(
        tmp_path, image_size=16, decoding=eval(fix, {"Decoding": Decoding})
    )  # without a warning, or it fails
    assert torch.equal(chosen[0].image, plain[0].image) == (orientation == "stored")


# The packages that a message says how to install, and what asks for each.
PACKAGES = {
    "av": index_video,
    "h5py": lambda file: open_hdf5(file).__enter__(),
    "scipy": lambda file: read_numbers(file, {}),
    "scipy.io": lambda file: read_mat(file, "boxes", rule="be a file", fix="Copy it."),
    "onnxruntime": lambda file: load_onnx(file, "cpu"),
    "pycocotools": lambda file: require_pycocotools(),
    "matplotlib": lambda file: require_matplotlib(),
    "jinja2": lambda file: require_report(),
    "tqdm": lambda file: require_report(),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_extra_that_a_message_says_to_install_has_the_package(package, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="must be installed") as caught:
        PACKAGES[package](tmp_path / "file")
    extra = re.search(r"`pip install (['\"])advaug\[(\w+)\]\1`", str(caught.value)).group(2)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    packages = project["project"]["optional-dependencies"][extra]
    assert package.split(".")[0] in {re.split("[<>=]", each)[0] for each in packages}
