"""Claimed orderings of the strategies, and the comparisons that test them."""

from dataclasses import dataclass
from typing import Literal

from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, Outcomes, log
from basinet.analysis.studies.study import Check

__all__ = ["ORDERINGS", "Ordering", "compared", "order_checks"]

Quantity = Literal["flatness", "loss", "accuracy"]

UNITS: dict[Quantity, str] = {
    "flatness": "log ratio of λ_max",
    "loss": "log ratio of training losses",
    "accuracy": "difference of test accuracies",
}


@dataclass(frozen=True)
class Ordering:
    """A claim that a quantity is larger for one strategy than for another.

    Attributes:
        number: Number of the claim.
        words: The claim in words.
        quantity: The quantity compared.
        more: The strategy with the larger value.
        less: The strategy with the smaller value.
    """

    number: str
    words: str
    quantity: Quantity
    more: str
    less: str


_CENTRAL, _DIFFUSION, _CONSENSUS = "centralized", "diffusion ATC", "consensus"

ORDERINGS = (
    Ordering("2", "diffusion ends flatter than centralised training", "flatness", _CENTRAL, _DIFFUSION),
    Ordering("2", "consensus ends flatter than diffusion", "flatness", _DIFFUSION, _CONSENSUS),
    Ordering("3", "diffusion fits better than consensus", "loss", _CONSENSUS, _DIFFUSION),
    Ordering("4", "diffusion is more accurate than centralised training", "accuracy", _DIFFUSION, _CENTRAL),
    Ordering("4", "consensus is more accurate than centralised training", "accuracy", _CONSENSUS, _CENTRAL),
    Ordering("4", "diffusion is more accurate than consensus", "accuracy", _DIFFUSION, _CONSENSUS),
)


def compared(ends: Outcomes, quantity: Quantity, label: str, case: str) -> Array:
    """Look up the values of a quantity.

    Args:
        ends: The trainings.
        quantity: The quantity; flatness and loss as logarithms.
        label: The strategy.
        case: The case.

    Returns:
        One value per replica; NaN if it diverged.
    """
    if quantity == "accuracy":
        return ends.get("test_accuracy", label, case)
    return ends.flatness(label, case) if quantity == "flatness" else log(ends.get("train_loss", label, case))


def order_checks(values: dict[tuple[Quantity, str], Array], where: str, note: str = "") -> list[Check]:
    """Test all orderings under one condition.

    Args:
        values: The values, by quantity and strategy.
        where: Description of the condition.
        note: Kind of comparison, shown before the claim.

    Returns:
        The checks.
    """
    return [
        larger(
            f"{o.number}{note}: {o.words} ({where}; {UNITS[o.quantity]})",
            values[o.quantity, o.more],
            values[o.quantity, o.less],
        )
        for o in ORDERINGS
    ]
