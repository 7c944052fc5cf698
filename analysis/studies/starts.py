"""Claims about where trainings end that start from random parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.studies.claims import STRATEGIES, interval, part_of
from basinet.analysis.studies.comparisons import Difference, at_the_loss, best_of_others, larger, nested_errors
from basinet.analysis.studies.orderings import Quantity, compared, order_checks
from basinet.analysis.studies.phases import Cell, phase_checks
from basinet.analysis.studies.plane import draw_plane
from basinet.analysis.studies.settings import Family, Keys, Regime, Setting
from basinet.analysis.studies.study import Check, Progress
from basinet.analysis.studies.trainings import Array, Outcomes, carry_out

__all__ = ["family_claims", "variant_claims"]

_MEASURES = ["hessian_top_eigenvalue", "hessian_trace"]
_QUANTITIES: tuple[Quantity, ...] = ("flatness", "loss", "accuracy")


def family_claims(
    progress: Progress, folder: Path, setting: Setting, family: Family
) -> tuple[list[Check], list[Drawing]]:
    """Compare strategies in several regimes, at equal steps, at the best steps of each, and at equal training loss.

    Args:
        progress: Is told how far it is.
        folder: The folder of the study.
        setting: The task and the model.
        family: The regimes.

    Returns:
        Checks and figures.
    """
    keys = {**family.keys, "schedule": setting.schedule, "analysis": _MEASURES}
    name = "starting_" + family.name.replace(",", "").replace(" ", "_")
    cells = [Cell(r, f, t) for r in family.regimes for f in family.factors for t in family.topologies]
    first = [cell for cell in cells if cell.topology == family.topologies[0]]
    shorter = [(part, _shortened(family.regimes[-1], part)) for part in family.lengths]
    # On a server there is no graph, so that one run stands for all of them.
    work: list[tuple[str, Mapping[str, Keys], list[str]]] = [
        (f"{name}_centralized", {cell.name: cell.keys() for cell in first}, ["centralized"]),
        (name, {cell.name: cell.keys() for cell in cells}, ["diffusion", "consensus"]),
    ]
    if shorter:
        lengths = {f"{part:g} of the steps": regime.keys() for part, regime in shorter}
        work.append((f"{name}_lengths", lengths, ["centralized"]))
    costs = [sum(_cost(case) for case in cases.values()) * len(labels) for _, cases, labels in work]
    runs, done = [], 0.0
    for (part_name, cases, labels), cost in zip(work, costs, strict=True):
        part = part_of(progress, done, cost / sum(costs))
        runs += carry_out(folder, part_name, setting.describe(keys, cases, strategies=labels), part)
        done += cost / sum(costs)
    ends, where = Outcomes(runs), f"{setting.name}, {family.name}"

    def values(cell: Cell) -> dict[tuple[Quantity, str], Array]:
        return {
            (quantity, label): compared(ends, quantity, label, _case(cell, label, family))
            for quantity in _QUANTITIES
            for label in STRATEGIES
        }

    plain = [Cell(regime, 1.0, family.topologies[0]) for regime in family.regimes]
    checks = []
    for cell in dict.fromkeys((plain[0], plain[-1])):
        checks += order_checks(values(cell), f"{where}, batch {cell.regime.batch}, equal steps")
    if shorter:
        checks += _at_equal_loss(ends, [f"{part:g} of the steps" for part, _ in shorter], plain[-1], where)
    if len(family.factors) > 1:
        for regime in dict.fromkeys((family.regimes[0], family.regimes[-1])):
            checks += _at_best_steps(
                {f: values(Cell(regime, f, family.topologies[0])) for f in family.factors}, where, regime
            )
    rows = [row for cell in plain for row in _rows(ends, cell, family)]
    drawings = []
    if rows:  # else everything has diverged
        checks += _regressions(rows, where)
        drawings.append(draw_plane(rows, name, where))
    if len(cells) > len(plain):
        more, figures = phase_checks({cell: values(cell) for cell in cells}, name, where)
        checks += more
        drawings += figures
    return checks, drawings


def _shortened(regime: Regime, part: float) -> Regime:
    return regime.model_copy(update={"steps": max(1, round(part * regime.steps))})


def _cost(case: Keys) -> float:
    """A step costs about as much as a few samples, besides those that it takes."""
    return float(case["steps"] * (8 + case["batch_size"]))


def _case(cell: Cell, label: str, family: Family) -> str:
    return (cell if label != "centralized" else Cell(cell.regime, cell.factor, family.topologies[0])).name


def _at_equal_loss(ends: Outcomes, lengths: Sequence[str], cell: Cell, where: str) -> list[Check]:
    """Compare with centralised trainings that end earlier or later, at the same training loss."""
    losses = [ends.get("train_loss", "centralized", length) for length in lengths]
    checks = []
    for label in ("diffusion ATC", "consensus"):
        wanted = ends.get("train_loss", label, cell.name)

        def matched(quantity: Quantity, wanted: Array = wanted) -> Array:
            return at_the_loss(losses, [compared(ends, quantity, "centralized", each) for each in lengths], wanted)

        than = f"centralised training of the same training loss ({where}, batch {cell.regime.batch}"
        accuracies = compared(ends, "accuracy", label, cell.name), matched("accuracy")
        checks.append(larger(f"4, control: {label} is more accurate than {than})", *accuracies))
        tops = matched("flatness"), compared(ends, "flatness", label, cell.name)
        checks.append(larger(f"2, control: {label} is flatter than {than}; log ratio of λ_max)", *tops))
    return checks


def _at_best_steps(found: Mapping[float, dict[tuple[Quantity, str], Array]], where: str, regime: Regime) -> list[Check]:
    """Compare strategies at the steps with which each fits best, chosen for a replica by the others."""
    factors = list(found)
    best: dict[tuple[Quantity, str], Array] = {}
    words = []
    for label in STRATEGIES:
        chosen = best_of_others([found[factor]["loss", label] for factor in factors])
        for quantity in _QUANTITIES:
            table = np.stack([found[factor][quantity, label] for factor in factors])
            best[quantity, label] = table[chosen, np.arange(table.shape[1])]
        steps = " or ".join(f"{factors[index] * regime.lr:g}" for index in sorted(set(chosen)))
        at_edge = {0, len(factors) - 1} & set(chosen)
        words.append(f"{label} {steps}{' (the last that was tried)' if at_edge else ''}")
    return order_checks(best, f"{where}, batch {regime.batch}, best steps: {', '.join(words)}", note=", tuned")


def _rows(ends: Outcomes, cell: Cell, family: Family) -> list[dict[str, Any]]:
    metrics = ("train_loss", "test_accuracy", "hessian_top_eigenvalue", "hessian_trace")
    rows = []
    for label in STRATEGIES:
        columns = {metric: ends.get(metric, label, _case(cell, label, family)) for metric in metrics}
        for replica in range(len(columns["train_loss"])):
            row = {metric: float(column[replica]) for metric, column in columns.items()}
            if all(np.isfinite(value) for value in row.values()) and row["hessian_top_eigenvalue"] > 0:
                rows.append({"strategy": label, "batch": cell.regime.batch, "replica": replica, **row})
    return rows


def _regressions(rows: Sequence[Mapping[str, Any]], where: str) -> list[Check]:
    """Does accuracy follow from flatness and training loss together better than from either?"""
    features = {
        "flatness": np.log([row["hessian_top_eigenvalue"] for row in rows]),
        "optimization": np.log([row["train_loss"] for row in rows]),
    }
    errors = nested_errors(features, [row["test_accuracy"] for row in rows], [row["replica"] for row in rows])
    explained = {name: 1 - error.mean() / errors["nothing"].mean() for name, error in errors.items()}
    checks = []
    for alone, other in (("flatness", "optimization"), ("optimization", "flatness")):
        gain = Difference(errors[alone] / errors["nothing"].mean(), errors["all"] / errors["nothing"].mean())
        claim = (
            f"5: {other} tells more of the accuracy than {alone} does alone ({where}; cross-validated R² "
            f"{explained[alone]:.2f} → {explained['all']:.2f}; gain)"
        )
        rule = "the paired 95 % interval lies above 0"
        text = interval(gain.mean, gain.low, gain.high)
        checks.append(Check(claim, "above 0", text, rule, gain.verdict == "holds", otherwise=gain.verdict))
    return checks


def variant_claims(progress: Progress, folder: Path, setting: Setting) -> list[Check]:
    """Compare strategies from random starts under further conditions.

    Args:
        progress: Is told how far it is.
        folder: The folder of the study.
        setting: The task, the model and the conditions.

    Returns:
        The checks.
    """
    if not setting.variants:
        return []
    cases = {variant.name: {**variant.keys, **variant.regime.keys()} for variant in setting.variants}
    keys = {"schedule": setting.schedule, "analysis": _MEASURES}
    description = setting.describe(keys, cases, strategies=[*STRATEGIES.values()])
    ends = Outcomes(carry_out(folder, "variants", description, progress))
    checks = []
    for name in cases:
        found = {(q, label): compared(ends, q, label, name) for q in _QUANTITIES for label in STRATEGIES}
        checks += order_checks(found, f"{setting.name}, {name}")
    return checks
