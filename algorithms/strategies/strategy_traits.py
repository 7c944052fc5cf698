"""Traits of a strategy: what it needs, checked before a run begins."""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

__all__ = ["StrategyTraits"]

Weights = Literal["rows", "columns", "both"]
Losses = Literal["any", "symmetric", "none"]


@dataclass(frozen=True, kw_only=True)
class StrategyTraits:
    """What a strategy declares in its attribute `traits`; these are the defaults.

    Attributes:
        weights: Which mixing weights sum to one: "rows", those of what an agent receives, or "columns", those of what
            it sends; with "both" it uses weights of either kind, and calls `push`.
        static: It needs the same graph at every step.
        full_gradients: It takes gradients over all of an agent's data.
        own_points: It evaluates gradients at other points than x, which cannot be combined with optimizers that do so
            themselves.
        mixes_all: It mixes all parameters, and cannot leave out personal ones as the verbs of a block do.
        combines_x: It combines or averages x itself; otherwise optimizer state and running statistics cannot be mixed
            like the parameters.
        shares_subspaces: It needs an optimizer whose agents step in the same subspaces.
        averages: It calls `average`.
        uses_graph: It calls `combine` or another verb that communicates along edges; otherwise the graph changes only
            the agents' weights π in the centroid, and measures that use W. A class that inherits its traits uses the
            graph, unless it declares its own.
        tolerates: Which messages may be lost: "any"; in both directions of a link at once, "symmetric", as where a sum
            over the agents has to be kept; or "none", as where neighbours keep copies that would differ for ever.

    Raises:
        ValueError: `weights` or `tolerates` is none of these.
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
    tolerates: Losses = "any"

    def __post_init__(self) -> None:
        for name, allowed in (("weights", Weights), ("tolerates", Losses)):
            if (given := getattr(self, name)) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {given!r}")

    @classmethod
    def of(cls, strategy: object) -> Self:
        """Return the traits of a strategy.

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
