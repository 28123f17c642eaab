"""Save, stop, load, go on: equal to an uninterrupted run, to the bit."""

import copy
import random

import pytest
import torch
from toys import CoordinateToy, HeatmapToy, differences, snapshot, task_and_batch, tiny_adversary

from advaug import ReconstructionController

OPTIONS = {
    "default": {},
    "random-regions-and-appearance": {"regions": "random", "appearance": "random"},
    "without-discriminator": {"discriminator": None},
    "split": {"batch_norm": "split"},
    "shared": {"batch_norm": "shared"},
    "constant-reconstruction": {"reconstruction_weight": 50.0},
    "own-controller": {"reconstruction_weight": ReconstructionController(target=0.8)},
    "momentum": {"optimizer": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9)},
    "python-transform": {"transform": lambda x, t: (x * random.uniform(0.9, 1.0), t)},
    "noisy-transform": {"transform": lambda x, t: (x + 0.01 * torch.randn_like(x), t)},
}


class Run:
    """A training run of the kind in the README, that can be saved and taken up."""

    def __init__(self, kind, options, seed=0):
        torch.manual_seed(seed)
        self.kind = kind
        self.detector = HeatmapToy() if kind == "heatmap" else CoordinateToy()
        self.task, *_ = task_and_batch(kind)
        self.adversary = tiny_adversary(self.task, seed=seed, **copy.deepcopy(options))
        self.optimizer = torch.optim.Adam(self.detector.parameters(), lr=1e-3)
        self.losses = []

    def steps(self, first, last):
        for step in range(first, last):
            torch.manual_seed(step)  # the caller's own randomness is the caller's to resume
            images, target = self.batch(step)
            loss = self.task.error(self.detector(images), target).mean()
            loss = loss + self.adversary(self.detector, images, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())

    def batch(self, seed):
        _, images, target = task_and_batch(self.kind, seed=seed)
        return images, target

    def state(self):
        return {
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adversary": self.adversary.state_dict(),
        }

    def load(self, state):
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.adversary.load_state_dict(state["adversary"])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(pytest.param("heatmap", options, id=name) for name, options in OPTIONS.items()),
        pytest.param("coordinate", {}, id="coordinate"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, options, tmp_path):
    whole = Run(kind, options)
    whole.steps(0, 3)
    torch.save(whole.state(), tmp_path / "state.pt")
    whole.steps(3, 6)

    resumed = Run(kind, options, seed=77)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.steps(3, 6)

    assert resumed.losses == whole.losses[3:]
    assert differences(whole.state(), resumed.state()) == []


def test_a_run_with_another_seed_differs():
    """The comparison above can fail."""
    one, other = Run("heatmap", {}), Run("heatmap", {}, seed=1)
    for run in (one, other):
        run.steps(0, 2)
    assert one.losses != other.losses
    assert differences(one.state(), other.state())


def test_saving_moves_nothing():
    run, twin = Run("heatmap", {}), Run("heatmap", {})
    for each in (run, twin):
        each.steps(0, 3)
    before = snapshot(run.state())
    assert differences(before, run.state()) == []
    run.steps(3, 5)
    twin.steps(3, 5)
    assert differences(run.state(), twin.state()) == []


def test_a_saved_state_does_not_move_on_with_the_run(tmp_path):
    run = Run("heatmap", {})
    run.steps(0, 2)
    torch.save(run.state(), tmp_path / "state.pt")
    before = snapshot(run.state())
    run.steps(2, 3)
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert differences(before, loaded) == []


def test_the_state_holds_everything_that_a_step_moves():
    run = Run("heatmap", {})
    run.steps(0, 1)
    before = snapshot(run.adversary.state_dict())
    run.steps(1, 2)
    moved = " ".join(differences(before, run.adversary.state_dict()))
    for part in (
        *("attacker.down", "discriminator.body", "attacker_optimizer", "discriminator_optimizer"),
        *("generator", "reconstruction_weight", "running_means", "calls"),
    ):
        assert part in moved, part


def test_the_loss_scale_of_float16_is_resumed(tmp_path):
    def attack(run, step):
        _, images, target = task_and_batch("heatmap", seed=step)
        with torch.autocast("cpu", torch.float16):
            return run.adversary.attack(run.detector, images, target).images

    whole = Run("heatmap", {})
    for step in range(3):
        attack(whole, step)
    torch.save(whole.state(), tmp_path / "state.pt")
    resumed = Run("heatmap", {}, seed=9)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(attack(whole, 3), attack(resumed, 3))
    assert differences(whole.state(), resumed.state()) == []
    assert whole.adversary.state_dict()["_extra_state"]["loss_scale"]
