"""Two processes: one attacker and one discriminator, different pictures, different noise."""

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from toys import HeatmapToy, heatmap_batch, tiny_adversary

from advaug import HeatmapTask
from advaug._distributed import average

WORLD, STEPS = 2, 5
POLICIES = ("isolated", "split")
pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(), reason="needs gloo"
)


def flat(tensors):
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def process(rank, folder):
    """One process: trains under two policies, one after the other."""
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", WORLD)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    ends = {batch_norm: train(rank, batch_norm) for batch_norm in POLICIES}
    ends["mean"] = average([torch.tensor([1.0 + rank]), torch.full((2, 3), 10.0 * rank)])
    torch.save(ends, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


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


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What each process ends with, by policy."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(process, args=(str(folder),), nprocs=WORLD)
    return [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(WORLD)]


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
