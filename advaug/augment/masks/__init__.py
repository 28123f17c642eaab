"""Face masks drawn onto pictures of faces; the landmarks stay as they are."""

from advaug.augment.masks.masking import (
    RENDERER_VERSION,
    STYLES,
    add_masks,
    check_landmarks,
    draw_style,
    render_mask,
)

__all__ = [
    "RENDERER_VERSION",
    "STYLES",
    "add_masks",
    "check_landmarks",
    "draw_style",
    "render_mask",
]
