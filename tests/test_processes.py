"""An adversary learns in the process of the training loop, and is refused where that is lost."""

import copy
import io

import pytest
import torch
from ranks import run_ranks
from torch import distributed, multiprocessing
from torch.utils.data import DataLoader, Dataset
from toys import HeatmapToy, heatmap_batch, tiny_adversary

CALLS = {
    "adversary(...)": lambda adversary, net: adversary(net, *heatmap_batch()),
    "attack": lambda adversary, net: adversary.attack(net, *heatmap_batch()).images,
    "augment": lambda adversary, net: net(adversary.augment(*heatmap_batch())),
}


def learn(adversary, net, call):
    result = CALLS[call](adversary, net)
    if result.requires_grad:
        result.sum().backward()


class Attacked(Dataset):
    """Attacks its pictures where they are loaded; gives what that said, and looks that were not."""

    def __init__(self, adversary):
        self.adversary, self.net = adversary, HeatmapToy()

    def __len__(self):
        return len(CALLS)

    def __getitem__(self, index):
        with pytest.raises(RuntimeError) as caught:
            learn(self.adversary, self.net, [*CALLS][index])
        images, heatmaps = heatmap_batch()
        self.adversary.attack(self.net, images, heatmaps, update=False)
        return str(caught.value), self.adversary.preview(images, heatmaps).images


def test_a_worker_of_a_dataloader_may_look_and_not_learn():
    adversary, net = tiny_adversary(), HeatmapToy()
    loader = DataLoader(Attacked(adversary), batch_size=None, num_workers=1)
    for call, (message, images) in zip(CALLS, loader, strict=True):
        assert message.startswith(f"`{call}` must be called in the training loop")
        assert message.endswith("Move the call to where the batch has arrived.")
        learn(adversary, net, call)  # it has moved there
        assert len(images) == 4
    assert adversary.get_extra_state()["calls"] == len(CALLS)


def child(adversary, answers):
    """What becomes of each call in a child process, and of each after what the message says."""
    net, found = HeatmapToy(), {}
    torch.set_num_threads(1)
    for call in CALLS:
        with pytest.raises(RuntimeError) as caught:
            learn(adversary, net, call)
        found[call] = str(caught.value)
    own = copy.deepcopy(adversary)  # the way out, literally
    for call in CALLS:
        learn(own, net, call)
    calls = {"handed": adversary.get_extra_state()["calls"], "own": own.get_extra_state()["calls"]}
    answers.put([found, calls])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_is_refused_and_may_train_a_copy(method):
    context = multiprocessing.get_context(method)
    answers, adversary = context.SimpleQueue(), tiny_adversary()
    process = context.Process(target=child, args=(adversary, answers))
    process.start()
    found, calls = answers.get()
    process.join()
    assert found.keys() == CALLS.keys()
    for call, message in found.items():
        assert message.startswith(f"`{call}` must be called in the process that built")
        assert "adversary = copy.deepcopy(adversary)" in message
    assert calls == {"handed": 0, "own": len(CALLS)}


def rank_of_a_run(rank, adversary):
    torch.manual_seed(0)
    net = HeatmapToy()
    for seed in range(2):
        adversary(net, *heatmap_batch(seed=seed + rank)).backward()
    return weights_of(adversary)


def weights_of(adversary):
    return torch.cat([weight.detach().flatten() for weight in adversary.parameters()])


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs gloo")
def test_what_is_spawned_as_a_distributed_run_learns_together(tmp_path):
    adversary = tiny_adversary()
    before = weights_of(adversary).clone()
    one, other = run_ranks(rank_of_a_run, tmp_path, adversary)
    assert torch.equal(one, other)
    assert not torch.equal(one, before)
    assert torch.equal(weights_of(adversary), before)  # PyTorch would share their memory


def test_a_file_of_a_whole_adversary_learns_where_it_is_opened(monkeypatch):
    file = io.BytesIO()
    torch.save(tiny_adversary(), file)
    file.seek(0)
    monkeypatch.setattr("advaug.step.home.os.getpid", lambda: -1)  # as in another process
    opened = torch.load(file, weights_only=False)
    opened(HeatmapToy(), *heatmap_batch()).backward()
    assert opened.get_extra_state()["calls"] == 1
