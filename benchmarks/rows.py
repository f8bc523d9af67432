"""What a row of the second table is: real models, cold and warm."""

import dataclasses
import typing as tp

from benchmarks.measure import Contender


@dataclasses.dataclass(frozen=True)
class RealRow:
    """One line of the table of real models.

    Attributes:
      name: what is done.
      against: what `native` is, the measure of the row.
      state: "cold" if everything that nnx_wrappers remembers is forgotten before each run, "warm"
        if the same has run before.
      goal: what the ratio to `native` may be; None if the row has no goal.
      build: makes the contenders, ready to run: `native`, `ours`, and maybe `upstream` and `floor`.
      of_floor: whether the goal is a multiple of the floor instead.
    """

    name: str
    against: str
    state: tp.Literal["cold", "warm"]
    goal: float | None
    build: tp.Callable[[], dict[str, Contender]]
    of_floor: bool = False

    def limit(self, ratios: tp.Mapping[str, float]) -> float | None:
        """The goal as a ratio to `native`, where these ratios were measured."""
        return self.goal * ratios["floor"] if self.goal and self.of_floor else self.goal
