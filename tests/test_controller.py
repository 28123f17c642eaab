"""The controller that holds the SSIM of the semantic regions, on its own and on a model plant."""

import pytest
import torch

from advaug import ReconstructionController

ONE = torch.ones(1)


def answer(controller, similarity):
    """Weight of L_R where L_F and L_R pull with equal strength."""
    return controller.weights(torch.tensor([similarity]), ONE, ONE).item()


class Plant:
    """An attacker in one number: how similar its pictures are.

    It moves with what is left of the push once L_R has pulled back, `1 - weight`, and no further
    than from 0.2 (everything painted over) to 1 (nothing done).
    """

    def __init__(self, rate=0.02):
        self.similarity = 1.0
        self.rate = rate

    def step(self, controller, lazy=False):
        weight = answer(controller, self.similarity)
        if not lazy:
            moved = self.similarity - self.rate * max(-5.0, 1 - weight)
            self.similarity = min(1.0, max(0.2, moved))
        controller.update(torch.tensor(self.similarity))
        return self.similarity


def test_a_sample_that_strays_is_pulled_back_harder_than_one_that_does_not():
    controller = ReconstructionController(target=0.9)
    answers = [answer(controller, s) for s in (1.0, 0.95, 0.9, 0.8, 0.6)]
    assert answers == sorted(answers)
    assert answers[0] < answers[-1] / 10


def test_each_sample_has_its_own_weight():
    controller = ReconstructionController()
    similarity = torch.tensor([0.95, 0.7, 0.9])
    weights = controller.weights(similarity, torch.ones(3), torch.ones(3))
    assert weights.shape == (3,)
    assert weights.tolist() == pytest.approx([answer(controller, s) for s in similarity.tolist()])


def test_the_weight_is_measured_by_the_push_it_has_to_balance():
    controller = ReconstructionController()
    base = controller.weights(torch.tensor([0.9]), ONE, ONE)
    torch.testing.assert_close(
        controller.weights(torch.tensor([0.9]), 1e-6 * ONE, ONE), 1e-6 * base
    )
    torch.testing.assert_close(controller.weights(torch.tensor([0.9]), ONE, 4 * ONE), base / 4)


def test_a_sample_that_has_not_changed_has_a_finite_weight():
    weights = ReconstructionController().weights(torch.ones(2), torch.tensor([1.0, 0.0]), 0 * ONE)
    assert weights.isfinite().all()


def test_the_common_part_moves_against_the_mean_deviation():
    for similarity, rises in [(0.5, True), (1.0, False)]:
        controller = ReconstructionController(target=0.9)
        before = answer(controller, 0.9)
        controller.update(torch.tensor(similarity))
        assert (answer(controller, 0.9) > before) == rises


@pytest.mark.parametrize("similarity", [0.0, 1.0])
def test_the_common_part_is_bounded(similarity):
    controller = ReconstructionController()
    for _ in range(5000):
        controller.update(torch.tensor(similarity))
    held = answer(controller, 0.9)
    controller.update(torch.tensor(similarity))
    assert answer(controller, 0.9) == held
    assert 1e-4 < held < 1e4


def test_nan_moves_nothing():
    controller = ReconstructionController()
    before = answer(controller, 0.9)
    controller.update(torch.tensor(torch.nan))
    assert answer(controller, 0.9) == before


@pytest.mark.parametrize("target", [0.8, 0.9])
def test_the_plant_settles_at_the_target(target):
    controller, plant = ReconstructionController(target=target), Plant()
    course = [plant.step(controller) for _ in range(1500)]
    assert course[-300:] == pytest.approx([target] * 300, abs=0.03)


def test_the_plant_does_not_oscillate():
    controller, plant = ReconstructionController(target=0.9), Plant()
    course = torch.tensor([plant.step(controller) for _ in range(1500)])[500:]
    assert course.max() - course.min() < 0.1


def test_a_lazy_phase_does_not_wind_the_controller_up():
    """While L_F is weak the attacker does nothing; when it wakes, it must still be held."""
    controller, plant = ReconstructionController(target=0.9), Plant()
    for _ in range(2000):
        plant.step(controller, lazy=True)
    course = [plant.step(controller) for _ in range(600)]
    assert min(course) > 0.7, f"fell to {min(course):.2f}; back above .8 after {recovery(course)}"


def recovery(course):
    """The last step at which the similarity was below .8."""
    return max((i for i, value in enumerate(course) if value < 0.8), default=0)


def test_its_state_is_a_buffer():
    one, other = ReconstructionController(), ReconstructionController()
    for _ in range(10):
        one.update(torch.tensor(0.3))
    other.load_state_dict(one.state_dict())
    assert len(one.state_dict()) == 1
    assert answer(other, 0.9) == answer(one, 0.9) != answer(ReconstructionController(), 0.9)


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, 2.0])
def test_a_target_outside_zero_to_one_is_refused(target):
    with pytest.raises(ValueError, match=f"`target` must be between 0 and 1, but got {target}"):
        ReconstructionController(target=target)
