"""The hook of `attach`: what it finds, what it leaves alone, and what becomes of it in copies."""

import copy
import dataclasses
import io
import pickle
import subprocess
import sys
import warnings
from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn
from toys import HeatmapToy, differences, heatmap_batch, pictures, snapshot, tiny_adversary

from advaug.step.attach import put_back

Pair = namedtuple("Pair", ("images", "marks"))


class Model(nn.Module):
    """A model that gets pictures and landmarks, as a trainer's own often does."""

    def __init__(self):
        super().__init__()
        self.net = HeatmapToy(dropout=0.0)
        self.seen = None

    def forward(self, images, marks=None, *, scale=1.0):
        self.seen = images
        return self.net(images).square().mean() * scale


class OneBatch(Model):
    def forward(self, batch):
        return super().forward(batch["inputs"]["images"])


class Anything(Model):
    def forward(self, **kwargs):
        return super().forward(kwargs["pixel_values"])


class Listed(Model):
    """Torchvision's way: lists of pictures and of dicts."""

    def forward(self, images, targets=None):
        self.seen = images
        return sum(self.net(image[None]).square().mean() for image in images)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def attacker():
    """All pictures attacked, so that it is plain whether they were; the same one every time."""
    torch.manual_seed(1)
    return tiny_adversary(structure="discriminator", share=1.0, beta=1.0)


@pytest.mark.parametrize("call", ["by place", "by name"])
def test_an_argument_is_found_by_its_name(call):
    model, adversary = Model(), attacker()
    adversary.attach(model, images="images", target="marks")
    images, marks = pictures()
    before = images.clone()
    loss = model(images, marks) if call == "by place" else model(marks=marks, images=images)
    assert not torch.equal(model.seen, images)
    assert torch.equal(images, before)
    loss.backward()
    assert adversary.report is not None


def test_keywords_that_the_signature_does_not_name_are_found_by_their_names():
    model, adversary = Anything(), attacker()
    adversary.attach(model, images="pixel_values", target="labels")
    images, marks = pictures()
    model(pixel_values=images, labels=marks).backward()
    assert not torch.equal(model.seen, images)
    with pytest.raises(ValueError, match=r"`target` must find its part .*pixel_values=a tensor"):
        model(pixel_values=images)


def test_the_attack_is_that_of_augment():
    model, adversary, other = Model(), attacker(), attacker()
    adversary.attach(model, images="images", target="marks", normalized=True)
    images, marks = pictures()
    marks = (marks + 0.5) / images.shape[-1]
    model(images, marks)
    assert torch.equal(model.seen, other.augment(images, marks, normalized=True))


def test_callables_find_their_parts_in_a_nested_batch_that_stays_as_it_was():
    model = OneBatch()
    attacker().attach(
        model, images=lambda b: b["inputs"]["images"], target=lambda b: b["people"][0]
    )
    images, marks = pictures()
    others = {"path": ["a"] * 4}
    batch = {"inputs": {"images": images}, "people": [marks], "others": others}
    inputs = batch["inputs"]
    model(batch)
    assert not torch.equal(model.seen, images)
    assert batch["inputs"] is inputs
    assert inputs["images"] is images
    assert batch["others"] is others


@dataclasses.dataclass(frozen=True)
class Batch:
    images: torch.Tensor
    marks: torch.Tensor


@pytest.mark.parametrize(
    "wrap",
    [Pair, Batch, lambda i, m: UserDict(images=i, marks=m), lambda i, m: [(i,), {"marks": m}]],
    ids=["named tuple", "dataclass", "UserDict", "list of a tuple"],
)
def test_the_changed_pictures_go_into_a_copy_of_any_container(wrap):
    images, marks = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 2)
    before, changed = wrap(images, marks), torch.ones(2, 3, 8, 8)
    after = put_back(before, images, changed)
    wanted, same = wrap(changed, marks), wrap(images, marks)
    assert type(after) is type(before)
    for container, like in ((after, wanted), (before, same)):
        parts = vars(container) if isinstance(container, Batch) else container
        others = vars(like) if isinstance(like, Batch) else like
        assert repr(parts) == repr(others)


def test_a_list_made_of_the_batchs_pictures_goes_back_picture_by_picture():
    batch = [{"image": torch.zeros(3, 8, 8) + n, "name": "x"} for n in range(3)]
    images = [each["image"] for each in batch]
    after = put_back(((batch,), {}), images, [image + 1 for image in images])
    assert [float(each["image"].mean()) for each in after[0][0]] == [1, 2, 3]
    assert [float(each["image"].mean()) for each in batch] == [0, 1, 2]


def test_pictures_of_several_sizes_and_their_dicts_come_as_torchvisions_do():
    model, adversary = Listed(), attacker()
    adversary.attach(model, images="images", target="targets")
    images = [pictures(1, side, seed=side)[0][0] for side in (32, 40)]
    targets = [{"keypoints": pictures(1, side, seed=side)[1]} for side in (32, 40)]
    held = [*images]
    model(images, targets).backward()
    assert [seen.shape for seen in model.seen] == [image.shape for image in images]
    assert not any(map(torch.equal, model.seen, images))
    assert all(one is other for one, other in zip(images, held, strict=True))
    model(tuple(images), targets)
    assert type(model.seen) is tuple


@pytest.mark.filterwarnings("ignore:no gradient came back")
def test_only_training_with_gradients_is_attacked():
    model, adversary = Model(), attacker()
    handle = adversary.attach(model, images="images", target="marks")
    images, marks = pictures()
    with torch.no_grad():
        model(images, marks)
    assert model.seen is images
    model.eval()(images, marks)
    assert model.seen is images
    model.train()(images)  # no target in this call
    assert model.seen is images
    assert handle.calls == 0
    adversary.eval()
    model(images, marks)
    assert model.seen is images
    adversary.train()
    model(images, marks)
    assert model.seen is not images
    handle.remove()
    handle.remove()
    model(images, marks)
    assert model.seen is images


def test_what_cannot_be_attached_is_refused_and_says_why():
    model, adversary = Model(), attacker()
    with pytest.raises(TypeError, match=r"`module` must be an nn.Module, but got a function"):
        adversary.attach(lambda x: x, images="images")
    with pytest.raises(ValueError, match=r"`target` must name .* \['images', 'marks', 'scale'\]"):
        adversary.attach(model, images="images", target="landmarks")
    assert adversary._attachments == []
    assert not model._forward_pre_hooks
    adversary.attach(model, images="images", target="marks")
    with pytest.raises(ValueError, match=r"Model has one already. Call `remove\(\)`"):
        attacker().attach(model, images="images")
    adversary._attachments[0].remove()
    adversary.attach(model, images="images", target="marks")


@pytest.mark.parametrize(
    ("finders", "message"),
    [
        ({"target": lambda i, m, **_: m["boxes"]}, r"`target` must .* of Model, but raised .*3, 2"),
        ({"target": lambda i: i}, r"`target` must find .* takes 1 positional"),
        ({"images": lambda i, m: None}, r"`images` must find the pictures .* found None"),
        (
            {"images": lambda i, m: i.clone()},
            r"`images` must return one of the forward",
        ),
        ({"target": lambda i, m: m[:2]}, r"`target` must be landmarks .* for 4 pictures"),
    ],
    ids=["no such part", "other arguments", "no pictures", "new pictures", "too few"],
)
def test_a_part_that_is_not_found_is_named_with_the_facts(finders, message):
    model, adversary = Model(), attacker()
    adversary.attach(model, **{"images": "images", "target": "marks", **finders})
    with pytest.raises(ValueError, match=message):
        model(*pictures())


def test_a_hook_that_is_never_reached_is_in_the_health():
    model, adversary = Model(), attacker()
    adversary.attach(model, images="images", target="marks")
    assert "attached to Model, whose forward has not run" in str(adversary.health())
    model(*pictures()).backward()
    assert "attached to Model" not in str(adversary.health())


def test_a_hook_that_never_finds_a_target_is_in_the_health():
    model, adversary = Model(), attacker()
    handle = adversary.attach(model, images="images", target="marks")
    for _ in range(3):
        model(pictures()[0]).backward()
    assert (handle.calls, handle.passed) == (0, 3)
    assert "`target` was None in all 3 training calls" in str(adversary.health())
    model(*pictures()).backward()
    assert adversary.health().ok


def test_a_module_around_an_attached_one_is_refused():
    model = Model()
    handle = attacker().attach(model.net, images="images")
    with pytest.raises(
        ValueError, match=r"HeatmapToy inside Model has one already. Call `remove\(\)`"
    ):
        attacker().attach(model, images="images", target="marks")
    handle.remove()
    attacker().attach(model, images="images", target="marks")


def test_copies_are_not_attacked():
    model, adversary = Model(), attacker()
    adversary.attach(model, images="images", target="marks")
    twin = copy.deepcopy(model)  # as averages of weights are made
    average = torch.optim.swa_utils.AveragedModel(model)
    images, marks = pictures()
    twin(images, marks)
    assert twin.seen is images
    assert not twin._forward_pre_hooks
    assert not twin._forward_pre_hooks_with_kwargs
    average(images, marks)
    assert average.module.seen is images
    model(images, marks)
    assert model.seen is not images


def test_a_pickled_module_opens_where_the_library_is_not_installed(tmp_path):
    model = nn.Linear(3, 2)
    attacker().attach(model, images="input")
    for name, content in (("module", model), ("twin", copy.deepcopy(model))):
        torch.save(content, tmp_path / f"{name}.pt")
    script = (
        "import sys, torch; sys.modules['advaug'] = None\n"
        "for name in sys.argv[1:]: print(torch.load(name, weights_only=False)(torch.ones(1, 3)))"
    )
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    command = [sys.executable, "-c", script, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tensor") == 2


def test_a_hook_that_is_pickled_attacks_there_too():
    model, adversary = Model(), attacker()
    handle = adversary.attach(model, images="images", target="marks", pickled=True)
    images, marks = pictures()
    twin = copy.deepcopy(model)
    twin(images, marks).backward()
    assert twin.seen is not images
    loaded = pickle.loads(pickle.dumps(model))
    loaded(images, marks).backward()
    assert loaded.seen is not images
    (hook,) = loaded._forward_pre_hooks.values()
    assert hook.adversary is not adversary
    assert hook.adversary._attachments == [hook]
    assert hook.adversary.report is not None
    handle.remove()  # the copy's too; what was pickled has a handle of its own
    twin(images, marks)
    assert twin.seen is images
    hook.remove()
    loaded(images, marks)
    assert loaded.seen is images


def test_the_modules_state_knows_nothing_of_it():
    model, adversary = Model(), attacker()
    before = snapshot(model.state_dict())
    adversary.attach(model, images="images", target="marks")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert differences(before, dict(loaded)) == []
    Model().load_state_dict(loaded)
    assert {id(p) for p in model.parameters()}.isdisjoint(map(id, adversary.parameters()))


def test_replicas_of_data_parallel_send_one_to_the_whole():
    model, adversary = Model(), attacker()
    handle = adversary.attach(model, images="images", target="marks")
    with pytest.raises(ValueError, match="Attach the adversary to the DataParallel itself"):
        model._replicate_for_data_parallel()(*pictures())
    handle.remove()
    whole = nn.DataParallel(model)
    adversary.attach(whole, images="images", target="marks")
    images, marks = pictures()
    whole(images, marks).backward()
    assert model.seen is not images
    assert adversary.report is not None


@pytest.fixture
def alone():
    """A process group of one."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("outside", [True, False])
def test_a_module_in_ddp_is_attacked_within_and_without(outside):
    model, adversary = Model(), attacker()
    wrapped = nn.parallel.DistributedDataParallel(model)
    adversary.attach(wrapped if outside else model, images="images", target="marks")
    with pytest.raises(ValueError, match="one adversary"):
        attacker().attach(wrapped, images="images")
    with pytest.raises(ValueError, match="but Distr" if outside else "but Model inside Distr"):
        attacker().attach(wrapped, images="images")
    images, marks = pictures()
    wrapped(images, marks).backward()
    assert model.seen is not images
    assert adversary.report is not None
    assert model.net.head.weight.grad is not None


# Dynamo looks for `.grad` of whatever goes in, and augmented pictures are no leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("first", ["attached", "compiled"])
def test_a_compiled_module_is_attacked_and_stays_compiled(first):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    model, adversary = HeatmapToy(dropout=0.0), attacker()
    if first == "attached":
        adversary.attach(model, images="images", target=lambda images: marks)
        compiled = torch.compile(model, backend=backend)
    else:
        compiled = torch.compile(model, backend=backend)
        adversary.attach(compiled, images="images", target=lambda images: marks)
    images, marks = pictures()
    other = attacker()
    plain = model.forward(other.augment(images, marks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out = compiled(images)
    torch.testing.assert_close(out, plain)
    out.square().mean().backward()
    assert adversary.report is not None
    convolutions = [
        node for graph in graphs for node in graph.graph.nodes if "conv" in str(node.target)
    ]
    assert convolutions


def test_training_with_the_hook_is_training_with_augment():
    """Bit for bit, over steps of a whole loop."""
    ends = []
    for hooked in (True, False):
        torch.manual_seed(0)
        model, adversary = Model(), tiny_adversary(structure="discriminator")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if hooked:
            adversary.attach(model, images="images", target="marks")
        for seed in range(4):
            images, heatmaps = heatmap_batch(seed=seed)
            seen = images if hooked else adversary.augment(images, heatmaps)
            model(seen, heatmaps).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append([model.state_dict(), adversary.state_dict()])
    assert differences(*ends) == []
