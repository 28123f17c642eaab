"""The examples' trainer beside a defence: which pictures it gets, and how its rates decay."""

import pytest
import torch
from accelerate import Accelerator
from lab.codecs import HeatmapCodec
from lab.study.own import ChangedAugmentation
from lab.trainer import Trainer, TrainingConfig
from torch import nn
from toys import tiny_adversary

from advaug import HeatmapTask
from advaug.baselines import AdvMix, SecondCopy
from advaug.datasets import SyntheticFaces
from advaug.detectors import HourglassNet
from advaug.schemes import FACE_68
from advaug.training import InMemoryLandmarks


@pytest.fixture(scope="module")
def faces():
    return InMemoryLandmarks(SyntheticFaces(5, image_size=32), workers=0)


class Watching(nn.Module):
    """A defence that remembers what it was given."""

    def forward(self, detector, images, target):
        self.images, self.heatmaps = images, target[0]
        return 0 * images.sum()


def trainer(faces, output, adversary, **options):
    config = options.pop("config", TrainingConfig(steps=2, batch_size=4))
    return Trainer(
        HourglassNet(68, width=8, depth=2, out_stride=4),
        HeatmapCodec(4),
        faces,
        config,
        output,
        augmentation=ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation),
        adversary=adversary,
        accelerator=Accelerator(cpu=True),
        **options,
    )


def test_a_defence_may_see_the_pictures_from_before_the_augmentation(faces, tmp_path):
    batch = faces.batch(0, 4)
    for sees in ("augmented", "original"):
        defence = Watching()
        trainer(faces, tmp_path, defence, adversary_sees=sees).step(0)
        assert torch.equal(defence.images, batch.images) == (sees == "original")
        truth = HeatmapCodec(4).encode(batch.landmarks, batch.visible, batch.size)[0]
        assert torch.equal(defence.heatmaps, truth) == (sees == "original")


def test_a_defence_may_see_the_same_pictures_augmented_anew(faces, tmp_path):
    defence = Watching()
    run = trainer(faces, tmp_path, defence, adversary_sees="again")
    learned = []
    run.detector.register_forward_pre_hook(lambda _, given: learned.append(given[0]))
    run.step(0)
    batch, augmentation = (
        faces.batch(0, 4),
        ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation),
    )
    labels = (batch.landmarks, batch.visible)
    first, second = (augmentation(batch.images, labels) for _ in range(2))
    assert torch.equal(learned[0], first[0])
    assert torch.equal(defence.images, second[0])
    truth = HeatmapCodec(4).encode(*second[1], batch.size)[0]
    assert torch.equal(defence.heatmaps, truth)


def test_a_defence_may_take_half_of_each_batch(faces, tmp_path):
    defence = Watching()
    run = trainer(faces, tmp_path, defence, adversary_sees="rest")
    learned = []
    run.detector.register_forward_pre_hook(lambda _, given: learned.append(given[0]))
    run.step(0)
    batch = faces.batch(0, 4)
    augmentation = ChangedAugmentation("erasing", flip_permutation=FACE_68.flip_permutation)
    first, second = (
        augmentation(part.images, (part.landmarks, part.visible)) for part in (batch[:2], batch[2:])
    )
    assert torch.equal(learned[0], first[0])
    assert torch.equal(defence.images, second[0])
    assert torch.equal(defence.heatmaps, HeatmapCodec(4).encode(*second[1], batch.size)[0])
    alone = TrainingConfig(steps=2, batch_size=1)
    with pytest.raises(ValueError, match="`batch_size` must be at least 2 for a batch to"):
        trainer(faces, tmp_path, defence, adversary_sees="rest", config=alone)


def test_all_rates_of_a_defence_decay_with_the_detectors(faces, tmp_path):
    config = TrainingConfig(steps=2, batch_size=4, decay=0.5)
    for defence, count in (
        (SecondCopy.erasing(HeatmapTask()), 1),
        (AdvMix(HeatmapTask()), 2),
        (tiny_adversary(), 3),
    ):
        assert len(trainer(faces, tmp_path, defence, config=config).schedulers) == count
