"""The hardest of several random appearances: an adversary that learns nothing."""

from typing import Unpack

import torch

from advaug.base.checks import check_error
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.tasks import LandmarkTask
from advaug.view.appearance import RandomAppearance

__all__ = ["HardestAppearance"]


class HardestAppearance(Defence):
    """Train on a copy of each picture in the worst of several random appearances.

    The worst of K random changes is an attack without gradients: L. Engstrom et al., "Exploring the
    Landscape of Spatial Robustness", ICML 2019, with rotations of pictures to classify. Where we
    differ: what is drawn is SAAT's `RandomAppearance`, which moves no landmark.

    BatchNorm statistics are shared by default, as those of a `SecondCopy`; the passes that choose
    move nothing.

    Cost: K + 3 F, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        draws: K.
        options: Those of every baseline; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none or an option is out of range.
    """

    def __init__(
        self, task: LandmarkTask, *, draws: int = 2, **options: Unpack[DefenceOptions]
    ) -> None:
        if not isinstance(draws, int) or draws < 1:
            msg = f"`draws` must be a whole number from 1, but got {draws!r}. Choose 2 or another."
            raise ValueError(msg)
        options.setdefault("batch_norm", "shared")
        super().__init__(task, **options)
        self.appearance = RandomAppearance(clamp=False)
        self.draws = draws

    def _example(self, call: Call, *, learn: bool) -> Example:
        count = len(call.images)
        hardest, most = call.images, call.images.new_full((count,), -torch.inf)
        with self.batch_norms.feedback(call.detector), torch.no_grad():
            for _ in range(self.draws):
                drawn = self.appearance(call.images)
                error = self.task.error(call.reference(drawn), call.target)
                check_error(error, count, read=self._reads(call.images.device))
                hardest = torch.where((error > most).view(-1, 1, 1, 1), drawn, hardest)
                most = torch.maximum(most, error)
        return Example(hardest, call.target)
