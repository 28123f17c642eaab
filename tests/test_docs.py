"""What the documents say runs, and what they name exists."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import advaug

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted(DOCS.rglob("*.md")),
]
LONGEST_PAGE = 150  # lines: short enough to be read to its end
ROOMS = ("advaug", "baselines", "detectors", "augment", "datasets", "evaluation", "training")


def name_of(page):
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=name_of
)
def test_the_snippets_of_a_page_run_in_their_order(page):
    names = {}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, name_of(page), "exec"), names)


def test_the_pages_that_promise_it_have_snippets():
    promising = [page for page in PAGES if "executed by the tests" in page.read_text()]
    assert len(promising) > 5
    assert [name_of(page) for page in promising if not BLOCK.search(page.read_text())] == []


def test_the_readme_marks_three_new_lines():
    (block, *_) = BLOCK.findall((REPOSITORY / "README.md").read_text())
    assert len([line for line in block.splitlines() if "# new" in line]) == 3


def test_every_page_is_short():
    lengths = {name_of(page): len(page.read_text().splitlines()) for page in PAGES}
    del lengths["CHANGELOG.md"]
    assert {name: length for name, length in lengths.items() if length > LONGEST_PAGE} == {}
    assert lengths["README.md"] <= 110


def named_in_the_map():
    text = (DOCS / "method.md").read_text()
    table = [line for line in text[text.index("## The map") :].splitlines() if line[:1] == "|"][2:]
    return [
        (name, test)
        for line in table
        for name in re.findall(r"`([\w.]+)`", line.split("|")[3])
        for test in re.findall(r"`(test_\w+\.py)`", line.split("|")[4])
    ]


def test_the_map_names_all_nine_equations():
    text = (DOCS / "method.md").read_text()
    numbers = set(re.findall(r"^\| (\d) \|", text, re.MULTILINE))
    assert numbers == {str(number) for number in range(1, 10)}


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
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{name_of(page)}: {link}"


def test_files_that_the_documents_name_exist():
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # names what once was
            continue
        for name in re.findall(r"\b(?:examples|tests)/[\w/]+\.(?:py|md)\b", page.read_text()):
            assert (REPOSITORY / name).exists(), f"{name_of(page)}: {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_lists_every_public_name(room):
    module = "advaug" if room == "advaug" else f"advaug.{room}"
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    if f".. automodule:: {module}\n   :members:" in pages:
        return  # lists them by itself
    public = importlib.import_module(module).__all__
    assert public
    assert [name for name in public if f":: {module}.{name}\n" not in pages] == []


def test_the_reference_lists_every_equation():
    page = (DOCS / "api" / "functional.rst").read_text()
    names = importlib.import_module("advaug.functional").__all__
    assert [name for name in names if f":: advaug.functional.{name}\n" not in page] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: a link, an anchor or a reference that leads nowhere stops the build."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    loads = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*""")
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    assert {page.name: found for page in pages if (found := loads.findall(page.read_text()))} == {}


def test_equations_of_docstrings_and_pages_are_drawn(site):
    equations = (site / "api" / "functional.html").read_text()
    assert equations.count("<math") >= 7
    assert "<mfrac>" in equations  # Eq. 3
    for page in [equations, (site / "method.html").read_text(), (site / "modes.html").read_text()]:
        assert "<math" in page
        assert "$$" not in page
