"""COCO json of keypoints: whose samples are given, where the crop is, what is refused."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from advaug.datasets import CocoKeypoints
from advaug.errors import DatasetError
from advaug.schemes import COCO_17, COCO_NAMES, MPII_16, LandmarkScheme, scheme_from_names

MOUSE = ["snout", "leftear", "rightear", "tailbase"]
POINTS = [10.0, 12.0, 2, 14.0, 10.0, 1, 15.0, 15.0, 2, 30.0, 20.0, 2]


def animal(number, image_id=1, **changes):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [4, 8, 32, 16],
        "area": 300.0,
        "iscrowd": 0,
        "keypoints": POINTS,
    } | changes


def write(folder, people, names=MOUSE, **changes):
    """Two pictures of 64 x 48 and a json; gives the json's path."""
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    content = {
        "images": [
            {"id": 1, "file_name": "b.png", "width": 64, "height": 48},
            {"id": 2, "file_name": "a.png", "width": 64, "height": 48},
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": names}],
        "annotations": people,
    }
    content |= changes
    path = folder / "keypoints.json"
    path.write_text(json.dumps(content))
    return path


def test_a_sample_a_person_and_those_of_a_picture_side_by_side(tmp_path):
    crowd, nobody = animal(4, iscrowd=1), animal(5, keypoints=[0, 0, 0] * 4)
    path = write(tmp_path, [animal(3), animal(2, image_id=2), animal(1), crowd, nobody])
    dataset = CocoKeypoints(tmp_path, path)
    assert [each.name for each in dataset.paths] == ["a.png", "b.png", "b.png"]
    assert [person.annotation_id for person in dataset.people] == [2, 1, 3]
    assert dataset.people[0].image_id == 2
    assert dataset.people[0].area == 300
    assert dataset.people[0].box == (4, 8, 32, 16)
    assert dataset.names == MOUSE


def test_the_crop_is_a_square_of_five_quarters_of_the_longer_side(tmp_path):
    dataset = CocoKeypoints(tmp_path, write(tmp_path, [animal(1)]), image_size=80)
    crop = dataset.crop(0)
    assert crop.side == pytest.approx(40)
    # Boxes count from the picture's edges: the centre is 20, 16 from them.
    assert (crop.left + crop.side / 2, crop.top + crop.side / 2) == pytest.approx((20, 16))
    sample = dataset[0]
    assert sample.image.shape == (3, 80, 80)
    # Pixel 10 has its centre 10.5 from the edge, 10.5 from the crop's at 0, twice as large.
    torch.testing.assert_close(sample.landmarks[0], torch.tensor([20.5, 32.5]))
    np.testing.assert_allclose(crop.to_picture(sample.landmarks[3]), [30, 20], atol=1e-4)


def test_hidden_keypoints_are_visible_and_missing_ones_are_not(tmp_path):
    points = [0, 0, 0, *POINTS[3:]]
    dataset = CocoKeypoints(tmp_path, write(tmp_path, [animal(1, keypoints=points)]))
    assert dataset[0].visible.tolist() == [False, True, True, True]


def test_area_falls_back_to_the_box(tmp_path):
    person = animal(1)
    del person["area"]
    assert CocoKeypoints(tmp_path, write(tmp_path, [person])).people[0].area == 32 * 16


def test_results_are_in_pixels_of_the_pictures(tmp_path):
    dataset = CocoKeypoints(tmp_path, write(tmp_path, [animal(1), animal(2, image_id=2)]))
    (result,) = dataset.results(dataset[1].landmarks[None], scores=[0.5], indices=[1])
    assert (result["image_id"], result["category_id"], result["score"]) == (1, 1, 0.5)
    found = np.array(result["keypoints"]).reshape(-1, 3)
    np.testing.assert_allclose(found[:, :2], np.array(POINTS).reshape(-1, 3)[:, :2], atol=1e-4)
    with pytest.raises(ValueError, match="each of the 2 samples, but got 1 and 1"):
        dataset.results(dataset[1].landmarks[None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 9}, "annotation 7: `image_id` must be that of a picture"),
        ({"keypoints": POINTS[:-1]}, "annotation 7: `keypoints` must be 12 finite numbers"),
        ({"keypoints": [*POINTS[:-1], 3]}, "must have 0, 1 or 2 as every third number"),
        ({"keypoints": [*POINTS[:-3], 900, 20, 2]}, "landmarks and box near its 64 x 48 pixels"),
        ({"bbox": [1, 2, 3]}, "`bbox` must be 4 finite numbers"),
        ({"bbox": [4, 8, 0, 0]}, "a box of at least 2 x 2"),
        ({"area": "large"}, "`area` must be 1 finite numbers"),
    ],
    ids=["image", "count", "flag", "far", "bbox", "empty", "area"],
)
def test_a_broken_person_is_named_or_left_out(tmp_path, changes, message):
    path = write(tmp_path, [animal(1), animal(7, **changes)])
    with pytest.raises(DatasetError, match=message):
        CocoKeypoints(tmp_path, path)
    with pytest.warns(UserWarning, match="1 problems"):
        assert len(CocoKeypoints(tmp_path, path, skip_broken=True)) == 1


def test_all_problems_are_listed_at_once(tmp_path):
    broken = animal(7, bbox=None)
    path = write(tmp_path, [animal(1), animal(2, image_id=2), broken])
    (tmp_path / "a.png").write_bytes(b"half")
    with pytest.raises(DatasetError) as raised:
        CocoKeypoints(tmp_path, path)
    assert "2 problems" in str(raised.value)
    assert "a.png" in str(raised.value)
    assert "annotation 7" in str(raised.value)


def test_a_picture_that_was_resized_is_refused(tmp_path):
    path = write(tmp_path, [animal(1), animal(2, image_id=2)])
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="must be 64 x 48 as `keypoints.json` says, but got 32"):
        CocoKeypoints(tmp_path, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": []}, "at least one person"),
        ({"annotations": "none"}, "the lists images, annotations, categories"),
        ({"categories": []}, "name the same `keypoints`, but got 0"),
        (
            {"categories": [{"id": 1, "keypoints": MOUSE}, {"id": 2, "keypoints": ["a"]}]},
            "but got 2 different",
        ),
        ({"categories": [{"id": 1, "keypoints": ["left_ear"] * 4}]}, "must differ"),
        ({"categories": [{"id": 1, "keypoints": ["left_ear", "a", "b", "c"]}]}, "'right_ear'"),
    ],
    ids=["nobody", "no list", "no category", "two kinds", "twice", "one side"],
)
def test_a_json_of_another_kind_is_refused(tmp_path, changes, message):
    with pytest.raises(DatasetError, match=message):
        CocoKeypoints(tmp_path, write(tmp_path, [animal(1)], **changes))


def test_files_that_are_no_json_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        CocoKeypoints(tmp_path, tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(DatasetError, match="readable json"):
        CocoKeypoints(tmp_path, tmp_path / "half.json")


def test_names_that_are_cocos_give_cocos_scheme(tmp_path):
    points = [20.0, 16.0, 2] * 17
    path = write(tmp_path, [animal(1, keypoints=points)], names=list(COCO_NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CocoKeypoints(tmp_path, path).scheme is COCO_17


def test_flip_permutations_follow_from_names():
    assert scheme_from_names(MOUSE).flip_permutation == (0, 2, 1, 3)
    assert scheme_from_names(["L_Eye", "R_Eye", "Tail"]).flip_permutation == (1, 0, 2)
    assert scheme_from_names(["pawRight", "pawLeft"]).flip_permutation == (1, 0)
    assert scheme_from_names(["l_hip", "bright", "r_hip"][::2]).flip_permutation == (1, 0)
    renamed = [f"{name}s" for name in COCO_NAMES]  # no longer COCO's own
    assert scheme_from_names(renamed).flip_permutation == COCO_17.flip_permutation


@pytest.mark.parametrize("scheme", [COCO_17, MPII_16, scheme_from_names(MOUSE)])
def test_flip_permutations_are_involutions(scheme: LandmarkScheme):
    permutation = scheme.flip_permutation
    assert [permutation[index] for index in permutation] == list(range(scheme.num_landmarks))
