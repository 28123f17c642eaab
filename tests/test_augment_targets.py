"""Every form of a target that `augment` knows gives the S of a slow loop."""

import math

import pytest
import torch

from advaug.heatmaps import default_sigma, encode_heatmaps
from advaug.step.targets import read_target, structure_of

HEIGHT, WIDTH, BATCH, MARKS = 20, 28, 3, 4


def points(*shape):
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, 2, generator=draw) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])


def slow_structure(pictures):
    """S from a list of visible `(x, y)` for each picture: the highest Gaussian at every pixel."""
    sigma = default_sigma((HEIGHT, WIDTH))
    maps = torch.zeros(len(pictures), 1, HEIGHT, WIDTH)
    for number, marks in enumerate(pictures):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                values = [
                    math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
                    for x, y in marks
                ]
                maps[number, 0, row, column] = max(values, default=0.0)
    return maps


def of(target, *, normalized=False):
    found = read_target(target, [(HEIGHT, WIDTH)] * BATCH, normalized=normalized)
    return structure_of(found, (HEIGHT, WIDTH))


def seen(marks, visible):
    """The visible landmarks of each picture, as numbers."""
    return [
        [
            tuple(p)
            for p, v in zip(m.reshape(-1, 2).tolist(), shown.flatten().tolist(), strict=True)
            if v
        ]
        for m, shown in zip(marks, visible, strict=True)
    ]


ONE = points(BATCH, MARKS)
SHOWN = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
EVERY = torch.ones_like(SHOWN)
PEOPLE = points(BATCH, 2, MARKS)
PEOPLE_SHOWN = torch.stack([SHOWN, SHOWN.flip(0)], dim=1)
HIDDEN_AT_NAN = torch.where(SHOWN[..., None], ONE, torch.nan)
COUNTS = (2, 0, 1)  # people in each picture
LISTED = [points(count, MARKS) for count in COUNTS]
LISTED_SHOWN = [torch.ones(count, MARKS) for count in COUNTS]


def third(marks, visible):
    return torch.cat([marks, 2 * visible[..., None].float()], dim=-1)


def dicts():
    return [
        {"boxes": 1, "keypoints": third(m, v)} for m, v in zip(LISTED, LISTED_SHOWN, strict=True)
    ]


def flat(shape=(-1,)):
    """Ultralytics': all people in one tensor, in any order, with the picture of each."""
    owner = torch.tensor([2.0, 0.0, 0.0]).reshape(shape)
    keypoints = torch.cat([LISTED[2], LISTED[0]])
    return {"keypoints": third(keypoints, torch.ones(3, MARKS)), "batch_idx": owner}


FORMS = {
    "landmarks": (ONE, seen(ONE, EVERY)),
    "with-a-third-column": (third(ONE, SHOWN), seen(ONE, SHOWN)),
    "with-visible": ((ONE, SHOWN), seen(ONE, SHOWN)),
    "with-visible-numbers": ((ONE, SHOWN.long()), seen(ONE, SHOWN)),
    "with-no-visible": ((ONE, None), seen(ONE, EVERY)),
    "hidden-at-nan": (HIDDEN_AT_NAN, seen(ONE, SHOWN)),
    "nan-and-visible": ((HIDDEN_AT_NAN, SHOWN), seen(ONE, SHOWN)),
    "people": (PEOPLE, seen(PEOPLE, torch.ones(BATCH, 2, MARKS))),
    "people-with-a-third-column": (third(PEOPLE, PEOPLE_SHOWN), seen(PEOPLE, PEOPLE_SHOWN)),
    "list": (LISTED, seen(LISTED, LISTED_SHOWN)),
    "list-with-a-third-column": (
        [third(m, v) for m, v in zip(LISTED, LISTED_SHOWN, strict=True)],
        seen(LISTED, LISTED_SHOWN),
    ),
    "list-of-one-person": (list(ONE), seen(ONE, EVERY)),
    "torchvision": (dicts(), seen(LISTED, LISTED_SHOWN)),
    "ultralytics": (flat(), seen(LISTED, LISTED_SHOWN)),
    "ultralytics-column": (flat((-1, 1)), seen(LISTED, LISTED_SHOWN)),
    "nobody": (PEOPLE[:, :0], [[]] * BATCH),
    "nobody-visible": ((PEOPLE[:, :0], PEOPLE_SHOWN[:, :0]), [[]] * BATCH),
    "dict": ({"keypoints": ONE}, seen(ONE, EVERY)),
    "whole-numbers": (ONE.round().long(), seen(ONE.round(), EVERY)),
    "double": (ONE.double(), seen(ONE, EVERY)),
}


@pytest.mark.parametrize("name", FORMS)
def test_s_is_that_of_a_slow_loop(name):
    target, expected = FORMS[name]
    torch.testing.assert_close(
        of(target).float(), slow_structure(expected), rtol=0, atol=1e-5, check_dtype=False
    )


@pytest.mark.parametrize("name", [name for name in FORMS if name != "whole-numbers"])
def test_parts_of_the_sides_are_the_same_places(name):
    """0 is the left edge of the first pixel, 1 the right edge of the last."""

    def parts(value):
        if isinstance(value, torch.Tensor) and value.ndim > 2:
            scaled = value.clone()
            scaled[..., :2] = (value[..., :2] + 0.5) / torch.tensor([WIDTH, HEIGHT]).to(value)
            return scaled
        if isinstance(value, dict):
            return {key: parts(part) for key, part in value.items()}
        if isinstance(value, list):
            return [parts(p[None])[0] if isinstance(p, torch.Tensor) else parts(p) for p in value]
        return (parts(value[0]), value[1]) if isinstance(value, tuple) else value

    target, expected = FORMS[name]
    found = of(parts(target), normalized=True).float()
    torch.testing.assert_close(found, slow_structure(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("visible", [None, SHOWN], ids=["all", "some"])
def test_heatmaps_are_joined_by_the_maximum(visible):
    maps = encode_heatmaps(ONE, (HEIGHT, WIDTH), sigma=default_sigma((HEIGHT, WIDTH)))
    expected = slow_structure(seen(ONE, EVERY if visible is None else visible))
    found = of(maps if visible is None else (maps, visible))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_another_order_of_people_gives_the_same_map():
    torch.testing.assert_close(of(PEOPLE), of(PEOPLE.flip(1)), rtol=0, atol=0)
