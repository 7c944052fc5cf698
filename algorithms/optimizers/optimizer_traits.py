"""Traits of an optimizer class: what it needs, and how it may be executed."""

from dataclasses import dataclass
from typing import Literal, Self

from torch import optim

from basinet.algorithms.optimizers.tunings import Method
from basinet.topologies.registry import Registry

__all__ = ["OPTIMIZERS", "OptimizerTraits"]

OPTIMIZERS: Registry[optim.Optimizer] = Registry("OPTIMIZERS")
"""The optimizers that an experiment can name."""

ELEMENTWISE = frozenset({
    optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad, optim.Adadelta, optim.Adamax, optim.NAdam, optim.RAdam,
    optim.RMSprop, optim.Rprop,
})  # fmt: skip
"""torch's elementwise optimizers."""


@dataclass(frozen=True, kw_only=True)
class OptimizerTraits:
    """What an optimizer class declares in its attribute `traits`; these are the defaults.

    A class without traits is instantiated once per agent, on that agent's own parameters. A `stacked` class gets the
    keyword `agents`, the number of agents on the leading axis of its parameters; its state leads with this axis, too.

    A stacked class that does not step with the gradient at x is one that `evaluates`: it has a method
    `prepare(closure)`. The closure evaluates the parameters as they are now (they may move, in place), overwrites each
    `p.grad` and returns the losses [N]; all evaluations use the same batch. `prepare` leaves in `p.grad` what `step`
    uses, and restores the parameters bit for bit. If it is `derivative_free`, it gets only the losses, and leaves one
    number per agent in its attribute `coefficients`, [N, 1], where `step` finds them.

    What depends on settings is declared by attributes of the optimizer itself: `in_common`, whether all agents step
    along the same directions or in the same subspaces; `next_batch_size`, the number of samples of the next gradient,
    or None for the usual batch.

    Attributes:
        stacked: "layers": it gets the layers' stacked parameters [N, *shape]; "flat": a parameter
            [N, P], or [N, Q] for each group of Q parameters.
        elementwise: It is elementwise, so that one on the flat state [N, P] acts as one per agent.
        keyed: It draws at random, with the keyword `keys`.
        named: It gets its layers with their names.
        evaluates: It has a method `prepare`.
        derivative_free: `prepare` needs no gradients.
        fixed_state: Names of state that is neither mixed nor reset.
        shared_state: Names of state that does not lead with the agents' axis.
        tuning: Its name among the methods of `heavy_tail_settings`, which choose its settings if an experiment says
            `tuned`.

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
        """Return the traits of an optimizer.

        Args:
            maker: Its class, or a function that makes one.

        Returns:
            Its traits.

        Raises:
            TypeError: Its attribute `traits` is something else, or it has a method `prepare` without declaring that it
                evaluates, or vice versa.
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
