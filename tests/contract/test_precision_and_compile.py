"""Every task under `torch.compile`, channels-last memory, float16 with a scaler, and bfloat16."""

import os
import shutil

import pytest
import torch
from test_modes import DETECTORS, detector_of, gentle
from toys import differences, snapshot, task_and_batch, tiny_adversary

every_task = pytest.mark.parametrize("kind", DETECTORS)


def start(kind):
    """A detector with BatchNorm, an adversary and the task, always the same."""
    torch.manual_seed(0)
    name, detector = detector_of(kind, norm="batch")
    task, *_ = task_and_batch(name)
    return detector, tiny_adversary(task, optimizer=gentle), task


def batches(kind, count):
    """Pictures and targets of the first steps."""
    return [task_and_batch(DETECTORS[kind][0], seed=step)[1:] for step in range(count)]


def learn(kind, prepare):
    """Two steps as prepared: the detector's gradients, and how far the adversary has moved."""
    detector, adversary, task = start(kind)
    before = [weight.detach().clone() for weight in adversary.parameters()]
    given, change = prepare(detector, adversary)
    for images, target in batches(kind, 2):
        clean = task.error(given(change(images)), target).mean()
        (clean + adversary(given, change(images), target)).backward()
    gradients = [weight.grad for weight in detector.parameters()]
    pairs = zip(adversary.parameters(), before, strict=True)
    return together(gradients), together([new.detach() - old for new, old in pairs])


def together(tensors):
    """All values in one vector: a bias before a BatchNorm has nothing but rounding of its own."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def assert_alike(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()


def plain(detector, adversary):
    return detector, lambda images: images


def channels_last(detector, adversary):
    adversary.to(memory_format=torch.channels_last)
    detector.to(memory_format=torch.channels_last)
    return detector, lambda images: images.contiguous(memory_format=torch.channels_last)


def compiled(*who, backend):
    def prepare(detector, adversary):
        torch._dynamo.reset()
        if "adversary" in who:
            adversary.compile(backend=backend)
        if "detector" in who:
            detector = torch.compile(detector, backend=backend)
        return detector, lambda images: images

    return prepare


WAYS = {
    "channels-last": channels_last,
    "detector-compiled": compiled("detector", backend="aot_eager"),
    "adversary-compiled": compiled("adversary", backend="aot_eager"),
    "both-compiled": compiled("detector", "adversary", backend="aot_eager"),
}


@every_task
@pytest.mark.parametrize("way", WAYS)
def test_the_same_is_learned_in_another_way(kind, way):
    assert_alike(learn(kind, WAYS[way]), learn(kind, plain))


@pytest.mark.skipif(
    not os.environ.get("ADVAUG_SLOW_TESTS") or not (shutil.which("g++") or shutil.which("clang")),
    reason="minutes of compilation: set ADVAUG_SLOW_TESTS=1 where there is a C++ compiler",
)
@every_task
def test_the_same_is_learned_with_everything_compiled_by_inductor(kind):
    both = compiled("detector", "adversary", backend="inductor")
    assert_alike(learn(kind, both), learn(kind, plain))


@every_task
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_trains_detector_and_adversary(kind, dtype):
    detector, adversary, task = start(kind)
    images, target = batches(kind, 1)[0]
    scale = 65536 if DETECTORS[kind][0] == "heatmap" else 1  # a sum over pixels, or a distance
    wide = detector_loss(*start(kind), images, target)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=dtype == torch.float16)
    before = snapshot([detector.state_dict(), adversary.state_dict()])
    losses = []
    for images, target in batches(kind, 3):
        with torch.autocast("cpu", dtype):
            loss = detector_loss(detector, adversary, task, images, target)
        optimizer.zero_grad()
        scaler.scale(loss / scale).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(wide.item(), rel=0.05)
    assert scaler.get_scale() == (256.0 if dtype == torch.float16 else 1.0)  # no step was skipped
    weights = [*detector.parameters(), *adversary.parameters()]
    assert all(weight.isfinite().all() and weight.dtype == torch.float32 for weight in weights)
    moved = differences(before, [detector.state_dict(), adversary.state_dict()])
    for part in ("[0]", "[1].attacker.", "[1].discriminator."):
        assert any(path.startswith(part) and "num_batches" not in path for path in moved), part


def detector_loss(detector, adversary, task, images, target):
    """What the caller's loop would minimise."""
    clean = task.error(detector(images), target).mean()
    return clean + adversary(detector, images, target)
