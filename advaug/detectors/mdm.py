"""The Mnemonic Descent Method (Trigeorgis et al., CVPR 2016), differentiable down to the pixels.

A face shape descends from the mean shape to the landmarks in a few recurrent steps. Each step sees
patches of the picture around the positions that the step before predicted.
"""

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from advaug.base.checks import check_at_least_one, check_rgb
from advaug.base.precision import widen
from advaug.base.shapes import vector
from advaug.detectors._patches import sample_patches
from advaug.detectors._weights import SavedModule
from advaug.errors import ShapeError

__all__ = ["MDM"]

MIN_PATCH_SIZE = 10  # two convolutions and two poolings leave nothing of a smaller patch
CENTRE_JITTER, SIZE_JITTER = 0.03, 0.06  # about how much a face detector's boxes vary
OFFSET_UNIT = 1 / 16  # of the box's diagonal: how far an output of 1 moves a landmark
FEATURES_IN_FULL = 4096  # more features are scaled down to the sum of this many

Box = tuple[float, float, float, float]


class MDM(SavedModule):
    """Predict landmarks with a recurrent network that looks at patches around its last guess.

    `MDM(mean_shape)` has the published size, 80,558,632 parameters for 68 landmarks. Nearly all of
    them are in the layer that joins the patches. A small one has, for example,
    `hidden=64, patch_size=12, reduce=8`.

    The mean shape is moved and scaled so that its box gets the centre and the diagonal of the
    face's box; without boxes that is the whole picture. In training every box is moved a little
    (centre by 3 % of the side, size by 6 %, standard deviations), as a face detector would, with
    random numbers from PyTorch's global generator.

    Patches have a fixed size in pixels, so faces should be about as large as in training.

    Where we differ: patches are sampled bilinearly, so that a loss has a gradient at the picture;
    the original rounds to whole pixels and has none. The boxes' spread is fixed, not fitted to a
    training set. Three changes let small networks learn within hundreds of steps of Adam; they
    affect only where training starts and how far a step goes. Weights keep the size of the signal
    (the original's all have a standard deviation of 0.01). Offsets are in sixteenths of the box's
    diagonal (the original's are pixels). If the patches have more than 4096 features, the sum that
    makes the state is scaled down, because a step on the sum of 156,672 would saturate it.
    `docs/detectors.md` has the measurement.

    Args:
        mean_shape: `(N, 2)`, x then y, in any unit: the mean of the training landmarks.
        mean_box: x_min, y_min, x_max, y_max of the face box that belongs to `mean_shape`, in the
            same unit. For the mean shape of square pictures in pixels this is
            `(-0.5, -0.5, side - 0.5, side - 0.5)`. None for the tight box of the mean shape.
        hidden: Size of the state that is passed from step to step.
        patch_size: Side of a patch in pixels of the picture, at least 10.
        steps: How many times the network looks; all steps share their weights.
        reduce: Number of channels to which a 1 x 1 convolution reduces the 64 of every patch before
            they are joined; None, as published, has no such layer.
        jitter: Whether boxes are moved in training.
        coordinate_gradient: Whether gradients also flow through the positions of the patches, from
            step to step. In the original they do not.

    Raises:
        ShapeError: If `mean_shape` is not `(N, 2)`.
        ValueError: If an argument is out of its range.

    Shape:
        - images: `(B, 3, H, W)`
        - boxes: `(B, 4)`, x_min, y_min, x_max, y_max in pixels, or None
        - returns: a list with `(B, N, 2)` for every step, x then y, in pixels of the picture,
          float32 or wider; the last one is the prediction

    Examples:
        >>> network = MDM(torch.rand(68, 2), hidden=64, patch_size=12, reduce=8)
        >>> [step.shape for step in network(torch.rand(1, 3, 64, 64))][-1]
        torch.Size([1, 68, 2])
    """

    mean_shape: Tensor  # about the centre of its box, in diagonals of the box

    def __init__(
        self,
        mean_shape: ArrayLike | Tensor,
        *,
        mean_box: Box | None = None,
        hidden: int = 512,
        patch_size: int = 30,
        steps: int = 4,
        reduce: int | None = None,
        jitter: bool = True,
        coordinate_gradient: bool = False,
    ) -> None:
        super().__init__()
        check_at_least_one(hidden=hidden, steps=steps, reduce=1 if reduce is None else reduce)
        if patch_size < MIN_PATCH_SIZE:
            msg = (
                f"`patch_size` must be at least {MIN_PATCH_SIZE}, but got {patch_size}. "
                "Choose a larger one."
            )
            raise ValueError(msg)
        shape = _checked_shape(mean_shape)
        box = _checked_box(mean_box, shape)
        self.arguments = {
            "mean_shape": shape.tolist(),
            "mean_box": box.tolist(),
            "hidden": hidden,
            "patch_size": patch_size,
            "steps": steps,
            "reduce": reduce,
            "jitter": jitter,
            "coordinate_gradient": coordinate_gradient,
        }
        self.hidden, self.patch_size, self.steps = hidden, patch_size, steps
        self.jitter, self.coordinate_gradient = jitter, coordinate_gradient
        low, high = box[:2], box[2:]
        relative = (shape - (low + high) / 2) / (high - low).norm()
        self.register_buffer("mean_shape", relative.float())
        self.patch_net = _PatchNet(reduce)
        features = len(shape) * self.patch_net.features_of(patch_size)
        self.recurrent = nn.Linear(features + hidden, hidden)
        self.offsets = nn.Linear(hidden, 2 * len(shape))
        self.share = min(1.0, FEATURES_IN_FULL / features)
        self._initialise(features)

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> list[Tensor]:
        """Return the landmarks after every step.

        Raises:
            ShapeError: If `images` or `boxes` have another shape than the class requires.
            ValueError: If a box is empty or not finite.
        """
        check_rgb(images)
        landmarks, unit = self._start(images, boxes)
        state = images.new_zeros(len(images), self.hidden)
        guesses: list[Tensor] = []
        for _ in range(self.steps):
            places = landmarks if self.coordinate_gradient else landmarks.detach()
            patches = sample_patches(images, places, self.patch_size).to(images.dtype)
            features = self.share * self.patch_net(patches).reshape(len(images), -1)
            state = self.recurrent(torch.cat([features, state], dim=1)).tanh()
            landmarks = landmarks + unit * self.offsets(state).unflatten(1, (-1, 2))
            guesses.append(landmarks)
        return guesses

    def _start(self, images: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean shape in the face boxes, `(B, N, 2)`, and their units, `(B, 1, 1)`, in pixels.

        Both are float32 or wider.
        """
        if boxes is None:
            boxes = _whole_picture(images)
        elif boxes.shape == (len(images), 4):
            _check_boxes(boxes, "boxes", "Check the order of the numbers.")
        else:
            msg = (
                f"`boxes` must have shape (B, 4) = {(len(images), 4)}, but got "
                f"{tuple(boxes.shape)}. Give x_min, y_min, x_max, y_max for every picture."
            )
            raise ShapeError(msg)
        # Half precision is not enough: at 256 pixels its steps are as large as the errors.
        boxes = boxes.to(images.device, widen(images).dtype)
        low, high = boxes[:, :2], boxes[:, 2:]
        centre, diagonal = (low + high) / 2, (high - low).norm(dim=1, keepdim=True)
        if self.training and self.jitter:
            noise = boxes.new_empty(len(boxes), 3).normal_()
            side = diagonal / math.sqrt(2)
            centre = centre + CENTRE_JITTER * side * noise[:, :2]
            diagonal = diagonal * (SIZE_JITTER * noise[:, 2:]).exp()
        diagonal = diagonal[:, :, None]
        start = centre[:, None] + diagonal * self.mean_shape.to(boxes.dtype)
        return start, OFFSET_UNIT * diagonal

    def _initialise(self, features: int) -> None:
        """Keep the signal's size from the pixels to the state, and begin with small offsets."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        nn.init.normal_(self.offsets.weight, std=0.01)
        with torch.no_grad():
            self.recurrent.weight[:, :features] /= self.share


class _PatchNet(nn.Module):
    """What one patch looks like, at two scales: 32 channels each for its centre and the whole."""

    def __init__(self, reduce: int | None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3)
        self.second = nn.Conv2d(32, 32, 3)
        self.reduce = (
            nn.Identity() if reduce is None else nn.Sequential(nn.Conv2d(64, reduce, 1), nn.ReLU())
        )
        self.channels = reduce or 64

    def features_of(self, patch_size: int) -> int:
        """How many numbers describe a patch of this side."""
        side = ((patch_size - 2) // 2 - 2) // 2
        return self.channels * side**2

    def forward(self, patches: Tensor) -> Tensor:
        fine = self.second(max_pool2d(self.first(patches).relu(), 2)).relu()
        whole = max_pool2d(fine, 2)
        side = whole.shape[-1]
        start = (fine.shape[-1] - side) // 2
        centre = fine[..., start : start + side, start : start + side]
        return self.reduce(torch.cat([centre, whole], dim=1))


def _checked_shape(mean_shape: ArrayLike | Tensor) -> Tensor:
    """A mean shape as float64 on the CPU, whatever PyTorch's current device is."""
    shape = torch.as_tensor(mean_shape, dtype=torch.float64, device="cpu").detach()
    if shape.ndim != 2 or shape.shape[1] != 2 or len(shape) == 0:
        msg = (
            f"`mean_shape` must have shape (N, 2), but got {tuple(shape.shape)}. "
            "Average the training landmarks over their pictures."
        )
        raise ShapeError(msg)
    if not bool(shape.isfinite().all()):
        msg = (
            "`mean_shape` must be finite, but got NaN or infinity. "
            "Average only the visible landmarks."
        )
        raise ValueError(msg)
    return shape


def _checked_box(mean_box: Box | None, shape: Tensor) -> Tensor:
    """The box of a mean shape: `(4,)` float64 on the CPU."""
    if mean_box is None:
        box = torch.cat([shape.amin(dim=0), shape.amax(dim=0)])
        _check_boxes(box[None], "mean_box", "Give the `mean_box` of a shape that is a point.")
    else:
        box = torch.tensor(mean_box, dtype=torch.float64, device="cpu")
        if box.shape != (4,):
            msg = (
                f"`mean_box` must be four numbers, but got {tuple(box.shape)}. "
                "Give x_min, y_min, x_max, y_max."
            )
            raise ShapeError(msg)
        _check_boxes(box[None], "mean_box", "Check the order of the numbers.")
    return box


def _check_boxes(boxes: Tensor, name: str, fix: str) -> None:
    """Raise where one of `boxes`, `(B, 4)`, is empty or not finite."""
    sides = boxes[:, 2:] - boxes[:, :2]
    diagonal = sides.norm(dim=1)
    # NaN fails every comparison, so it is refused here too.
    good = (sides >= 0).all(dim=1) & (diagonal > 0) & (diagonal < math.inf)
    if not bool(good.all()):
        msg = (
            f"`{name}` must be x_min, y_min, x_max, y_max of a finite box that is not empty, but "
            f"got {boxes[~good][0].tolist()}. {fix}"
        )
        raise ValueError(msg)


def _whole_picture(images: Tensor) -> Tensor:
    """The box of each whole picture, edge to edge: `(B, 4)`, in float32 or wider."""
    height, width = images.shape[2:]
    box = vector((-0.5, -0.5, width - 0.5, height - 0.5), widen(images[:1]))
    return box.expand(len(images), 4)
