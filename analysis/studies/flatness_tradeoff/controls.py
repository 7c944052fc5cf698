"""Controls of a study: strategies against centralised training at the same training loss."""

from collections.abc import Sequence

from basinet.analysis.studies.flatness_tradeoff.comparisons import at_the_loss, larger
from basinet.analysis.studies.flatness_tradeoff.orderings import Quantity, compared
from basinet.analysis.studies.flatness_tradeoff.settings import Keys, Regime
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, Outcomes
from basinet.analysis.studies.study import Check

__all__ = ["control_checks", "lengths_of"]


def lengths_of(regime: Regime, parts: Sequence[float]) -> dict[str, Keys]:
    """Shorten and lengthen a training.

    Args:
        regime: The training.
        parts: Multiples of its number of steps.

    Returns:
        One case per multiple.
    """
    return {f"{part:g} of the steps": {**regime.keys(), "steps": max(1, round(part * regime.steps))} for part in parts}


def control_checks(
    ends: Outcomes, case: str, central: Outcomes, cases: Sequence[str], than: str, quantities: Sequence[Quantity]
) -> list[Check]:
    """Compare decentralised with centralised trainings at the same training loss.

    Args:
        ends: The decentralised trainings.
        case: Their case.
        central: Centralised trainings with several training losses, between which values are interpolated.
        cases: Their cases.
        than: Description of the centralised trainings, for the claims.
        quantities: The quantities to compare: accuracy, flatness.

    Returns:
        The checks.
    """
    losses = [central.get("train_loss", "centralized", each) for each in cases]
    checks = []
    for label in ("diffusion ATC", "consensus"):
        wanted = ends.get("train_loss", label, case)

        def matched(quantity: Quantity, wanted: Array = wanted) -> Array:
            return at_the_loss(losses, [compared(central, quantity, "centralized", each) for each in cases], wanted)

        if "accuracy" in quantities:
            values = compared(ends, "accuracy", label, case), matched("accuracy")
            checks.append(larger(f"4, control: {label} is more accurate than {than})", *values))
        if "flatness" in quantities:
            values = matched("flatness"), compared(ends, "flatness", label, case)
            checks.append(larger(f"2, control: {label} is flatter than {than}; log ratio of λ_max)", *values))
    return checks
