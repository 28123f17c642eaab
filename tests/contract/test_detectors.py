"""The contracts with real detectors: untouched, also on errors; resumed to the bit; attacked."""

import copy

import pytest
import torch
from real_detectors import DETECTORS, batch
from test_resume import Run as ToyRun
from test_untouched import HalfwayError, Stop, assert_untouched, owned, preset_gradients
from toys import differences, tiny_adversary

every_detector = pytest.mark.parametrize("name", DETECTORS)


def case(name):
    """A detector of the table, its task and a batch."""
    torch.manual_seed(0)
    detector, task, stride = DETECTORS[name]()
    return detector, task, *batch(stride)


# --- untouched -------------------------------------------------------------------------------


@every_detector
def test_a_step_leaves_the_detector_as_it_was(name):
    detector, task, images, target = case(name)
    adversary = tiny_adversary(task)
    preset_gradients(detector)
    before = owned(detector)
    adversary.attack(detector, images, target)
    assert_untouched(detector, before)
    loss = adversary(detector, images, target)
    assert_untouched(detector, before)
    loss.backward()
    after = owned(detector)
    assert differences({**before, "grads": None}, {**after, "grads": None}) == []
    gradients = [weight.grad for weight in detector.parameters() if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert differences(before["grads"], after["grads"])


@every_detector
@pytest.mark.parametrize("culprit", ["detector", "task"])
def test_an_exception_leaves_the_detector_as_it_was(name, culprit):
    detector, task, images, target = case(name)
    preset_gradients(detector)
    adversary = tiny_adversary(task)
    given = detector
    if culprit == "detector":
        detector.forward = Stop(detector.forward, 1)
    else:
        adversary.task = copy.copy(task)
        adversary.task.error = Stop(task.error, 1)
    before = owned(detector)
    with pytest.raises(HalfwayError):
        adversary(given, images, target)
    assert_untouched(detector, before)


# --- resumed ---------------------------------------------------------------------------------


class Run(ToyRun):
    """A training run of a real detector."""

    def __init__(self, name, seed=0):
        super().__init__("heatmap", {}, seed)
        self.detector, self.task, self.stride = DETECTORS[name]()
        self.adversary = tiny_adversary(self.task, seed=seed)
        self.optimizer = torch.optim.Adam(self.detector.parameters(), lr=1e-3)

    def batch(self, seed):
        return batch(self.stride, seed=seed)


@every_detector
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    whole = Run(name)
    whole.steps(0, 2)
    torch.save(whole.state(), tmp_path / "state.pt")
    whole.steps(2, 3)
    resumed = Run(name, seed=77)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.steps(2, 3)
    assert resumed.losses == whole.losses[2:]
    assert differences(whole.state(), resumed.state()) == []


# --- attacked --------------------------------------------------------------------------------


@every_detector
def test_the_attacker_learns_to_raise_the_error(name):
    """The feedback reaches the attacker through the detector, whatever it is made of."""
    detector, task, images, target = case(name)
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for _ in range(30):
        loss = task.error(detector(images), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    settle_statistics(detector, images)
    adversary = tiny_adversary(
        task, discriminator=None, reconstruction_weight=0, optimizer=quick, seed=1
    )

    def error():
        attack = adversary.attack(detector, images, target, update=False)
        with torch.no_grad():
            return task.error(detector(attack.images), target).mean().item()

    before = error()
    for _ in range(30):
        adversary.attack(detector, images, target)
    assert error() > 1.1 * before


def settle_statistics(detector, images):
    """Evaluation mode with the batch's own statistics: those of a short training still drift."""
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        detector(images)
    detector.eval()


def quick(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)
