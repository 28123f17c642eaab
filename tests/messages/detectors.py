"""Messages of the library's own detectors."""

import torch
from messages.kit import Case
from small_sets import points

from advaug.detectors import MDM, HourglassNet
from advaug.errors import ShapeError

SHAPE = points(5)
SHAPES = torch.from_numpy(SHAPE).expand(3, 5, 2)
PICTURES = torch.rand(2, 3, 96, 96)


def mdm(shape=SHAPE, boxes=None, **options):
    found = MDM(shape, hidden=8, steps=1, **options)(PICTURES, boxes)
    assert found[-1].isfinite().all()


def hourglass(**options):
    net = HourglassNet(5, stacks=2, depth=1, **{"width": 8} | options)
    assert net(PICTURES)[-1].shape[:2] == (2, 5)


def backbone(name="resnet10t", *, side=32, **options):
    from advaug.detectors import TimmHeatmapNet

    with torch.no_grad():
        found = TimmHeatmapNet(name, 5, width=options.pop("width", 32), **options)
        assert found(PICTURES[..., :side, :side]).shape[:2] == (2, 5)


NO_POINT = SHAPES.clone()
NO_POINT[0, 1] = torch.nan

CASES = {
    "hourglass, width": Case(lambda: hourglass(width=12), "Choose 16", lambda: hourglass(width=16)),
    "hourglass, stride": Case(
        lambda: hourglass(out_stride=3), "Choose one of them", lambda: hourglass(out_stride=2)
    ),
    "mdm, patch": Case(
        lambda: mdm(patch_size=1), "Choose a larger one", lambda: mdm(patch_size=20)
    ),
    "mdm, shapes": Case(
        lambda: mdm(SHAPES),
        "Average the training landmarks over their pictures",
        lambda: mdm(SHAPES.mean(dim=0)),
        ShapeError,
    ),
    "mdm, visible": Case(
        lambda: mdm(NO_POINT.mean(dim=0)),
        "Average only the visible landmarks",
        lambda: mdm(NO_POINT.nanmean(dim=0)),
    ),
    "mdm, a point": Case(
        lambda: mdm(SHAPE[:1]),
        "Give the `mean_box` of a shape that is a point",
        lambda: mdm(SHAPE[:1], mean_box=(20, 10, 70, 60)),
    ),
    "mdm, four numbers": Case(
        lambda: mdm(mean_box=(20, 10)),
        "Give x_min, y_min, x_max, y_max",
        lambda: mdm(mean_box=(20, 10, 70, 60)),
        ShapeError,
    ),
    "mdm, order": Case(
        lambda: mdm(mean_box=(70, 60, 20, 10)),
        "Check the order of the numbers",
        lambda: mdm(mean_box=(20, 10, 70, 60)),
    ),
    "mdm, boxes": Case(
        lambda: mdm(boxes=torch.tensor([20.0, 10, 70, 60])),
        "Give x_min, y_min, x_max, y_max for every picture",
        lambda: mdm(boxes=torch.tensor([[20.0, 10, 70, 60]] * 2)),
        ShapeError,
    ),
    "mdm, boxes, order": Case(
        lambda: mdm(boxes=torch.tensor([[70.0, 60, 20, 10]] * 2)),
        "Check the order of the numbers",
        lambda: mdm(boxes=torch.tensor([[20.0, 10, 70, 60]] * 2)),
    ),
    "timm, width": Case(lambda: backbone(width=20), "Choose 24", lambda: backbone(width=24)),
    "timm, stride": Case(
        lambda: backbone(out_stride=64), "Choose 4", lambda: backbone(out_stride=4)
    ),
    "timm, any size": Case(lambda: backbone(image_size=32), "Leave it out", backbone),
    "timm, name": Case(
        lambda: backbone("resnet10tt"), "Did you mean resnet10t", lambda: backbone("resnet10t")
    ),
    "timm, weights": Case(
        lambda: backbone(pretrained="nowhere.pth"),
        "which is no file. Check the path",
        lambda: backbone(pretrained=False),
        FileNotFoundError,
    ),
}
