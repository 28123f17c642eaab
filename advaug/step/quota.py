"""How many pictures of each batch are attacked."""

import math
from collections.abc import Mapping

__all__ = ["Quota"]


class Quota:
    """Over many calls exactly a share of all pictures, however large the batches are."""

    def __init__(self) -> None:
        self._offered = self._taken = 0

    def next(self, batch: int, share: float, *, least: int = 0) -> int:
        """How many pictures of the next batch are due. No state changes.

        Args:
            batch: Pictures in the batch.
            share: Part of all pictures that is due, above 0 and at most 1.
            least: How many are due in any case.
        """
        due = math.floor(share * (self._offered + batch)) - self._taken
        return min(max(due, least), batch)

    def take(self, batch: int, count: int) -> None:
        """Note that `count` pictures of a batch were taken."""
        self._offered += batch
        self._taken += count

    def state_dict(self) -> dict[str, int]:
        """What an exact resume needs."""
        return {"offered": self._offered, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore a state of `state_dict`."""
        self._offered, self._taken = state["offered"], state["taken"]
