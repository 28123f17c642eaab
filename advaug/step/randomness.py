"""Draw from a private generator, and keep the random states of the process as they are."""

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch

from advaug.base.distributed import apart

__all__ = ["private_randomness", "remembered"]


@contextlib.contextmanager
def private_randomness(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Draw everything random inside from `generator`, and keep the global random states.

    That is PyTorch's, NumPy's and Python's: a detector or a transform may use any of them.

    After an exception the generator is restored as well. While a CUDA graph is captured this does
    nothing: the graph is replayed inside of it instead.

    Args:
        generator: On the CPU. Only its state decides what is drawn inside.
        device: Where the random numbers are drawn.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        yield
        return
    before = generator.get_state()
    # The processes of a run share the generator's state and differ in what they draw.
    seed = apart(int(torch.randint(2**62, (), generator=generator)))
    put_back = remembered(device)
    try:
        # Not `torch.manual_seed`, which would reach every device.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 # the global one
        random.seed(seed)
        accelerator = _accelerator_generator(device)
        if accelerator is not None:
            accelerator.manual_seed(seed)
        yield
    except BaseException:
        generator.set_state(before)
        raise
    finally:
        put_back()


def remembered(device: torch.device) -> Callable[[], None]:
    """Save the global random states, and return a function that restores them."""
    accelerator = _accelerator_generator(device)
    saved = torch.default_generator.get_state()
    saved_numpy, saved_python = np.random.get_state(), random.getstate()  # noqa: NPY002 # the global one
    saved_there = None if accelerator is None else accelerator.get_state()

    def put_back() -> None:
        torch.default_generator.set_state(saved)
        np.random.set_state(saved_numpy)  # noqa: NPY002 # as above
        random.setstate(saved_python)
        if accelerator is not None and saved_there is not None:
            accelerator.set_state(saved_there)

    return put_back


def _accelerator_generator(device: torch.device) -> torch.Generator | None:
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return None
