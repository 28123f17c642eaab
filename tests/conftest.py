"""Determinism: the same numbers in every run, alone or in any order."""

import os
import random
import sys
from pathlib import Path

# OpenMP's threads spin while they wait, which on two shared cores makes tiny networks thirty times
# slower. Under pytest-xdist each worker has its share of the processors, and so has what it starts.
# Both are read when torch is loaded, so they stand before it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # for the literal reference

settings.register_profile(
    "advaug",
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # which a busy machine may be
)
settings.load_profile("advaug")


def seed():
    """Whatever is drawn from a global generator from here on is the same each time."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 # the global state itself is under test
    random.seed(0)


@pytest.fixture(autouse=True)
def _seeded():
    seed()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """Neither does what tests share depend on which test came before it."""
    if fixturedef.scope != "function":
        seed()


@pytest.fixture
def generator():
    """A generator of the test's own."""
    return torch.Generator().manual_seed(1)
