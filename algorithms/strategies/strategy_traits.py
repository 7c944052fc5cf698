"""What a strategy says of itself, so that a run is checked against it before it begins."""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

__all__ = ["StrategyTraits"]

Weights = Literal["rows", "columns", "both"]


@dataclass(frozen=True, kw_only=True)
class StrategyTraits:
    """What a strategy needs and does, in its attribute `traits`; without one it has these defaults.

    Attributes:
        weights: What the mixing weights of an agent sum to one over: "rows" for what it receives, "columns" for what it
            sends; with "both" it mixes with weights of either kind, and calls `push`.
        static: It needs the same graph at every step.
        full_gradients: It takes gradients over all of an agent's data.
        own_points: It evaluates gradients at other points than x, which optimizers that do so themselves would take
            for steps.
        mixes_all: It cannot leave out personal parameters, as the verbs of a block do by themselves.
        combines_x: It combines or averages x as such; otherwise what optimizers remember and running statistics cannot
            go the way of the parameters.
        shares_subspaces: It needs an optimizer whose agents step in the same subspaces.
        averages: It calls `average`.
        uses_graph: It calls `combine`, or what else goes along the edges; otherwise a run differs between graphs of as
            many agents in nothing but the agents' weights π in the centroid, and in measures that look at W. A class
            that inherits its traits uses the graph: one that does not has to say so itself.

    Raises:
        ValueError: There are no such weights.
    """

    weights: Weights = "rows"
    static: bool = False
    full_gradients: bool = False
    own_points: bool = False
    mixes_all: bool = False
    combines_x: bool = True
    shares_subspaces: bool = False
    averages: bool = False
    uses_graph: bool = True

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, got {self.weights!r}")

    @classmethod
    def of(cls, strategy: object) -> Self:
        """Return what a strategy says of itself.

        Args:
            strategy: A strategy, built-in or the user's own.

        Returns:
            Its traits.

        Raises:
            TypeError: Its attribute `traits` is something else.
        """
        said = getattr(strategy, "traits", cls())
        if not isinstance(said, cls):
            raise TypeError(f"traits must be StrategyTraits, got {said!r}")
        return said if "traits" in vars(type(strategy)) else replace(said, uses_graph=True)
