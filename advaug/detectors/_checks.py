"""What every detector of ours refuses."""

from torch import Tensor

from advaug.errors import ShapeError

__all__ = ["check_at_least_one", "check_divisible", "check_images"]


def check_images(images: Tensor) -> None:
    """Raise unless `images` is a batch of RGB pictures."""
    if images.ndim != 4 or images.shape[1] != 3:
        msg = (
            f"`images` must have shape (B, 3, H, W), but got {tuple(images.shape)}. "
            "Give a batch of RGB pictures."
        )
        raise ShapeError(msg)


def check_divisible(images: Tensor, divisor: int) -> None:
    """Raise unless height and width of `images` are divisible by `divisor`."""
    height, width = images.shape[-2:]
    if height % divisor or width % divisor:
        fitting = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        msg = (
            f"`images` must have a height and width divisible by {divisor}, but got "
            f"{(height, width)}. Pad or resize to {fitting}."
        )
        raise ShapeError(msg)


def check_at_least_one(**counts: int) -> None:
    """Raise unless each of `counts`, by the name of its argument, is positive."""
    for name, count in counts.items():
        if count < 1:
            msg = f"`{name}` must be at least 1, but got {count}. Choose a positive number."
            raise ValueError(msg)
