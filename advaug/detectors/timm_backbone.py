"""Any backbone of timm under a light head: heatmaps, or coordinates by a soft-argmax.

The only file that imports timm, which loads torchvision.
"""

import difflib
import math
import os
import pickle
from typing import Any, Self

import timm
import torch
from safetensors import SafetensorError
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from advaug.base.checks import check_at_least_one, check_divisible, check_rgb
from advaug.base.files import check_uncompressed
from advaug.base.precision import full_precision
from advaug.detectors._weights import SavedModule
from advaug.errors import ShapeError
from advaug.heatmaps import resize_heatmaps, resize_landmarks
from advaug.pixels import PixelSpec

__all__ = ["TimmCoordinateNet", "TimmHeatmapNet"]

_GROUPS = 8  # of the head's GroupNorm


class TimmHeatmapNet(SavedModule):
    """Predict one heatmap per landmark with a backbone of timm.

    The head projects the backbone's features to `width` channels at their small size, resizes them
    bilinearly, adds them up and reads them with a 3 x 3 and a 1 x 1 convolution. Resizing works for
    features of any stride, those of a ViT and those of a ResNet, and adds no weights. The
    transposed convolutions of Xiao et al. (ECCV 2018) need one layer per doubling; with 256
    channels these are larger than a small backbone. The head normalises each sample separately
    (GroupNorm), so that backbones without BatchNorm stay without it.

    The detector expects pictures that are normalised as its backbone was trained: `detector.pixels`
    says how, `detector.pixels.from_unit(images)` does it, and
    `SampleAdaptiveAdversary(task, pixels=detector.pixels)` tells the adversary.

    Args:
        backbone: A name of timm, such as "resnet18" or "vit_small_patch16_224.dino".
        num_landmarks: N, the number of heatmaps.
        pretrained: True loads the backbone's weights by timm's own mechanism, from its cache or the
            network. A path loads them from one of timm's files, in safetensors or in PyTorch's
            format with nothing but tensors in it, so that no code runs.
        width: Channels of the head; divisible by 8.
        out_stride: Pixels of the picture per pixel of the heatmaps.
        image_size: Side of the pictures, for backbones that are built for one size, such as a ViT;
            by default the size that timm uses. Position embeddings of pretrained weights are
            resampled.

    Attributes:
        pixels: How the detector expects its pictures: mean and std of the backbone.
        size_divisor: What height and width of the pictures must be divisible by.

    Raises:
        ValueError: If timm has no such backbone (the message names the closest ones), if it has no
            feature maps, or if an argument is out of its range.
        OSError: If pretrained weights are unavailable; the message names the ways out.
        ValueError: If a file of weights holds anything but tensors.

    Shape:
        - images: `(B, 3, H, W)`, H and W divisible by `size_divisor`
        - returns: `(B, N, H / out_stride, W / out_stride)`

    Examples:
        >>> TimmHeatmapNet("resnet18", 68)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 68, 16, 16])
    """

    pixels: PixelSpec

    def __init__(
        self,
        backbone: str,
        num_landmarks: int,
        *,
        pretrained: bool | str | os.PathLike[str] = False,
        width: int = 128,
        out_stride: int = 4,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        check_at_least_one(num_landmarks=num_landmarks, width=width, out_stride=out_stride)
        if width % _GROUPS:
            fitting = -(-width // _GROUPS) * _GROUPS
            msg = f"`width` must be divisible by {_GROUPS}, but got {width}. Choose {fitting}."
            raise ValueError(msg)
        self.arguments = {
            "backbone": backbone,
            "num_landmarks": num_landmarks,
            "width": width,
            "out_stride": out_stride,
            "image_size": image_size,
        }
        self.out_stride = out_stride
        self.fixed_size = _fixed_size(backbone, image_size)
        self.backbone = _create(backbone, self.fixed_size, pretrained)
        data = resolve_model_data_config(self.backbone)
        self.pixels = PixelSpec(tuple(data["mean"]), tuple(data["std"]))
        info: Any = self.backbone.feature_info
        strides: list[int] = info.reduction()
        if out_stride > max(strides):
            msg = (
                f"`out_stride` must be at most {max(strides)}, the coarsest stride of {backbone}, "
                f"but got {out_stride}. Choose 4."
            )
            raise ValueError(msg)
        # A backbone of a fixed size knows what it divides that by.
        coarsest = 1 if self.fixed_size else max(strides)
        self.size_divisor = math.lcm(coarsest, out_stride)
        # Anything finer than the output adds cost, not detail.
        self.used = [index for index, stride in enumerate(strides) if stride >= out_stride]
        channels: list[int] = info.channels()
        self.head = _Head([channels[index] for index in self.used], width, num_landmarks)
        # Targets are zero nearly everywhere: start from almost blank maps.
        nn.init.normal_(self.head.last.weight, std=0.001)
        nn.init.zeros_(self.head.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Tensor) -> Tensor:
        """Return the heatmaps of `images`, which are normalised as `pixels` says.

        Raises:
            ShapeError: If `images` has another shape than the class requires.
        """
        self._check(images)
        features = self.backbone(images)
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            features = [feature.movedim(-1, 1) for feature in features]
        size = (images.shape[-2] // self.out_stride, images.shape[-1] // self.out_stride)
        return self.head([features[index] for index in self.used], size)

    @classmethod
    def _blank(cls, arguments: dict[str, Any]) -> Self:
        # Some backbones have buffers that no file holds: they must be computed, not left empty.
        with torch.random.fork_rng(devices=[]):
            return cls(**arguments)

    def _check(self, images: Tensor) -> None:
        check_rgb(images)
        size = (images.shape[-2], images.shape[-1])
        name = self.arguments["backbone"]
        if self.fixed_size is not None and size != (self.fixed_size, self.fixed_size):
            msg = (
                f"`images` must be {self.fixed_size} pixels high and wide, for which this {name} "
                f"was built, but got {size}. Resize them, or build it with `image_size=`."
            )
            raise ShapeError(msg)
        check_divisible(images, self.size_divisor)


class TimmCoordinateNet(TimmHeatmapNet):
    """Predict landmark coordinates with a backbone of timm, by a soft-argmax.

    Each map of a `TimmHeatmapNet` is turned into a distribution over its pixels, whose mean is the
    landmark (Nibali et al., 2018). Unlike a regression from a pooled vector it keeps positions, so
    it learns from few pictures and works at any size. No landmark can lie outside the centres of
    the outermost pixels of the maps, `(out_stride - 1) / 2` pixels inside those of the picture.

    Arguments, attributes and errors are those of `TimmHeatmapNet`.

    Shape:
        - images: `(B, 3, H, W)`, H and W divisible by `size_divisor`
        - returns: `(B, N, 2)`, x then y, in pixels of the picture

    Examples:
        >>> TimmCoordinateNet("resnet18", 68)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 68, 2])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the landmarks of `images`, which are normalised as `pixels` says.

        Raises:
            ShapeError: If `images` has another shape than the class requires.
        """
        scores = super().forward(images)
        return _expected_landmarks(scores, (images.shape[-2], images.shape[-1]))


class _Head(nn.Module):
    """Maps from features of several strides."""

    def __init__(self, channels: list[int], width: int, maps: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.mix = nn.Sequential(
            *(nn.GroupNorm(_GROUPS, width), nn.ReLU()),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            *(nn.GroupNorm(_GROUPS, width), nn.ReLU()),
        )
        self.last = nn.Conv2d(width, maps, 1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        projected = [
            resize_heatmaps(project(feature), size)
            for project, feature in zip(self.projections, features, strict=True)
        ]
        return self.last(self.mix(torch.stack(projected).sum(dim=0)))


@full_precision
def _expected_landmarks(scores: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Mean position of each map's softmax: `(B, N, 2)`, in pixels of the picture."""
    size = (scores.shape[-2], scores.shape[-1])
    weights = scores.flatten(2).softmax(dim=-1).unflatten(2, size)
    rows, columns = (torch.arange(n, dtype=weights.dtype, device=weights.device) for n in size)
    x = (weights.sum(dim=2) * columns).sum(dim=-1)
    y = (weights.sum(dim=3) * rows).sum(dim=-1)
    return resize_landmarks(torch.stack([x, y], dim=-1), size, image_size)


def _fixed_size(backbone: str, image_size: int | None) -> int | None:
    """Side of the pictures that a backbone is built for, or None if it accepts any."""
    _check_known(backbone)
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.fixed_input_size:
        if image_size is not None:
            msg = (
                f"`image_size` must be left out for {backbone}, which accepts any size, "
                f"but got {image_size}. Leave it out."
            )
            raise ValueError(msg)
        return None
    return config.input_size[-1] if image_size is None else image_size


def _check_known(backbone: str) -> None:
    """Raise unless timm has this name, and its tag if it has one."""
    names = timm.list_models(include_tags=True) if "." in backbone else timm.list_models()
    if backbone in names or ("." not in backbone and timm.is_model(backbone)):
        return
    closest = difflib.get_close_matches(backbone, names, n=3, cutoff=0.5)
    fix = f"Did you mean {', '.join(closest)}?" if closest else "See `timm.list_models()`."
    msg = f"`backbone` must be a name of timm {timm.__version__}, but got {backbone!r}. {fix}"
    raise ValueError(msg)


def _create(
    backbone: str, fixed_size: int | None, pretrained: bool | str | os.PathLike[str]
) -> nn.Module:
    """The backbone with feature outputs, and with pretrained weights if requested."""
    overlay = None
    if not isinstance(pretrained, bool):
        overlay = {"state_dict": _read_weights(os.fspath(pretrained))}
    try:
        return timm.create_model(
            backbone,
            features_only=True,
            img_size=fixed_size,
            pretrained=pretrained is not False,
            pretrained_cfg_overlay=overlay,
        )
    except OSError as error:
        msg = (
            f"`pretrained` must find the weights of {backbone}, but they are neither in the cache "
            f"nor within reach ({type(error).__name__}). Connect to the network; or fill the cache "
            "where there is one and copy the folder that `HF_HOME` names; or give the path of a "
            "file of weights, `pretrained=path`; or start from random weights, `pretrained=False`."
        )
        raise OSError(msg) from error


def _read_weights(path: str) -> dict[str, Tensor]:
    """Read one of timm's files. Older versions of timm let it run code; here it never may."""
    if not os.path.isfile(path):
        msg = (
            f"`pretrained` must be True, False or a file of weights, but got {path!r}, which is no "
            "file. Check the path."
        )
        raise FileNotFoundError(msg)
    try:
        check_uncompressed(path)
        return timm.models.load_state_dict(path, weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, TypeError) as error:
        msg = (
            f"`pretrained` must be a file that holds tensors only, but got {path!r}: "
            f"{str(error).splitlines()[0][:200]} Save its `state_dict()` with safetensors."
        )
        raise ValueError(msg) from error
