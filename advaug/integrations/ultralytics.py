"""SAAT in Ultralytics' pose trainer.

Ultralytics is under the AGPL 3.0, or a licence that is bought; it is no dependency of this library
and no extra of it. Whoever imports this file uses Ultralytics on its terms.
"""

# pyright: reportMissingImports=false

from typing import Any

from torch.optim import Optimizer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.utils import LOGGER, RANK

from advaug.adversary import SampleAdaptiveAdversary
from advaug.integrations.shared import save_with, scalars, unwell

__all__ = ["AdversarialPoseTrainer"]


class AdversarialPoseTrainer(PoseTrainer):
    """A `PoseTrainer` that attacks a part of each training batch.

    `YOLO("yolo11n-pose.yaml").train(trainer=AdversarialPoseTrainer, data=...)`. Validation sees its
    pictures as they are. The adversary's state is in `last.pt`, beside the optimizer's, and is
    there with `resume=True`. Its report is in `results.csv` and wherever else the training loss is
    logged, as `train/adversary/...`; `train_batch*.jpg` show the attacked pictures.

    Override `make_adversary` for other options.
    """

    adversary: SampleAdaptiveAdversary | None = None

    def make_adversary(self) -> SampleAdaptiveAdversary:
        """The adversary, called once in each process."""
        return SampleAdaptiveAdversary(channels=self.data["channels"], seed=self.args.seed)

    def build_optimizer(self, *args: Any, **options: Any) -> Optimizer:  # noqa: ANN401 # Ultralytics'
        """The trainer's, with which the adversary is saved and loaded."""
        optimizer = super().build_optimizer(*args, **options)
        if self.adversary is None:
            self.adversary = self.make_adversary().to(self.device)
        save_with(optimizer, self.adversary)
        return optimizer

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The trainer's batch, of which a part is attacked."""
        batch = super().preprocess_batch(batch)
        if self.adversary is None or not self.model.training:
            return batch
        people = {"keypoints": batch["keypoints"], "batch_idx": batch["batch_idx"]}
        return {**batch, "img": self.adversary.augment(batch["img"], people, normalized=True)}

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """The trainer's, which cannot read pictures that have a graph."""
        super().plot_training_samples({**batch, "img": batch["img"].detach()}, ni)

    def label_loss_items(self, loss_items: Any = None, prefix: str = "train") -> Any:  # noqa: ANN401 # Ultralytics'
        """The trainer's, with the report beside the training loss."""
        items = super().label_loss_items(loss_items, prefix)
        if self.adversary is None or loss_items is None or prefix != "train":
            return items
        found = scalars(self.adversary)
        return {**items, **{f"train/{name}": value for name, value in found.items()}}

    def final_eval(self) -> None:
        """The trainer's, and what is wrong with the run."""
        super().final_eval()
        finding = None if self.adversary is None else unwell(self.adversary)
        if finding and RANK in {-1, 0}:
            LOGGER.warning(finding)
