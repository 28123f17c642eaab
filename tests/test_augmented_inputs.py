"""Targets and pictures in the forms in which trainers hand them over."""

import pytest
import torch
from toys import pictures, tiny_adversary

from advaug.step.targets import read_target, structure_of


def test_an_invisible_landmark_that_is_not_a_number_leaves_the_others_in_the_structure():
    nan = float("nan")
    with_it = torch.tensor([[[5.0, 9.0, 2.0], [nan, nan, 0.0]], [[4.0, nan, 2.0], [8.0, 3.0, 1.0]]])
    without = torch.tensor([[[5.0, 9.0]], [[8.0, 3.0]]])
    maps = [
        structure_of(read_target(each, [(16, 16)] * 2, normalized=False), (16, 16))
        for each in (with_it, without)
    ]
    assert torch.equal(*maps)


def test_flat_people_go_to_their_pictures_in_any_order():
    points = torch.arange(24.0).view(4, 3, 2)
    target = {"keypoints": points, "batch_idx": torch.tensor([[2.0], [0.0], [2.0], [0.0]])}
    found = read_target(target, [(32, 32)] * 3, normalized=False)
    assert torch.equal(found.points[0], points[[1, 3]].flatten(0, 1))
    assert torch.equal(found.points[2], points[[0, 2]].flatten(0, 1))
    assert found.visible.sum(dim=1).tolist() == [6, 0, 6]
    with pytest.raises(ValueError, match=r"`batch_idx` must be from 0 to 1, .* goes up to 2"):
        read_target(target, [(32, 32)] * 2, normalized=False)


def test_people_may_come_with_visible():
    people, visible = torch.rand(2, 4, 3, 2) * 30, torch.rand(2, 4, 3) > 0.5
    found = read_target((people, visible), [(32, 32)] * 2, normalized=False)
    assert torch.equal(found.visible, visible.flatten(1))
    with pytest.raises(ValueError, match=r"`visible` must be \(2, 4, 3\), .* got \(2, 4\)"):
        read_target((people, visible[..., 0]), [(32, 32)] * 2, normalized=False)


def test_augmented_pictures_keep_their_memory_format():
    images, marks = pictures()
    images = images.contiguous(memory_format=torch.channels_last)
    changed = tiny_adversary(share=1.0).augment(images, marks)
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_list_of_pictures_is_refused_as_such():
    with pytest.raises(TypeError, match="but the list is empty"):
        tiny_adversary(share=1.0).augment([], [])
