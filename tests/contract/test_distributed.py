"""Two processes: one attacker and one discriminator, different pictures, different noise."""

import contextlib
import copy
import functools

import pytest
import torch
from ranks import WORLD, run_ranks
from sync_norm import SyncByHand, SyncOnCpu
from test_modes import literal_adversary, moved
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from toys import HeatmapToy, differences, heatmap_batch, snapshot, tiny_adversary, tiny_attacker

from advaug import HeatmapTask, ShapeError
from advaug.base.distributed import average

STEPS, LONG = 5, 20
POLICIES = ("isolated", "split")
MODES = ("alternating", "shared", "fused")
pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(), reason="needs gloo"
)


class Noiseless(nn.Module):
    """An attacker that does not use the noise, which differs between processes."""

    def __init__(self):
        super().__init__()
        self.net = tiny_attacker()

    def forward(self, images, structure, noise):
        return self.net(images, structure, torch.zeros_like(noise))


class PlainToy(nn.Module):
    """A detector with one layer of choice after its first, and without dropout."""

    def __init__(self, norm):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), norm, nn.ReLU())
        self.head = nn.Conv2d(8, 3, 5, padding=2)

    def forward(self, images):
        return self.head(self.body(images))


def flat(tensors):
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def process(rank):
    """One process: all trainings, one after the other."""
    ends = {batch_norm: train(rank, batch_norm) for batch_norm in POLICIES}
    ends |= {mode: train_on_parts(rank, WORLD, mode) for mode in MODES}
    ends["sharded"] = {mode: shard(rank, mode) for mode in MODES}
    ends["mean"] = average([torch.tensor([1.0 + rank]), torch.full((2, 3), 10.0 * rank)])
    ends["empty"] = meet_an_empty_batch(rank)
    ends["backwards"] = {mode: two_backwards(rank, mode) for mode in MODES}
    ends["skipping"] = {mode: skip_at_random(rank, mode) for mode in MODES}
    ends["statistics"] = meet_batch_statistics(rank)
    ends["sync"] = {name: sync_gradients(rank, name) for name in SYNC}
    ends["joined"] = joined_statistics(rank)
    refuse_a_second_set_for_shards(rank)
    return ends


def train(rank, batch_norm):
    """Own pictures, own initial weights; gives what it ends with."""
    torch.manual_seed(rank)  # the adversary is made differently on each, too
    task, net = HeatmapTask(), HeatmapToy()
    detector = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-5)
    adversary = tiny_adversary(task, batch_norm=batch_norm)
    noises = []
    adversary.attacker.register_forward_pre_hook(lambda _, given: noises.append(given[2].clone()))
    for step in range(STEPS):
        images, heatmaps = heatmap_batch(seed=100 * rank + step)
        loss = task.error(detector(images), heatmaps).mean() / 65536
        loss = loss + adversary(detector, images, heatmaps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        "attacker": flat(adversary.attacker.parameters()),
        "discriminator": flat(adversary.discriminator.parameters()),
        "controller": flat(adversary.reconstruction_weight.buffers()),
        "generator": adversary._generator.get_state(),
        "noises": torch.stack(noises),
        "gradients": flat(p.grad for p in net.parameters() if p.grad is not None),
        "parameters": flat(net.parameters()),
        "statistics": flat(net.buffers()),
        "second": flat([torch.zeros(1), *adversary.batch_norms.second.parameters()]),
        "report": adversary.report.read(),
    }


def train_on_parts(rank, world, mode):
    """A part of the pictures of every step, for a pair where samples do not mix and noise is none.

    Gives how far the weights have gone, too.
    """
    torch.manual_seed(0)
    net = PlainToy(nn.GroupNorm(2, 8))
    # Under the limit a young attacker's gradients are as small as rounding, and Adam follows them.
    adversary = tiny_adversary(attacker=Noiseless(), mode=mode, adversarial_limit=None)
    detector = net if world == 1 else DistributedDataParallel(net)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
    parts = {
        "detector": net,
        "attacker": adversary.attacker,
        "discriminator": adversary.discriminator,
    }
    before = {name: flat(part.parameters()) for name, part in parts.items()}
    for step in range(LONG):
        images, heatmaps = (part.chunk(world)[rank] for part in heatmap_batch(8, seed=step))
        train_step(detector, adversary, optimizer, images, heatmaps)
    after = {name: flat(part.parameters()) for name, part in parts.items()}
    return {"before": before, "after": after}


def train_step(detector, adversary, optimizer, images, heatmaps, *, adversary_first=False):
    if adversary_first:
        loss = adversary(detector, images, heatmaps)
        loss = loss + HeatmapTask().error(detector(images), heatmaps).mean()
    else:
        loss = HeatmapTask().error(detector(images), heatmaps).mean()
        loss = loss + adversary(detector, images, heatmaps)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def shard(rank, mode):
    """One training with a detector under DDP, and under FSDP2 in either order of the losses."""
    ends = []
    for sharding, adversary_first in ((False, False), (True, False), (True, True)):
        torch.manual_seed(0)
        net = PlainToy(nn.GroupNorm(2, 8))
        if sharding:
            fully_shard(net.body)
            fully_shard(net)
        detector = net if sharding else DistributedDataParallel(net)
        adversary = tiny_adversary(mode=mode)
        optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
        for step in range(STEPS):
            batch = heatmap_batch(seed=100 * rank + step)
            train_step(detector, adversary, optimizer, *batch, adversary_first=adversary_first)
        whole = [p.full_tensor() if sharding else p for p in net.parameters()]
        ends.append([flat(whole), flat(adversary.parameters())])
    return ends


def two_backwards(rank, mode, *, steps=10):
    """The clean loss backward, then the adversary's: the usual way to save memory."""
    torch.manual_seed(rank)
    net = PlainToy(nn.GroupNorm(2, 8))
    detector, adversary = DistributedDataParallel(net), tiny_adversary(mode=mode)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-8)
    before = flat(net.parameters())
    for step in range(steps):
        images, heatmaps = heatmap_batch(seed=100 * rank + step)
        optimizer.zero_grad()
        HeatmapTask().error(detector(images), heatmaps).mean().backward()
        clean = flat(p.grad for p in net.parameters())
        adversary(detector, images, heatmaps).backward()
        both = flat(p.grad for p in net.parameters())
        optimizer.step()
    moved = (flat(net.parameters()) - before).abs().max()
    weights = torch.cat([flat(net.parameters()), flat(adversary.parameters())])
    return {"weights": weights, "clean": clean, "both": both, "moved": moved}


class Skipping(PlainToy):
    """Leaves out a branch at random, which DDP has to find out."""

    def __init__(self):
        super().__init__(nn.GroupNorm(2, 8))
        self.branch = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images):
        features = self.body(images)
        if torch.rand(()) < 0.5:
            features = features + self.branch(features)
        return self.head(features)


def skip_at_random(rank, mode):
    """One backward for both losses, with `find_unused_parameters=True`; processes skip apart."""
    torch.manual_seed(rank)
    net = Skipping()
    detector = DistributedDataParallel(net, find_unused_parameters=True)
    adversary = tiny_adversary(mode=mode)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
    for step in range(STEPS):
        train_step(detector, adversary, optimizer, *heatmap_batch(seed=100 * rank + step))
    return torch.cat([flat(net.parameters()), flat(adversary.parameters())])


def meet_batch_statistics(rank):
    """Mode auto with statistics over all processes, and by hand: the processes agree on it."""
    modes = []
    for norm in (nn.SyncBatchNorm(8), FunctionalNorm(), nn.GroupNorm(2, 8)):
        torch.manual_seed(0)
        detector, adversary = PlainToy(norm), tiny_adversary()
        # PyTorch refuses SyncBatchNorm over several processes on a CPU: after the mode is chosen.
        with contextlib.suppress(ValueError):
            adversary(detector, *heatmap_batch(2 + rank, seed=rank)).backward()
        modes.append(adversary.chosen_mode)
    return modes


SYNC = {"sync": lambda: SyncOnCpu(8), "by-hand": SyncByHand}


def sync_gradients(rank, name):
    """The attacker's gradient in mode auto and alternating, and the mode that auto took."""
    found = []
    for count in (3, 1):
        for mode in ("auto", "alternating"):
            torch.manual_seed(0)
            detector = PlainToy(SYNC[name]())  # a DDP refuses such classes on a CPU, too
            adversary = literal_adversary(HeatmapTask(), mode)
            before = [weight.detach().clone() for weight in adversary.attacker.parameters()]
            adversary(detector, *heatmap_batch(count, seed=rank)).backward()
            moves = flat(moved(adversary.attacker, before))
            found.append({"mode": adversary.chosen_mode, "moves": moves})
    return found


def joined_statistics(rank):
    """Output, gradient at the pictures and statistics of `SyncOnCpu`, and BatchNorm's on all."""
    both = [heatmap_batch(4, seed=each)[0] for each in range(WORLD)]
    ends = []
    for norm, images in ((SyncOnCpu(3), both[rank]), (nn.BatchNorm2d(3), torch.cat(both))):
        images = images.clone().requires_grad_()
        out = norm(images)
        (out**3).sum().backward()
        own = slice(None) if len(images) == 4 else slice(4 * rank, 4 * rank + 4)
        ends.append([out[own].detach(), images.grad[own], norm.running_mean, norm.running_var])
    return ends


class FunctionalNorm(nn.Module):
    def forward(self, images):
        return nn.functional.batch_norm(images, None, None, training=True)


def refuse_a_second_set_for_shards(rank):
    net = fully_shard(PlainToy(nn.BatchNorm2d(8)))
    adversary = tiny_adversary(batch_norm="split")
    with pytest.raises(ValueError, match="FSDP2"):
        adversary(net, *heatmap_batch(seed=rank))
    assert len(adversary.batch_norms.second) == 0


def meet_an_empty_batch(rank):
    """The second process gets no pictures: it is told before it exchanges anything."""
    torch.manual_seed(0)
    net, adversary = PlainToy(nn.GroupNorm(2, 8)), tiny_adversary()
    adversary(net, *heatmap_batch(seed=rank)).backward()
    before = snapshot(adversary.state_dict())
    message = None
    if rank == 1:
        with pytest.raises(ShapeError) as caught:
            adversary(net, *heatmap_batch(0))
        message = str(caught.value)
    assert differences(before, adversary.state_dict()) == []
    # Were an exchange under way, this one would meet it, and the two would differ or wait forever.
    adversary(net, *heatmap_batch(seed=2 + rank)).backward()
    return {"message": message, "weights": flat(adversary.parameters())}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What each process ends with, by training."""
    return run_ranks(process, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(params=POLICIES)
def ranks(request, ends):
    return [rank[request.param] for rank in ends]


@pytest.mark.parametrize("network", ["attacker", "discriminator", "controller", "generator"])
def test_processes_keep_one_adversary_although_their_pictures_differ(ranks, network):
    one, other = ranks
    assert torch.equal(one[network], other[network])
    assert one["report"] != other["report"]


def test_what_is_averaged_is_the_mean_and_keeps_its_shape(ends):
    for rank in ends:
        scalar, matrix = rank["mean"]
        assert scalar.tolist() == [1.5]
        assert matrix.tolist() == [[5.0] * 3] * 2


def test_noise_differs_between_processes(ranks):
    one, other = ranks
    for step in range(STEPS):
        assert not torch.equal(one["noises"][step], other["noises"][step])
    everything = torch.cat([one["noises"], other["noises"]]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything)


def test_the_detectors_gradients_are_averaged_over_clean_and_adversarial_loss(ranks):
    one, other = ranks
    assert one["gradients"].abs().sum() > 0
    assert torch.equal(one["gradients"], other["gradients"])
    assert torch.equal(one["parameters"], other["parameters"])


def test_statistics_are_finite_and_count_clean_batches_alone(ranks):
    for rank in ranks:
        assert rank["statistics"].isfinite().all()
        assert rank["statistics"][-1] == STEPS  # num_batches_tracked


def test_the_second_set_is_the_same_on_both(ends):
    one, other = (rank["split"] for rank in ends)
    assert one["second"].numel() > 1
    assert torch.equal(one["second"], other["second"])


@functools.cache
def joined(mode):
    return train_on_parts(0, 1, mode)


@pytest.mark.parametrize("network", ["detector", "attacker", "discriminator"])
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_train_what_one_trains_on_the_joined_batch(ends, mode, network):
    one, other = (rank[mode]["after"][network] for rank in ends)
    assert torch.equal(one, other)
    before, after = joined(mode)["before"][network], joined(mode)["after"][network]
    torch.testing.assert_close(one, after, rtol=0, atol=1e-4)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_a_sharded_detector_trains_as_a_whole_one(ends, mode):
    """FSDP2, with the adversary before and after the clean loss."""
    for rank in ends:
        whole, *shards = rank["sharded"][mode]
        for sharded in shards:
            torch.testing.assert_close(sharded, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_two_backwards_a_step_keep_the_processes_bit_equal(ends, mode):
    one, other = (rank["backwards"][mode] for rank in ends)
    for name in ("weights", "clean", "both"):
        assert torch.equal(one[name], other[name])
    assert not torch.equal(one["clean"], one["both"])
    assert one["moved"] > 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_branches_that_are_skipped_at_random_work_with_find_unused_parameters(ends, mode):
    one, other = (rank["skipping"][mode] for rank in ends)
    assert torch.equal(one, other)


def test_the_processes_agree_on_the_mode(ends):
    assert [rank["statistics"] for rank in ends] == [["shared", "shared", "fused"]] * WORLD


@pytest.mark.parametrize("name", SYNC)
def test_auto_gives_the_attackers_gradient_of_alternating_with_statistics_over_processes(
    ends, name
):
    for rank in ends:
        few, few_plain, one, one_plain = rank["sync"][name]
        assert few["mode"] == one["mode"] == "shared"
        for ours, theirs in ((few, few_plain), (one, one_plain)):
            assert theirs["mode"] == "alternating"
            difference = (ours["moves"] - theirs["moves"]).norm()
            assert difference < 1e-4 * theirs["moves"].norm()


def test_our_statistics_over_processes_are_those_of_the_joined_batch(ends):
    for rank in ends:
        for ours, theirs in zip(*rank["joined"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_process_without_pictures_is_told_so_and_its_neighbour_does_not_wait(ends):
    one, other = (rank["empty"] for rank in ends)
    assert one["message"] is None
    assert "B >= 1" in other["message"]
    assert torch.equal(one["weights"], other["weights"])


@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_sync_batch_norm_is_treated_as_batch_norm(batch_norm):
    """In one process, where PyTorch lets it run without a GPU."""
    ends = []
    for convert in (lambda net: net, nn.SyncBatchNorm.convert_sync_batchnorm):
        torch.manual_seed(0)
        net, adversary = HeatmapToy(), tiny_adversary(batch_norm=batch_norm)
        net = convert(copy.deepcopy(net))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
        for step in range(2):
            train_step(net, adversary, optimizer, *heatmap_batch(seed=step))
        ends.append([net.state_dict(), adversary.state_dict()])
    assert isinstance(net.body[1], nn.SyncBatchNorm)
    assert differences(*ends) == []
