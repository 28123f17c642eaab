"""`augment` with a detector that two processes share, by DDP or in FSDP2's shards.

Each process has half of every batch. Where samples do not mix and nothing random differs, the two
learn what one process learns from the whole batch.
"""

import functools

import pytest
import torch
from ranks import WORLD, run_ranks
from test_distributed import Noiseless, PlainToy, flat
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from toys import heatmap_batch, pictures, tiny_adversary

from advaug import HeatmapTask

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(), reason="needs gloo"
)
STEPS, BATCH = 3, 8


def sharded(net):
    fully_shard(net.body)
    return fully_shard(net)


WRAPPERS = {"alone": lambda net: net, "ddp": DistributedDataParallel, "fsdp2": sharded}


def sgd(parameters):
    """What a weight moves by is its gradient: nothing that is as small as rounding is enlarged."""
    return torch.optim.SGD(parameters, lr=0.01)


def train(rank, world, wrapper, *, told=True, **options):
    """A few steps on this process's part of every batch; gives all weights before and after."""
    torch.manual_seed(0)
    net = PlainToy(nn.GroupNorm(2, 8))
    given = {"attacker": Noiseless(), "share": 1.0, "beta": 0.5, "optimizer": sgd}
    adversary = tiny_adversary(**{**given, **options})
    if told:
        adversary.attacker_optimizer.param_groups[0]["lr"] = 100.0  # Eq. 3 of a large error is flat
    parts = {
        "detector": net,
        "attacker": adversary.attacker,
        "discriminator": adversary.discriminator,
        "controller": adversary.reconstruction_weight,
    }
    before = {name: state_of(part) for name, part in parts.items()}
    detector = WRAPPERS[wrapper](net)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-7)
    for step in range(STEPS):
        images, heatmaps = (part.chunk(world)[rank] for part in heatmap_batch(BATCH, seed=step))
        landmarks = pictures(BATCH, seed=step)[1].chunk(world)[rank]
        errors = HeatmapTask().error(detector(adversary.augment(images, landmarks)), heatmaps)
        if told:
            adversary.tell(errors)
        errors.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"before": before, "after": {name: state_of(part) for name, part in parts.items()}}


def state_of(part):
    """All weights and buffers, whole, in one vector."""
    values = [*part.parameters(), *part.buffers()]
    return flat(v.full_tensor() if isinstance(v, DTensor) else v for v in values)


def process(rank):
    ends = {name: train(rank, WORLD, name) for name in ("ddp", "fsdp2")}
    # As by default: a share of the pictures, random ones, and untold.
    usual = {"share": None, "beta": "adaptive", "regions": "random", "appearance": "random"}
    ends["usual"] = train(rank, WORLD, "fsdp2", told=False, optimizer=None, **usual)
    return ends


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    return run_ranks(process, tmp_path_factory.mktemp("ranks"))


@functools.cache
def joined():
    return train(0, 1, "alone")


@pytest.mark.parametrize("network", ["detector", "attacker", "discriminator", "controller"])
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns_from_the_joined_batch(ends, wrapper, network):
    one, other = (rank[wrapper]["after"][network] for rank in ends)
    assert torch.equal(one, other)
    before, after = (joined()[when][network] for when in ("before", "after"))
    moved = (after - before).norm()
    assert moved > 1e-3
    assert (one - after).norm() < 0.01 * moved  # a sum instead of a mean is as far off as it moved


def test_shards_and_one_adversary_as_by_default(ends):
    """The pictures, the noise and the chosen ones differ: the weights do not."""
    one, other = (rank["usual"] for rank in ends)
    for network, weights in one["after"].items():
        assert torch.equal(weights, other["after"][network])
        assert weights.isfinite().all()
    assert not torch.equal(one["before"]["attacker"], one["after"]["attacker"])
