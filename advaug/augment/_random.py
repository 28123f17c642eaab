"""Random numbers that follow from an integer, on every device and in every batch.

They are hashed, not drawn from a generator: a picture's numbers depend only on its own key.
"""

import math

import torch
from torch import Tensor

__all__ = ["hash_integers", "normal", "uniform"]

_LOW_32_BITS = 0xFFFFFFFF


def hash_integers(values: Tensor) -> Tensor:
    """Mix integers into 32 bits that look random; no product exceeds the 63 bits of an integer."""
    values = values.long()
    mixed = (values ^ (values >> 32)) & _LOW_32_BITS
    for _ in range(2):  # in place: noise hashes every pixel of a batch
        mixed ^= mixed >> 16
        mixed *= 0x45D9F3B
        mixed &= _LOW_32_BITS
    return mixed ^ (mixed >> 16)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Return `count` numbers in [0, 1) for each key, `(B, count)` float32."""
    counter = torch.arange(count, device=keys.device) * 0x9E3779B9
    return (hash_integers(keys[:, None] + counter) >> 8).float() / 2**24


def normal(keys: Tensor, count: int) -> Tensor:
    """Return `count` numbers of mean 0 and variance 1 for each key, `(B, count)` float32."""
    first, second = uniform(keys, 2 * -(-count // 2)).chunk(2, dim=1)
    # Box-Muller; 1 - u is never 0.
    radius = (-2 * (1 - first).log()).sqrt()
    angle = 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]
