"""The report in a real browser, where there is one: it needs no network and fits every screen."""

import json
import re
import shutil
import subprocess

import pytest
from measured import SIDE, HalfHidden, hourglass

from advaug.datasets import SyntheticFaces
from advaug.evaluation.html import write_html
from advaug.evaluation.loaded import LoadedDetector, decode_output
from advaug.evaluation.measuring import measure
from advaug.evaluation.planning import Plan
from advaug.evaluation.sets import EvaluationSet
from advaug.evaluation.summary import Protocol
from advaug.pixels import PixelSpec
from advaug.schemes import FACE_68

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
QUIET += ("--disable-component-update", "--disable-sync", "--no-first-run")
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"
WIDTHS = (390, 1280)
# The report forbids scripts, so another page holds it in frames of several widths and looks.
PROBE = """<!doctype html><body><script>
const found = [];
for (const width of %s) {
  const frame = document.createElement('iframe');
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = 'report.html';
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const style = name => frame.contentWindow.getComputedStyle(page.querySelector(name));
    found.push({
      width,
      overflow: root.scrollWidth - root.clientWidth,
      pictures: page.images.length,
      loaded: [...page.images].filter(image => image.naturalWidth > 0).length,
      charts: [...page.querySelectorAll('.chart')].map(chart => chart.clientWidth),
      fetched: frame.contentWindow.performance.getEntriesByType('resource').map(e => e.name),
      text: root.innerText,
      colours: [style('body').backgroundColor, style('body').color],
    });
    if (found.length == %d) {
      document.title = 'done';
      document.body.innerHTML = '<pre></pre>';
      document.querySelector('pre').textContent = JSON.stringify(found);
    }
  };
  document.body.append(frame);
}
</script></body>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report on a set with awkward names that knows what is occluded."""
    folder = tmp_path_factory.mktemp("report")
    network = hourglass()
    detector = LoadedDetector(
        "a <b>detector</b> & co", network, decode_output("heatmaps"), PixelSpec(), "0"
    )
    faces = SyntheticFaces(6, split="val", image_size=SIDE)
    names = ["</script><script>alert(1)</script>.png", "a" * 150 + ".png", *"cdef"]
    subsets = {"full": range(6), "hard & dark": range(3, 6)}
    found_set = EvaluationSet('faces "at hand"', HalfHidden(faces), subsets, names, FACE_68)
    plan = Plan(
        Protocol("inter_ocular"),
        conditions=("clean", "masked", "landmark-c"),
        kinds=("fog", "jpeg"),
        image_size=SIDE,
        workers=0,
    )
    evaluation = measure(detector, found_set, subsets, plan, folder, say=print)
    write_html(evaluation, folder / "report.html", worst=6)
    return folder / "report.html"


def browser():
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def look(report, folder, *words):
    """What the probe finds, by the width of the page."""
    probe = report.with_name("probe.html")
    probe.write_text(PROBE % (list(WIDTHS), len(WIDTHS)))
    done = subprocess.run(
        [
            *(browser(), *QUIET, NO_NETWORK, f"--user-data-dir={folder}", *words),
            *("--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"),
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:2000] + done.stderr[-2000:]
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return {page["width"]: page for page in json.loads(text)}


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    if browser() is None:
        pytest.skip("no Chromium here")
    return look(report, tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_loads_and_nothing_is_fetched(pages, width):
    page = pages[width]
    assert page["pictures"] == page["loaded"] == 12, "all six pictures, clean and masked"
    assert page["fetched"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(pages, width):
    assert pages[width]["overflow"] == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_are_as_wide_as_can_be_read(pages, width):
    charts = pages[width]["charts"]
    assert len(charts) == 6, "curves, dots and faces, clean and masked"
    assert all(280 <= chart <= min(width, 700) for chart in charts)


def test_names_are_shown_as_they_are(pages):
    text = pages[1280]["text"]
    for name in ("a <b>detector</b> & co", "</script><script>alert(1)</script>.png", "hard & dark"):
        assert name in text


def test_it_is_dark_where_the_reader_likes_it_dark(report, pages, tmp_path):
    light = pages[1280]["colours"]
    dark = look(report, tmp_path, "--blink-settings=preferredColorScheme=0")[1280]["colours"]
    assert light[0] == "rgb(255, 255, 255)"
    assert brightness(dark[0]) < 60 < 200 < brightness(dark[1])
    assert brightness(light[1]) < 60


def brightness(colour):
    return max(int(number) for number in re.findall(r"\d+", colour)[:3])


def test_the_file_names_no_place_in_the_network(report):
    text = report.read_text()
    assert re.findall(r"""(?:src|href)=["'](?!data:)[^"']*""", text) == []
    assert re.findall(r"url\(", text) == []
    assert "default-src 'none'" in text


def test_it_shows_what_is_occluded_and_how_it_was_measured(report):
    text = report.read_text()
    assert "NME occluded %" in text
    assert 'class="true covered"' in text
    assert "between the outer corners of the eyes (inter-ocular)" in text
    assert "fog" in text
