"""Within 200 steps against a fixed trained detector: half as much error again, SSIM above .7."""

import functools

import pytest
import torch
from toys import CoordinateToy, HeatmapToy, task_and_batch, tiny_adversary

STEPS = 200
LOOK_EVERY = 25


def batch(kind, seed, count=8):
    _, images, target = task_and_batch(kind, count, seed)
    return images, target


@functools.cache
def trained(kind):
    """A detector that has learned to find the blobs, and the error that is left."""
    torch.manual_seed(0)
    detector = HeatmapToy(dropout=0.0) if kind == "heatmap" else CoordinateToy(dropout=0.0)
    task, *_ = task_and_batch(kind)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-2)
    for step in range(120):
        images, target = batch(kind, 1000 + step)
        loss = task.error(detector(images), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task, detector


def error_on(task, detector, attack, kind):
    """Mean error in evaluation, over pictures that neither network has seen."""
    total = 0.0
    with torch.no_grad():
        for seed in range(5):
            images, target = batch(kind, 5000 + seed)
            total += task.error(detector(attack(images, target)), target).mean().item() / 5
    return total


@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
def test_the_attacker_raises_the_error_of_a_fixed_detector_by_half(kind):
    task, detector = trained(kind)
    detector.eval()
    clean = error_on(task, detector, lambda images, _: images, kind)
    adversary, course = tiny_adversary(task), []
    for step in range(STEPS):
        adversary.attack(detector, *batch(kind, step))
        if (step + 1) % LOOK_EVERY == 0:
            attacked, ssim = under_attack(task, detector, adversary, kind)
            course.append(f"{step + 1}: error {clean:.4f} -> {attacked:.4f}, SSIM {ssim:.3f}")
            assert ssim > 0.7, course
            if attacked > 1.5 * clean:
                return
    pytest.fail(f"not within {STEPS} steps: {course}, {adversary.report.read()}")


def under_attack(task, detector, adversary, kind):
    """Mean error and SSIM on adversarial pictures."""
    similarity = []

    def attack(images, target):
        attacked = adversary.attack(detector, images, target, update=False)
        similarity.append(attacked.ssim.mean().item())
        return attacked.images

    return error_on(task, detector, attack, kind), sum(similarity) / len(similarity)


@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
def test_an_untrained_attacker_does_not(kind):
    """The comparison above can fail: what has raised the error is what the attacker learned."""
    task, detector = trained(kind)
    detector.eval()
    clean = error_on(task, detector, lambda images, _: images, kind)
    attacked, ssim = under_attack(task, detector, tiny_adversary(task), kind)
    assert ssim > 0.99
    assert attacked < 1.2 * clean
