"""The hardest of several random appearances: an adversary that learns nothing."""

from typing import Unpack

import torch

from advaug._checks import check_draws, check_error
from advaug.appearance import RandomAppearance, hardest
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.tasks import LandmarkTask

__all__ = ["HardestAppearance"]


class HardestAppearance(Defence):
    """Train on a copy of each picture in the worst of several random appearances.

    The worst of K random changes is an attack without gradients: L. Engstrom et al., "Exploring the
    Landscape of Spatial Robustness", ICML 2019, with rotations of pictures to classify. Where we
    differ: what is drawn is SAAT's `RandomAppearance`, which moves no landmark. It is what
    `SampleAdaptiveAdversary(appearance_draws=K)` does beside its learned attack.

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
        options.setdefault("batch_norm", "shared")
        super().__init__(task, **options)
        self.appearance = RandomAppearance()
        check_draws("draws", draws, self.appearance)
        self.draws = draws

    def _example(self, call: Call, *, learn: bool) -> Example:
        draws = [self.appearance(call.images) for _ in range(self.draws)]
        with self.batch_norms.feedback(call.detector), torch.no_grad():
            errors = [self.task.error(call.reference(images), call.target) for images in draws]
            for error in errors:
                check_error(error, len(call.images), read=self._reads(call.images.device))
        return Example(hardest(draws, errors), call.target)
