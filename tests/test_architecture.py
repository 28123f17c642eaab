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
MODULES = sorted(ROOT.rglob("*.py"))
# The core is the method: everything else may import it, and it imports none of them.
OUTSIDE = (
    "augment",
    "baselines",
    "datasets",
    "detectors",
    "evaluation",
    "integrations",
    "training",
)
CORE = [
    path
    for path in MODULES
    if path.relative_to(ROOT).parts[0] not in (*OUTSIDE, "cli", "cli.py", "__main__.py")
]
# From the bottom to the top: a room imports its own and those before it.
LAYERS = ("base", "view", "networks", "step")
HEAVY = ("timm", "torchvision", "accelerate", "lightning", "matplotlib", "scipy", "PIL", "tqdm")
# What a public feature may need, inside the function that needs it and nowhere else.
LAZY = ("accelerate", "matplotlib", "tensorboard", "torch.utils.tensorboard", "tqdm", "psutil")

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
    # torch 2.9 warns whoever asks for the precision of float32 products, as the probe does.
    quiet = "ignore:Please use the new API settings:UserWarning"
    command = [sys.executable, "-W", quiet, "-c", PROBE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_the_library_loads_no_heavy_package(imported):
    modules, _ = imported
    assert [name for name in modules if name.split(".")[0] in HEAVY] == []


def test_importing_the_library_loads_no_room(imported):
    modules, _ = imported
    assert "advaug.adversary" in modules
    assert [
        name for name in modules if name.startswith(tuple(f"advaug.{r}" for r in OUTSIDE))
    ] == []


def test_importing_the_library_changes_no_global_state(imported):
    assert imported[1]


def imports_of(path, *, at_the_top=False):
    """Dotted names that a file imports: anywhere, or where importing the file runs them."""
    tree = ast.parse(path.read_text())
    names = []
    for node in _at_the_top(tree) if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return names


def _at_the_top(node):
    """Every node but those inside functions and type checks."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not checking and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _at_the_top(child)


def room_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_never_imports_what_stands_outside_it(path):
    forbidden = tuple(f"advaug.{room}" for room in OUTSIDE) + HEAVY
    assert [name for name in imports_of(path) if name.startswith(forbidden)] == []


@pytest.mark.parametrize("path", [path for path in CORE if room_of(path) in LAYERS], ids=name_of)
def test_a_room_of_the_core_imports_no_room_above_it(path):
    above = LAYERS[LAYERS.index(room_of(path)) + 1 :]
    forbidden = (*(f"advaug.{room}" for room in above), "advaug.adversary")
    assert [name for name in imports_of(path) if name.startswith(forbidden)] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_wheel_imports_what_draws_and_reports_only_where_it_is_used(path):
    own = f"advaug.integrations.{path.stem}" if room_of(path) == "integrations" else None
    found = [name for name in imports_of(path, at_the_top=True) if name.startswith(LAZY)]
    assert found == [] or own is not None
    assert not any(name.split(".")[0] == "lab" for name in imports_of(path))


def test_the_detectors_stand_by_themselves():
    """They know the library's checks, shapes and pixels, and nothing of the adversary."""
    allowed = (
        "advaug.base",
        "advaug.errors",
        "advaug.detectors",
        "advaug.heatmaps",
        "advaug.pixels",
    )
    for path in (ROOT / "detectors").glob("*.py"):
        ours = [name for name in imports_of(path) if name.split(".")[0] == "advaug"]
        assert [name for name in ours if not name.startswith(allowed)] == [], path.name


def test_the_core_is_all_there():
    named = {"adversary", "functional", "heatmaps", "tasks", "pixels", "report"}
    rooms = {"networks", "view", "step"}
    assert named <= {path.stem for path in CORE}
    assert rooms <= {room_of(path) for path in CORE}


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


@pytest.mark.parametrize("path", [p for p in CORE if not p.stem.startswith("_")], ids=name_of)
def test_every_name_in_all_exists_and_is_documented(path):
    name = ".".join(["advaug", *path.relative_to(ROOT).with_suffix("").parts])
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


def test_no_private_attribute_of_another_room_is_read():
    """Rooms know each other by their public names only."""
    owners, reads = {}, []
    for path in MODULES:
        room = "step" if path.stem == "adversary" else path.relative_to(ROOT).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                owners.setdefault(node.attr, set()).add(room)
            else:
                reads.append((node.attr, room, f"{path.name}:{node.lineno}"))
    assert "step" in owners["_calls"]
    strangers = [
        f"{where} reads {name}"
        for name, room, where in reads
        if name in owners and room not in owners[name]
    ]
    assert strangers == []
