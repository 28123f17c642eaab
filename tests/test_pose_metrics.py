"""PCK, PCKh, OKS and OKS-AP: by hand, and beside pycocotools."""

import json

import numpy as np
import pytest
import torch

from advaug.errors import ShapeError
from advaug.evaluation.metrics import nme
from advaug.evaluation.pose import (
    COCO_SIGMAS,
    PoseErrors,
    oks,
    oks_average_precision,
    pck,
    pckh,
)
from advaug.schemes import COCO_NAMES

NAN = float("nan")


def test_pck_by_hand():
    target = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]] * 2)
    preds = target + torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    visible = torch.tensor([[True, True, True], [True, False, True]])
    sizes = torch.tensor([20.0, 25.0])
    found = pck(preds, target, normalizer=sizes, threshold=0.2, visible=visible)
    # 5 / 20 is too far; 5 / 25 is .2, which is still correct; 2 / 20 is near.
    expected = torch.tensor([[0.0, 1.0, 1.0], [1.0, NAN, 1.0]])
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.nanmean().item() == pytest.approx(4 / 5)
    assert found.nanmean(dim=0).tolist() == [0.5, 1.0, 1.0]


def test_pck_takes_what_nme_takes():
    target = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]])
    preds = target + torch.tensor([0.0, 1.5])
    assert pck(preds, target, normalizer=(0, 1), threshold=0.2).tolist() == [[1, 1]]
    assert pck(preds, target, normalizer=(0, 1), threshold=0.1).tolist() == [[0, 0]]
    assert nme(preds, target, normalizer=(0, 1)).item() == pytest.approx(0.15)


def test_pckh_is_in_heads_and_leaves_pelvis_and_thorax_out():
    target = torch.rand(1, 16, 2, generator=torch.Generator().manual_seed(0)) * 100
    preds = target.clone()
    preds[0, :8, 0] += 2.9  # half of .6 x 10 is 3
    preds[0, 8:, 0] += 3.1
    found = pckh(preds, target, head_sizes=torch.tensor([10.0]))
    assert found[0, 6:8].isnan().all()
    assert found[0, :6].tolist() == [1] * 6
    assert found[0, 8:].tolist() == [0] * 8
    assert found.nanmean().item() == pytest.approx(6 / 14)
    with pytest.raises(ShapeError, match=r"\(B, 16, 2\)"):
        pckh(preds[:, :15], target[:, :15], head_sizes=torch.tensor([10.0]))


def test_oks_by_hand():
    target = torch.zeros(2, 2, 2)
    preds = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[3.0, 4.0], [9.0, 9.0]]])
    visible = torch.tensor([[True, True], [True, False]])
    area = torch.tensor([100.0, 100.0])
    found = oks(preds, target, area=area, sigmas=(0.25, 0.1), visible=visible)
    # d^2 = 25, 2 A (2 sigma)^2 = 200 / 4 = 50.
    half = np.exp(-0.5)
    np.testing.assert_allclose(found, [(half + 1) / 2, half], rtol=1e-6)
    assert oks(preds, target, area=area, sigmas=(1, 1), visible=visible & False).isnan().all()


def test_cocos_sigmas_are_those_of_pycocotools():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    params = cocoeval.Params(iouType="keypoints")
    np.testing.assert_allclose(COCO_SIGMAS, params.kpt_oks_sigmas)


@pytest.fixture
def people(tmp_path):
    """Six people in three pictures, their predictions, and both as COCO has them."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(0)
    target = rng.uniform(20, 220, (6, 17, 2))
    preds = target + rng.normal(0, 1, target.shape) * np.linspace(1, 30, 6)[:, None, None]
    visible = rng.random((6, 17)) < 0.8
    areas = rng.uniform(5_000, 40_000, 6)
    annotations = [
        {
            "id": index + 1,
            "image_id": index // 2,
            "category_id": 1,
            "bbox": [10, 10, 220, 220],
            "area": areas[index],
            "keypoints": np.column_stack([target[index], 2 * visible[index]]).ravel().tolist(),
        }
        for index in range(6)
    ]
    content = {
        "images": [{"id": image} for image in range(4)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_NAMES)}],
        "annotations": annotations,
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    results = [
        {
            "image_id": index // 2,
            "category_id": 1,
            "keypoints": np.column_stack([preds[index], np.ones(17)]).ravel().tolist(),
            "score": 1 - 0.1 * index,
        }
        for index in range(6)
    ]
    tensors = [torch.from_numpy(each) for each in (preds, target, areas, visible)]
    return path, results, tensors


def test_oks_agrees_with_pycocotools(people, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path, results, (preds, target, areas, visible) = people
    truth = COCO()
    truth.dataset = json.loads(path.read_text())
    for annotation in truth.dataset["annotations"]:
        annotation |= {"iscrowd": 0, "num_keypoints": 17}
    truth.createIndex()
    run = COCOeval(truth, truth.loadRes(results), "keypoints")
    run._prepare()
    found = oks(preds, target, area=areas, visible=visible)
    for index in range(6):
        theirs = run.computeOks(index // 2, 1)[index % 2, index % 2]
        assert found[index].item() == pytest.approx(theirs, abs=1e-9)


def test_average_precision_by_hand(people, capsys):
    path, results, (preds, target, areas, visible) = people
    similarity = oks(preds, target, area=areas, visible=visible)
    found = oks_average_precision(path, results)
    assert capsys.readouterr().out == ""  # pycocotools talks a lot
    # The scores fall as the errors grow, so precision is 1 up to the last that is good enough, and
    # the area under the curve is the share of people that are, on 101 points of recall.
    for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
        good = (similarity >= threshold).long().cumprod(0).sum().item()
        assert 0 < good < 6
        points = np.linspace(0, 1, 101) <= good / 6
        assert found[name] == pytest.approx(points.mean())
    assert found["AP"] < found["AP50"]
    assert 0 < found["AR"] < 1


def test_average_precision_counts_only_pictures_with_a_result(people):
    path, results, _ = people
    assert oks_average_precision(path, results[:1])["AP50"] == pytest.approx(51 / 101)
    with pytest.raises(ValueError, match="at least one prediction"):
        oks_average_precision(path, [])


def test_other_numbers_of_keypoints_have_sigmas_of_their_own(people):
    _, _, (preds, target, areas, _) = people
    with pytest.raises(ShapeError, match="each of the 4 landmarks, but got 17"):
        oks(preds[:, :4], target[:, :4], area=areas)
    assert oks(preds[:, :4], target[:, :4], area=areas, sigmas=[0.05] * 4).shape == (6,)


def test_refusals_name_the_argument():
    points = torch.rand(1, 16, 2)
    with pytest.raises(ValueError, match="`threshold` must be positive"):
        pck(points, points, normalizer="box", threshold=0.0)
    with pytest.raises(ValueError, match="must give a positive distance"):
        pckh(points, points, head_sizes=torch.tensor([0.0]))


def test_a_summary_has_the_nme_and_what_else_was_measured():
    errors = PoseErrors(torch.tensor([0.1, NAN, 0.3]), scores={"PCK@0.1": 0.5})
    assert errors.summary() == {"nme": pytest.approx(0.2), "PCK@0.1": 0.5}
