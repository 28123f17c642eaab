"""Who may import whom, what an import does to the process, and what is public."""

import ast
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import advaug
from advaug import functional

ROOT = Path(advaug.__file__).parent
CORE = sorted(path for path in ROOT.glob("*.py") if path.name != "cli.py")
ROOMS = ("augment", "baselines", "datasets", "detectors", "evaluation", "integrations", "training")
HEAVY = ("timm", "torchvision", "accelerate", "lightning", "matplotlib", "scipy", "PIL", "tqdm")

PROBE = """
import json, random, sys, threading, warnings
import numpy, torch

def state():
    return [
        str(torch.get_default_dtype()), str(torch.get_default_device()), torch.get_num_threads(),
        torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark,
        torch.get_rng_state().tolist(), repr(random.getstate()), repr(numpy.random.get_state()),
        repr(numpy.geterr()), repr(warnings.filters), threading.active_count(), sys.path,
    ]

torch.manual_seed(3); random.seed(3); numpy.random.seed(3)
import kornia  # a dependency whose own manners are not ours to test
loaded, before = set(sys.modules), state()
import advaug
print(json.dumps([sorted(set(sys.modules) - loaded), state() == before]))
"""


@pytest.fixture(scope="module")
def imported():
    """The modules that `import advaug` adds, and whether it has left the global state alone."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_the_library_loads_no_heavy_package(imported):
    modules, _ = imported
    assert [name for name in modules if name.split(".")[0] in HEAVY] == []


def test_importing_the_library_loads_no_room(imported):
    modules, _ = imported
    assert "advaug.adversary" in modules
    assert [name for name in modules if name.startswith(tuple(f"advaug.{r}" for r in ROOMS))] == []


def test_importing_the_library_changes_no_global_state(imported):
    assert imported[1]


def imports_of(path):
    """Dotted names that a file imports anywhere, functions and type checks included."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_never_imports_a_room(path):
    forbidden = tuple(f"advaug.{room}" for room in ROOMS) + HEAVY
    assert [name for name in imports_of(path) if name.startswith(forbidden)] == []


def test_the_core_is_all_there():
    named = {"adversary", "attacker", "discriminator", "functional", "heatmaps", "isolation"}
    assert named | {"tasks", "pixels", "controller", "batch_norm"} <= {path.stem for path in CORE}


PUBLIC = [
    *("AdversarialBatch", "CoordinateTask", "HeatmapTask", "LandmarkTask", "PatchDiscriminator"),
    *("PixelSpec", "SampleAdaptiveAdversary", "UNetAttacker"),
]
EQUATIONS = [
    *("adaptive_beta", "attacker_adversarial_loss", "discriminator_loss", "feedback_loss"),
    *("heatmap_error", "semantic_mask", "semantic_reconstruction_loss", "ssim", "structure_map"),
]


def test_the_public_names_of_the_contract_are_there():
    assert set(PUBLIC) <= set(advaug.__all__)
    assert set(EQUATIONS) <= set(functional.__all__)


@pytest.mark.parametrize(
    "path",
    [path for path in CORE if path.stem == "__init__" or not path.stem.startswith("_")],
    ids=lambda path: path.name,
)
def test_every_name_in_all_exists_and_is_documented(path):
    name = "advaug" if path.stem == "__init__" else f"advaug.{path.stem}"
    module = __import__(name, fromlist=["*"])
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public), public
        held = getattr(module, public)
        if inspect.isclass(held) or inspect.isfunction(held):
            assert held.__doc__, public


def test_every_public_function_of_the_equations_is_in_all():
    here = [
        name
        for name, held in vars(functional).items()
        if inspect.isfunction(held) and held.__module__ == functional.__name__
    ]
    public = {name for name in here if not name.startswith("_")}
    assert public == set(functional.__all__)


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_equation_names_its_place_in_the_paper(name):
    doc = inspect.getdoc(getattr(functional, name))
    assert "[SAAT]" in doc
    assert "Eq. " in doc


def test_the_package_is_typed():
    assert (ROOT / "py.typed").exists()
