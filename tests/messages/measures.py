"""Messages of metrics and of what is measured."""

import torch
from messages.kit import Case, InFolder
from small_sets import points
from torch import nn

from advaug import PixelSpec, decode_heatmaps, encode_heatmaps
from advaug.datasets import Decoding
from advaug.datasets.known import find_known
from advaug.errors import ShapeError
from advaug.evaluation import (
    Plan,
    Protocol,
    auc,
    evaluate_corruptions,
    failure_rate,
    nme,
)
from advaug.evaluation.batches import Batches
from advaug.evaluation.hardness import hardest, large_pose, low_quality, turn_of_head
from advaug.evaluation.loaded import LoadedDetector, decode_output, load_weights
from advaug.evaluation.measuring import claim
from advaug.evaluation.planning import choose_conditions
from advaug.evaluation.pose import oks, pck, pckh
from advaug.evaluation.sets import (
    EvaluationSet,
    Request,
    choose_normalizer,
    choose_subsets,
    open_set,
)

FACE = torch.from_numpy(points(68)).float()
TRUE = FACE.expand(3, 68, 2)
SEEN = torch.ones(3, 68, dtype=torch.bool)
BROKEN = TRUE.clone()
BROKEN[1, 5] = torch.nan
NOT_5 = SEEN.clone()
NOT_5[1, 5] = False
MAPS = encode_heatmaps(TRUE / 3, (32, 32), sigma=1.0)
ERRORS = torch.tensor([0.03, torch.nan, 0.05])
SIZES = torch.full((3,), 50.0)


def measured(preds=TRUE, target=TRUE, normalizer="inter_ocular", **options):
    assert nme(preds, target, normalizer=normalizer, **options).isfinite().any()


class Points(nn.Module):
    """A detector that gives always the same, and learns nothing."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, images):
        return self.output[: len(images)]


def loaded(output=TRUE, reading="coordinates", **options):
    """What a detector's output is read as, on a picture of 32 x 32."""
    read = decode_output(reading) if isinstance(reading, str) else reading
    net = Points(output).eval()
    detector = LoadedDetector("a stand-in", net, read, PixelSpec(), "", **options)
    return detector.rehearse(options.get("image_size") or 32)


def of_size(side):
    net = Points(TRUE).eval()
    read = decode_output("coordinates")
    return LoadedDetector("one", net, read, PixelSpec(), "", image_size=64).rehearse(side)


def flat(output, _):
    """A function of one's own that reads `(B, 2 N)`."""
    return output.unflatten(1, (-1, 2))


def fitting(limit, size):
    """A batch of `size` where only `limit` pictures fit."""

    def work(part):
        if part.stop - part.start > limit:
            raise MemoryError
        return torch.zeros(part.stop - part.start)

    return Batches(size, lambda line: None).map(work, 2)


def corruption_errors(**options):
    return evaluate_corruptions(
        Points(TRUE),
        lambda output, size: output,
        torch.rand(3, 3, 96, 96),
        TRUE,
        SEEN,
        normalizer="box",
        kinds=("fog",),
        severities=(1,),
        **options,
    )


def same(images, landmarks, numbers):
    return images


def planned(num_landmarks=68, **options):
    return choose_conditions(Plan(Protocol("box"), **options), num_landmarks)


EMPTY = EvaluationSet("a set", [], {"all": [0], "blur": []}, ["a"], None)


def saved(root, network):
    network.save(root / "net.safetensors")
    return load_weights(root / "net.safetensors", "cpu")


def hourglass():
    from measured import hourglass

    return hourglass()


def foreign(root):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, root / "net.safetensors")
    return load_weights(root / "net.safetensors", "cpu")


IN_FOLDERS = {
    "no weights": InFolder(
        lambda root: load_weights(root / "net.safetensors", "cpu"),
        "there is no .*Check it",
        lambda root: saved(root, hourglass()),
        FileNotFoundError,
    ),
    "others' weights": InFolder(
        foreign,
        "must be a file that HourglassNet, .* has saved",
        lambda root: saved(root, hourglass()),
        ValueError,
    ),
    "another measurement": InFolder(
        lambda root: (claim(root, {"flip": True}), claim(root, {"flip": False})),
        "differs in flip: True there, False here. Choose another `--output`",
        lambda root: ((root / "other").mkdir(), claim(root / "other", {"flip": False})),
        ValueError,
    ),
}

CASES = {
    "preds": Case(
        lambda: measured(preds=MAPS),
        "Decode it to landmarks",
        lambda: measured(preds=3 * decode_heatmaps(MAPS)),
        ShapeError,
    ),
    "schemes": Case(
        lambda: measured(preds=TRUE[:, :29]),
        "Check that both use the same scheme",
        lambda: measured(preds=TRUE[:, :29], target=TRUE[:, :29]),
        ShapeError,
    ),
    "visible": Case(
        lambda: measured(visible=SEEN[0]),
        "Give one value per landmark",
        lambda: measured(visible=SEEN),
        ShapeError,
    ),
    "NaN": Case(
        lambda: measured(BROKEN),
        "or mark it as not visible",
        lambda: measured(BROKEN, visible=NOT_5),
    ),
    "distance": Case(
        lambda: measured(target=TRUE.new_zeros(3, 68, 2)),
        "Check its landmarks in `target`",
        measured,
    ),
    "all NaN": Case(
        lambda: auc(ERRORS[1:2]),
        "Check that the data set has visible landmarks",
        lambda: auc(ERRORS),
    ),
    "rule": Case(
        lambda: auc(ERRORS, rule="trapezoid"),
        "must be exact or simpson.*Choose one of them",
        lambda: [auc(ERRORS, rule=rule) for rule in ("exact", "simpson")],
    ),
    "threshold": Case(
        lambda: failure_rate(ERRORS, threshold=0),
        "Pass 0.1 for 10 %",
        lambda: [failure_rate(ERRORS, threshold=0.1), auc(ERRORS, threshold=0.1)],
    ),
    "normalizer, a tensor": Case(
        lambda: measured(normalizer=SIZES[:1]),
        "Give one per sample",
        lambda: measured(normalizer=SIZES),
        ShapeError,
    ),
    "normalizer, a name": Case(
        lambda: measured(normalizer="iod"),
        "one of inter_ocular, inter_pupil, box, diagonal, a pair of indices or a .B,. tensor",
        lambda: [
            measured(normalizer=each)
            for each in ("inter_ocular", "inter_pupil", "box", "diagonal", (36, 45), SIZES)
        ],
    ),
    "normalizer, a scheme": Case(
        lambda: measured(TRUE[:, :5], TRUE[:, :5]),
        'Pass a pair of indices, "box" or a .B,. tensor .`--normalizer 0,1`, `--normalizer box`',
        lambda: [
            measured(TRUE[:, :5], TRUE[:, :5], normalizer=each) for each in ((0, 1), "box", SIZES)
        ],
    ),
    "normalizer, a pair": Case(
        lambda: measured(normalizer=(36, 68)),
        "Give the two landmarks whose distance is 1",
        lambda: measured(normalizer=(36, 45)),
    ),
    "normalizer, profiles": Case(
        lambda: choose_normalizer("merl-rav", "inter_ocular"),
        "must be box or diagonal for merl-rav.*Choose one of them",
        lambda: [choose_normalizer("merl-rav", each) for each in ("box", "diagonal", None)],
    ),
    "pck": Case(
        lambda: pck(TRUE, TRUE, normalizer="box", threshold=0),
        "Pass 0.2 for PCK@0.2",
        lambda: pck(TRUE, TRUE, normalizer="box", threshold=0.2),
    ),
    "pckh": Case(
        lambda: pckh(TRUE, TRUE, head_sizes=SIZES),
        "Use `pck` for others",
        lambda: pck(TRUE, TRUE, normalizer=SIZES),
        ShapeError,
    ),
    "oks": Case(
        lambda: oks(TRUE, TRUE, area=SIZES),
        "each of the 68 landmarks, but got 17. Pass those of this scheme",
        lambda: oks(TRUE, TRUE, area=SIZES, sigmas=[0.05] * 68),
        ShapeError,
    ),
    "turn of a head": Case(
        lambda: turn_of_head(TRUE[:, :5]),
        "give its 68 landmarks",
        lambda: turn_of_head(TRUE),
        ShapeError,
    ),
    "low quality": Case(
        lambda: low_quality(SIZES, SIZES[:2], SIZES, share=0.5),
        "Measure the same pictures for all three",
        lambda: low_quality(SIZES, SIZES, SIZES, share=0.5),
        ShapeError,
    ),
    "share": Case(
        lambda: hardest(ERRORS[None].expand(2, 3), share=10),
        "Pass 0.1 for a tenth",
        lambda: hardest(ERRORS[None].expand(2, 3).repeat(1, 4), share=0.1),
    ),
    "share of few, more": Case(
        lambda: large_pose(TRUE), "Use more pictures", lambda: large_pose(TRUE.repeat(2, 1, 1))
    ),
    "share of few, larger": Case(
        lambda: large_pose(TRUE), "or a larger `share`", lambda: large_pose(TRUE, share=0.5)
    ),
    "detector's size": Case(lambda: of_size(32), "Pass that one", lambda: of_size(64)),
    **{
        f"detector's output, {name}": Case(
            lambda: loaded(torch.zeros(1, 10)),
            'Say how to read it .*"heatmaps".*"coordinates".* or `.module, decode.` with',
            lambda output=output, reading=reading: loaded(output, reading),
        )
        for name, reading, output in (
            ("heatmaps", "heatmaps", MAPS),
            ("coordinates", "coordinates", TRUE),
            ("a function", flat, torch.zeros(1, 10)),
        )
    },
    "one picture": Case(
        lambda: fitting(0, 1), "Use smaller pictures", lambda: fitting(1, 2), MemoryError
    ),
    "clean": Case(
        lambda: corruption_errors(conditions={"same": same}),
        "must have 'clean', .*Add it for the ratio",
        lambda: corruption_errors(conditions={"same": same, "clean": same}),
    ),
    "conditions": Case(
        lambda: planned(conditions=("rain",)),
        "among clean, masked, occluded, landmark-c, but got 'rain'. Choose from them",
        lambda: planned(conditions=("clean", "masked", "occluded", "landmark-c")),
    ),
    "conditions of faces": Case(
        lambda: planned(5, conditions=("clean", "masked")),
        "Leave it out",
        lambda: planned(5, conditions=("clean",)),
    ),
    "kinds of faces": Case(
        lambda: planned(5, conditions=("landmark-c",), kinds=("fog", "mask")),
        "`--kinds` mask must have the 68 landmarks of a face, but got 5. Leave it out",
        lambda: planned(5, conditions=("landmark-c",), kinds=("fog",)),
    ),
    "subsets": Case(
        lambda: choose_subsets(EMPTY, ["noise"]),
        "Choose from them, or leave it out for all",
        lambda: [choose_subsets(EMPTY, each) for each in (["all"], None)],
    ),
    "empty subsets": Case(
        lambda: choose_subsets(EMPTY, ["all", "blur"]),
        "but got none in blur of a set. Leave them out",
        lambda: choose_subsets(EMPTY, ["all"]),
    ),
    "no root": Case(
        lambda: open_set("300w", Request(None, 32)),
        "`--root` must name the folder of 300w, but got none. Pass the folder",
        lambda: open_set("synthetic", Request(None, 32, count=1)),
    ),
    "decoding": Case(
        lambda: find_known("cofw").check_decoding(Decoding("exif")),
        r"Leave it out \(`--orientation`, `--white`\)",
        lambda: find_known("cofw").check_decoding(None),
    ),
}
