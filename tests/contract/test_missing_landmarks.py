"""What cannot be seen counts nowhere: in e, S, M and β, in one stage or many, in every mode."""

import pytest
import torch
from test_modes import DETECTORS, MODES, detector_of, gentle
from toys import (
    differences,
    pictures,
    snapshot,
    task_and_batch,
    tiny_adversary,
)

from advaug import encode_heatmaps
from advaug import functional as saat

every_kind = pytest.mark.parametrize("kind", DETECTORS)
every_mode = pytest.mark.parametrize("mode", MODES)

# The second picture shows nothing, the third one landmark out of three.
VISIBLE = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]]).bool()


def start(kind, **options):
    """A detector in which no sample reaches another, its adversary, and a batch of four."""
    torch.manual_seed(0)
    name, detector = detector_of(kind)
    task, images, target = task_and_batch(name)
    return detector, tiny_adversary(task, optimizer=gentle, **options), images, target


def learn(kind, mode, images=None, target=None):
    """One step of a new run; what it gives and where it leaves everything."""
    detector, adversary, own_images, own_target = start(kind, mode=mode)
    images = own_images if images is None else images
    target = own_target if target is None else target
    loss = adversary(detector, images, (target, VISIBLE))
    loss.backward()
    gradients = [weight.grad for weight in detector.parameters()]
    return {"loss": loss, "detector": gradients, "adversary": adversary.state_dict()}


@every_kind
@every_mode
def test_training_goes_on(kind, mode):
    detector, adversary, images, target = start(kind, mode=mode)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
    before = snapshot([[*net.parameters()] for net in (detector, adversary)])
    for _ in range(3):
        clean = adversary.task.error(detector(images), (target, VISIBLE)).mean()
        loss = clean + adversary(detector, images, (target, VISIBLE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    after = [[*net.parameters()] for net in (detector, adversary)]
    assert all(weight.isfinite().all() for weights in after for weight in weights)
    assert all(differences(*pair) for pair in zip(before, after, strict=True))
    means = adversary.health().means
    assert all(value == value for name, value in means.items() if not name.startswith("rise"))


@every_kind
@every_mode
@pytest.mark.parametrize("value", [torch.nan, 0.9])
def test_what_the_target_says_of_the_invisible_changes_nothing(kind, mode, value):
    *_, target = start(kind)
    changed = target.clone()
    changed[~VISIBLE] = value
    assert not torch.equal(changed, target)
    assert differences(learn(kind, mode), learn(kind, mode, target=changed)) == []


@every_kind
@every_mode
def test_a_picture_that_shows_nothing_teaches_the_detector_nothing(kind, mode):
    _, _, images, _ = start(kind)
    other = images.clone()
    other[1] = pictures(1, seed=9)[0]
    one, another = learn(kind, mode), learn(kind, mode, images=other)
    assert torch.equal(one["loss"], another["loss"])
    torch.testing.assert_close(one["detector"], another["detector"], rtol=1e-5, atol=1e-5)
    assert differences(one["adversary"], another["adversary"])  # the discriminator has seen it


@every_kind
def test_structure_mask_and_beta_know_the_visible_alone(kind):
    detector, adversary, images, target = start(kind)
    attack = adversary.attack(detector, images, (target, VISIBLE), update=False)
    shown = target if target.ndim == 4 else encode_heatmaps(target, images.shape[-2:])
    for number in (0, 2, 3):
        seen = shown[number : number + 1, VISIBLE[number]]
        structure = saat.structure_map(seen)
        torch.testing.assert_close(attack.structure[number : number + 1], structure)
        torch.testing.assert_close(attack.mask[number : number + 1], saat.semantic_mask(structure))
    assert attack.structure[1].max() == 0
    assert torch.all(attack.mask[1] == 0.1)
    beta = saat.adaptive_beta(images, attack.images, attack.mask)
    torch.testing.assert_close(attack.beta, beta)
    assert attack.losses.feedback[1] == pytest.approx(10.0)  # 1 / λ: no error to be had
