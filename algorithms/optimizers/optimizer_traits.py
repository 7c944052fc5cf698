"""What an optimizer's class says of itself, so that the agents' optimizers are executed as it allows."""

from dataclasses import dataclass
from typing import Literal, Self

from torch import optim

from basinet.algorithms.optimizers.tunings import Method
from basinet.topologies.registry import Registry

__all__ = ["OPTIMIZERS", "OptimizerTraits"]

OPTIMIZERS: Registry[optim.Optimizer] = Registry()
"""The optimizers that an experiment can name."""

ELEMENTWISE = frozenset({
    optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad, optim.Adadelta, optim.Adamax, optim.NAdam, optim.RAdam,
    optim.RMSprop, optim.Rprop,
})  # fmt: skip
"""torch's optimizers that treat every number by itself."""


@dataclass(frozen=True, kw_only=True)
class OptimizerTraits:
    """What an optimizer's class needs and does, in its attribute `traits`; without one it has these defaults.

    A class that says nothing is instantiated once an agent, on that agent's own parameters. One that says `stacked`
    gets the keyword `agents`, which tells it that the leading axis of its parameters counts agents, and its state leads
    with them, too.

    A stacked class that does not step with the gradient at x `evaluates`: it has a method `prepare(closure)`. The
    closure evaluates the parameters as they are now (they may move, in place), writes over each `p.grad` and returns
    the losses [N]; all its evaluations are of the same batch. `prepare` leaves in `p.grad` what `step` uses, and the
    parameters as they were, bit by bit. If it is `derivative_free`, it gets the losses alone, and leaves one number an
    agent in its attribute `coefficients`, [N, 1], where `step` finds them.

    What depends on settings is told by attributes of the optimizer itself: one whose agents may step along directions
    of their own, or in subspaces of their own, says in `in_common` whether all have the same; one that wants some
    gradients of another number of samples says in `next_batch_size` of how many the next one shall be, or None.

    Attributes:
        stacked: "layers": it gets the layers' stacked parameters [N, *shape]; "flat": a parameter [N, P].
        elementwise: It treats every number by itself, so that one on the flat state [N, P] is one an agent.
        keyed: It draws at random, by the keyword `keys`.
        named: It gets its layers with their names.
        evaluates: It has a method `prepare`.
        derivative_free: `prepare` needs no gradients.
        fixed_state: Names in its state that are neither mixed nor reset.
        shared_state: Names in its state of what does not lead with the agents.
        tuning: Its name among the methods of `heavy_tail_settings`, which then choose its settings where an experiment
            says `tuned`.

    Raises:
        ValueError: They contradict each other.
    """

    stacked: Literal["layers", "flat"] | None = None
    elementwise: bool = False
    keyed: bool = False
    named: bool = False
    evaluates: bool = False
    derivative_free: bool = False
    fixed_state: frozenset[str] = frozenset()
    shared_state: frozenset[str] = frozenset()
    tuning: Method | None = None

    def __post_init__(self) -> None:
        if self.stacked not in (None, "layers", "flat"):
            raise ValueError(f"stacked must be 'layers', 'flat' or None, got {self.stacked!r}")
        if self.stacked is not None and self.elementwise:
            raise ValueError(f"elementwise is for a class that is not stacked, got stacked={self.stacked!r}")
        if self.stacked is None and (self.evaluates or self.keyed):
            raise ValueError("to evaluate or draw by itself it has to say stacked='layers' or 'flat'")
        if self.named and self.stacked != "layers":
            raise ValueError(f"named is for stacked='layers', got stacked={self.stacked!r}")
        if self.derivative_free and not self.evaluates:
            raise ValueError("derivative_free is for an optimizer that says evaluates=True")

    @classmethod
    def of(cls, maker: object) -> Self:
        """Return what an optimizer says of itself.

        Args:
            maker: Its class, built-in, torch's or the user's own; or what makes one.

        Returns:
            Its traits.

        Raises:
            TypeError: Its attribute `traits` is something else, or it has a method `prepare` and does not say that it
                evaluates, or the other way round.
        """
        if isinstance(maker, type) and maker in ELEMENTWISE:
            return cls(elementwise=True)
        said = getattr(maker, "traits", cls())
        if not isinstance(said, cls):
            raise TypeError(f"traits must be OptimizerTraits, got {said!r}")
        if said.evaluates != hasattr(maker, "prepare"):
            raise TypeError(
                "an optimizer with a method prepare, and no other, says traits = OptimizerTraits(evaluates=True, …)"
            )
        return said
