"""What a dataset gives: three parts to unpack, and occlusion beside them where it is known."""

import copy
import pickle

import pytest
import torch
from torch.utils.data import default_collate

from advaug.datasets import LandmarkSample


@pytest.fixture
def sample():
    flags = torch.tensor([True, False])
    return LandmarkSample(torch.zeros(3, 4, 4), torch.zeros(2, 2), flags, occluded=~flags)


def test_it_unpacks_into_three_whatever_else_is_known(sample):
    image, landmarks, visible = sample
    assert image is sample.image
    assert landmarks is sample.landmarks
    assert visible is sample.visible
    assert len(sample) == 3
    assert sample.occluded.tolist() == [False, True]


def test_occlusion_is_optional():
    assert LandmarkSample(torch.zeros(1), torch.zeros(1), torch.zeros(1)).occluded is None


def test_a_batch_is_made_by_the_default_collation(sample):
    batch = default_collate([sample, sample])
    assert isinstance(batch, LandmarkSample)
    assert batch.image.shape == (2, 3, 4, 4)
    assert batch.occluded is None


@pytest.mark.parametrize("again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy])
def test_copies_keep_the_occlusion(sample, again):
    assert torch.equal(again(sample).occluded, sample.occluded)


def test_a_part_is_replaced_and_the_others_stay(sample):
    changed = sample._replace(image=torch.ones(3, 4, 4))
    assert changed.image.all()
    assert changed.occluded is sample.occluded
    assert sample._replace(occluded=None).occluded is None
