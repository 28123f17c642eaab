"""What the pose example learns from and how it measures, without training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab.arguments import Experiment, Recipe
from lab.pose import read_pose
from PIL import Image
from scipy.io import savemat

from advaug.datasets import SyntheticPeople
from advaug.errors import DatasetError
from advaug.schemes import COCO_17, COCO_NAMES, MPII_16
from advaug.training import InMemoryLandmarks

SIDE = 64


@pytest.fixture
def experiment(tmp_path):
    return Experiment(
        data="synthetic",
        root=tmp_path,
        recipe=Recipe(steps=1, batch_size=2, image_size=SIDE, learning_rate=1e-3),
        seed=0,
        device="cpu",
        output=tmp_path / "run",
        resume=False,
        arms=("plain",),
        skip_broken=False,
    )


def save_people(folder, per_picture=1, count=10):
    """Synthetic people as pictures, `per_picture` annotations for each; gives the json's path."""
    annotations, images = [], []
    for index in range(count):
        image, landmarks, _ = SyntheticPeople(count, image_size=SIDE)[index]
        pixels = (image * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png"})
        keypoints = np.column_stack([landmarks, np.full(17, 2.0)]).ravel().tolist()
        annotations += [
            {
                "id": per_picture * index + person,
                "image_id": index,
                "category_id": 1,
                "bbox": [8, 8, 48, 48],
                "keypoints": keypoints,
            }
            for person in range(per_picture)
        ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_NAMES)}
    path = folder / "people.json"
    path.write_text(
        json.dumps({"images": images, "categories": [category], "annotations": annotations})
    )
    return path


def measured(problem, offset=0.0):
    """The summary of predictions that are right but for an offset, in pixels of the crops."""
    batch = InMemoryLandmarks(problem.test, workers=0)[slice(None)]
    return problem.measure(batch.landmarks + torch.tensor([offset, 0.0]), batch).summary()


def test_synthetic_people_have_cocos_scheme_and_no_masks(experiment):
    problem = read_pose(experiment)
    assert problem.scheme is COCO_17
    assert list(problem.conditions) == ["clean", "occluded"]
    assert (len(problem.train), len(problem.test)) == (2000, 300)
    assert not torch.equal(problem.train[0].landmarks, problem.test[0].landmarks)


def test_coco_is_measured_by_the_boxes_side_and_by_ap(experiment, tmp_path):
    pytest.importorskip("pycocotools")
    settings = replace(experiment, data="coco", annotations=save_people(tmp_path))
    problem = read_pose(settings)
    assert (len(problem.train), len(problem.test)) == (8, 2)
    assert measured(problem) == {"nme": 0.0, "PCK@0.05": 1.0, "PCK@0.1": 1.0, "OKS-AP": 1.0}
    side = SIDE / 1.25
    off = measured(problem, 0.08 * side)
    assert off["nme"] == pytest.approx(0.08)
    assert (off["PCK@0.05"], off["PCK@0.1"]) == (0.0, 1.0)
    assert off["OKS-AP"] < 1


def test_people_of_one_picture_stay_on_one_side(experiment, tmp_path):
    pytest.importorskip("pycocotools")
    annotations = save_people(tmp_path, per_picture=3, count=5)
    problem = read_pose(replace(experiment, data="coco", annotations=annotations))
    paths = problem.train.dataset.paths
    sides = [{paths[index] for index in part.indices} for part in (problem.train, problem.test)]
    assert not sides[0] & sides[1]
    assert len(problem.train) + len(problem.test) == 15
    single = save_people(tmp_path, per_picture=9, count=1)
    with pytest.raises(DatasetError, match="at least 5 pictures, but got 9 samples"):
        read_pose(replace(experiment, data="coco", annotations=single))


def test_coco_without_annotations_is_refused(experiment):
    with pytest.raises(ValueError, match="`--annotations` must name the json"):
        read_pose(replace(experiment, data="coco"))


def test_mpii_is_measured_in_heads(experiment, tmp_path):
    for folder in ("images", "annot"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "images" / "a.png")
    entry = {
        "image": "a.png",
        "center": [150.0, 135.0],
        "scale": 1.0,
        "joints": [[100.0 + 5 * index, 150.0] for index in range(16)],
        "joints_vis": [1] * 16,
    }
    for split in ("train", "valid"):
        (tmp_path / "annot" / f"{split}.json").write_text(json.dumps([entry]))
    boxes = np.array([[10.0, 10.0], [40.0, 50.0]])[..., None]  # a diagonal of 50 pixels
    savemat(tmp_path / "annot" / "gt_valid.mat", {"headboxes_src": boxes})
    problem = read_pose(replace(experiment, data="mpii"))
    assert problem.scheme is MPII_16
    half_a_head = 0.5 * 0.6 * 50 * SIDE / 250
    assert measured(problem, 0.99 * half_a_head)["PCKh@0.5"] == 1
    assert measured(problem, 1.01 * half_a_head)["PCKh@0.5"] == 0


MICE = Path(__file__).parents[2] / "shared/data/openfield_mouse"


@pytest.mark.skipif(not MICE.is_dir(), reason="the real mice are not here")
def test_the_mice_are_read_as_coco(experiment, tmp_path, monkeypatch):
    pytest.importorskip("pycocotools")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    from train_pose import as_coco

    problem = read_pose(as_coco(replace(experiment, data="mouse", root=MICE)))
    assert (len(problem.train), len(problem.test)) == (93, 23)
    assert problem.scheme.flip_permutation == (0, 2, 1, 3)
    assert all(sample.visible.all() for sample in (problem.train[0], problem.test[22]))
    assert measured(problem)["OKS-AP"] == 1
    # A mouse is dark before a bright floor: at its keypoints, not a body's length aside.
    image, landmarks, _ = problem.test[0]
    x, y = landmarks.mean(dim=0).round().long().tolist()
    assert image[:, y, x].mean() < 0.35 < image[:, y, (x + SIDE // 2) % SIDE].mean()
