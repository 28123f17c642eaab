"""CI runs all of the core with the oldest dependencies that pyproject.toml declares."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
# Test files about the core import nothing else of the package. These two need extras.
EXTRAS = ("test_docs.py", "test_third_party.py")
OUTSIDE = (
    "augment",
    "baselines",
    "cli",
    "datasets",
    "detectors",
    "evaluation",
    "integrations",
    "schemes",
    "training",
)


def requirements(lines):
    return {line.name: line for line in map(Requirement, lines)}


def lines_of(name):
    text = (ROOT / ".ci" / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {
        name: [Version(part.version) for part in declared.specifier if part.operator == ">="]
        for name, declared in requirements(project["dependencies"]).items()
    }
    oldest = requirements(lines_of("oldest.txt"))
    pinned = {
        name: [Version(re.fullmatch(r"==([\d.]+)", str(pin.specifier))[1])]
        for name, pin in oldest.items()
    }
    assert pinned.pop("torchvision")  # timm's, for this torch
    assert pinned == bounds


def imported(path):
    """Every dotted name that a file imports anywhere."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def is_of_the_core(path):
    names = imported(path)
    ours = [name for name in names if name.split(".")[0] in ("advaug", "toys", "lab")]
    outside = (*(f"advaug.{room}" for room in OUTSIDE), "lab")
    inside = not any(name.startswith(outside) for name in ours)
    return bool(ours) and inside and path.name not in EXTRAS


def test_the_core_s_tests_all_run_with_the_oldest_versions():
    core = [path for path in TESTS.rglob("test_*.py") if is_of_the_core(path)]
    assert len(core) > 10
    missing = {str(path.relative_to(ROOT)) for path in core} - set(lines_of("core.txt"))
    assert missing == set()


@pytest.mark.parametrize("name", lines_of("core.txt"))
def test_what_the_list_names_is_there(name):
    assert (ROOT / name).is_file()
