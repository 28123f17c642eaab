"""What the documents say runs, and what they name exists."""

import importlib
import re
from pathlib import Path

import pytest

import advaug

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/conventions.md",
        "docs/corruptions.md",
        "docs/detectors.md",
        "docs/distributed.md",
        "docs/pose.md",
    ],
)
def test_the_snippets_of_a_page_run_in_their_order(page):
    blocks = BLOCK.findall((REPOSITORY / page).read_text())
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_readme_marks_three_new_lines():
    (block, *_) = BLOCK.findall((REPOSITORY / "README.md").read_text())
    assert len([line for line in block.splitlines() if "# new" in line]) == 3


def named_in_the_map():
    text = (REPOSITORY / "docs" / "method.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [
        (name, test)
        for line in table
        for name in re.findall(r"`([\w.]+)`", line.split("|")[3])
        for test in re.findall(r"`(test_\w+\.py)`", line.split("|")[4])
    ]


@pytest.mark.parametrize(("name", "test"), named_in_the_map())
def test_what_the_map_of_the_method_names_exists(name, test):
    found = advaug
    for part in name.split("."):
        found = (
            importlib.import_module("advaug.functional")
            if part == "functional"
            else getattr(found, part)
        )
    assert callable(found)
    assert (REPOSITORY / "tests" / test).exists()


def test_links_between_the_documents_lead_somewhere():
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
