"""The adversary in half, full and double precision."""

import pytest
import torch
from torch import nn
from toys import (
    HeatmapToy,
    differences,
    heatmap_batch,
    snapshot,
    tiny_adversary,
)

# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_it_works_inside_the_callers_autocast(dtype):
    detector, adversary = HeatmapToy(), tiny_adversary()
    before = snapshot(adversary.attacker.state_dict())
    caller = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        with torch.autocast("cpu", dtype):
            loss = adversary(detector, *heatmap_batch())
        assert loss.dtype == torch.float32
        caller.scale(loss / 65536).backward()
    assert caller.get_scale() == 1024.0
    assert loss.isfinite()
    assert differences(before, adversary.attacker.state_dict())
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_pictures_and_detectors_work(dtype):
    detector = HeatmapToy().to(dtype)
    images, heatmaps = (value.to(dtype) for value in heatmap_batch())
    adversary = tiny_adversary()
    batch = adversary.attack(detector, images, heatmaps)
    assert batch.images.dtype == dtype
    assert batch.perturbation.dtype == torch.float32
    assert adversary(detector, images, heatmaps).isfinite()


def test_it_works_in_float64():
    detector, adversary = HeatmapToy().double(), tiny_adversary().double()
    images, heatmaps = (value.double() for value in heatmap_batch())
    for _ in range(2):
        loss = adversary(detector, images, heatmaps)
        loss.backward()
    assert loss.dtype == torch.float64


class NearlyRight(nn.Module):
    """A detector that is nearly right, whose feedback gradient is the largest there is."""

    def __init__(self, heatmaps):
        super().__init__()
        self.heatmaps = heatmaps
        self.net = nn.Conv2d(3, heatmaps.shape[1], 3, padding=1, bias=False)
        nn.init.normal_(self.net.weight, std=1e-3)

    def forward(self, images):
        return self.heatmaps + self.net(images)


def test_a_step_that_float16_overflows_is_skipped_and_does_not_spoil_the_health():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(discriminator=None)
    detector = NearlyRight(heatmaps)
    for _ in range(12):
        with torch.autocast("cpu", torch.float16):
            adversary.attack(detector, images, heatmaps)
    scale = adversary.state_dict()["_extra_state"]["loss_scale"]["scale"]
    assert scale < 65536, "nothing has overflown, so this shows nothing"
    assert all(p.isfinite().all() for p in adversary.parameters())
    means = adversary.health().means
    assert {name for name, value in means.items() if value != value} == {
        "rise",
        "rise_over_appearance",
    }
