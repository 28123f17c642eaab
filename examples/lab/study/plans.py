"""Plans by name: what is trained on which kind of machine."""

from collections.abc import Mapping
from typing import Any

from lab.study.arms import ARMS

__all__ = ["PLANS"]

FULL = ("plain", "appearance", "erasing", "saat", "literal")

PLANS: Mapping[str, Mapping[str, Any]] = {
    # HG*1 as the paper has it, but for the size of the pictures; nine minutes are enough.
    "gpu": {
        "arms": FULL,
        "image_size": 128,
        "precision": "bf16",
        "device": "cuda",
    },
    # The same questions on two cores, over hours.
    "cpu": {
        "arms": FULL,
        "image_size": 64,
        "width": 64,
        "depth": 3,
        "out_stride": 2,
        "attacker_width": 8,
        "processes": 2,
    },
    # To see that everything runs.
    "tiny": {
        "arms": tuple(ARMS),
        "image_size": 32,
        "batch_size": 4,
        "width": 8,
        "depth": 2,
        "out_stride": 4,
        "attacker_width": 4,
        "severities": (3,),
        "committee": 1,
        "processes": 2,
    },
}
