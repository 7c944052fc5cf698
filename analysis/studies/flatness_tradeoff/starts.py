"""Claims about trainings from random parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.studies.flatness_tradeoff.claims import STRATEGIES, part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import PAIRED, Difference, best_of_others, nested_errors
from basinet.analysis.studies.flatness_tradeoff.controls import control_checks, lengths_of
from basinet.analysis.studies.flatness_tradeoff.orderings import Quantity, compared, order_checks
from basinet.analysis.studies.flatness_tradeoff.phases import Cell, phase_checks
from basinet.analysis.studies.flatness_tradeoff.plane import draw_plane
from basinet.analysis.studies.flatness_tradeoff.settings import Family, Keys, Regime, Setting
from basinet.analysis.studies.flatness_tradeoff.trainings import Array, Outcomes, carry_out
from basinet.analysis.studies.study import Check, Progress

__all__ = ["family_claims", "regressions", "variant_claims"]

_MEASURES = ["hessian_top_eigenvalue", "hessian_trace"]
_QUANTITIES: tuple[Quantity, ...] = ("flatness", "loss", "accuracy")


def family_claims(
    progress: Progress, folder: Path, setting: Setting, family: Family
) -> tuple[list[Check], list[Drawing]]:
    """Compare strategies in several regimes, at equal steps, at the best steps of each, and at equal training loss.

    Args:
        progress: Called with the fraction done and a description.
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
    # Centralised training has no graph, so one run serves all topologies.
    work: list[tuple[str, Mapping[str, Keys], list[str]]] = [
        (f"{name}_centralized", {cell.name: cell.keys() for cell in first}, ["centralized"]),
        (name, {cell.name: cell.keys() for cell in cells}, ["diffusion", "consensus"]),
    ]
    lengths = [lengths_of(regime, family.lengths) for regime in family.regimes]
    if family.lengths:
        work += [
            (f"{name}_lengths_{regime.batch}", cases, ["centralized"])
            for regime, cases in zip(family.regimes, lengths, strict=True)
        ]
    costs = [sum(_cost(case) for case in cases.values()) * len(labels) for _, cases, labels in work]
    runs, done = [], 0.0  # the runs of each part
    for (part_name, cases, labels), cost in zip(work, costs, strict=True):
        part = part_of(progress, done, cost / sum(costs))
        runs.append(carry_out(folder, part_name, setting.describe(keys, cases, strategies=labels), part))
        done += cost / sum(costs)
    ends, where = Outcomes(runs[0] + runs[1]), f"{setting.name}, {family.name}"

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
    for cell, cases, found in zip(plain, lengths, runs[2:], strict=False):  # none without lengths
        than = f"centralised training of the same training loss ({where}, batch {cell.regime.batch}"
        checks += control_checks(ends, cell.name, Outcomes(found), [*cases], than, ["accuracy", "flatness"])
    if len(family.factors) > 1:
        for regime in dict.fromkeys((family.regimes[0], family.regimes[-1])):
            checks += _at_best_steps(
                {f: values(Cell(regime, f, family.topologies[0])) for f in family.factors}, where, regime
            )
    rows = [row for cell in plain for row in _rows(ends, cell, family)]
    drawings = []
    if rows:  # empty if everything diverged
        checks += regressions(rows, where, "replica") + regressions(rows, where, "condition")
        drawings.append(draw_plane(rows, name, where))
    if len(cells) > len(plain):
        more, figures = phase_checks({cell: values(cell) for cell in cells}, name, where)
        checks += more
        drawings += figures
    return checks, drawings


def _cost(case: Keys) -> float:
    """Estimate the cost of a case; a step has an overhead of a few samples."""
    return float(case["steps"] * (8 + case["batch_size"]))


def _case(cell: Cell, label: str, family: Family) -> str:
    return (cell if label != "centralized" else Cell(cell.regime, cell.factor, family.topologies[0])).name


def _at_best_steps(found: Mapping[float, dict[tuple[Quantity, str], Array]], where: str, regime: Regime) -> list[Check]:
    """Compare strategies at the step sizes with which each fits best, chosen for each replica by the others."""
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
        words.append(f"{label} {steps}{' (the last one tried)' if at_edge else ''}")
    return order_checks(best, f"{where}, batch {regime.batch}, best steps: {', '.join(words)}", note=", tuned")


def _rows(ends: Outcomes, cell: Cell, family: Family) -> list[dict[str, Any]]:
    """Collect the replicas that ended with finite values and a positive λ_max."""
    metrics = ("train_loss", "test_accuracy", "hessian_top_eigenvalue", "hessian_trace")
    rows = []
    for label in STRATEGIES:
        columns = {metric: ends.get(metric, label, _case(cell, label, family)) for metric in metrics}
        for replica in range(len(columns["train_loss"])):
            row = {metric: float(column[replica]) for metric, column in columns.items()}
            if all(np.isfinite(value) for value in row.values()) and row["hessian_top_eigenvalue"] > 0:
                condition = f"{label}, batch {cell.regime.batch}"
                rows.append({
                    "strategy": label, "batch": cell.regime.batch, "condition": condition, "replica": replica, **row
                })  # fmt: skip
    return rows


def regressions(rows: Sequence[Mapping[str, Any]], where: str, unit: str) -> list[Check]:
    """Check whether flatness and training loss together predict accuracy better than either alone.

    All regressions include the batch as a factor. Each unit in turn is predicted from the others.

    Args:
        rows: Ends of trainings, with accuracy, λ_max, training loss, batch and unit.
        where: Description of the training.
        unit: "replica", or "condition": a strategy at a batch.

    Returns:
        The checks; not tested with fewer than three units that can be predicted.
    """
    groups = [row[unit] for row in rows]
    pairs = (("flatness", "optimization"), ("optimization", "flatness"))
    claims = [
        f"5: {other} improves the prediction of accuracy from {alone} and batch ({where}" for alone, other in pairs
    ]
    features = {
        "flatness": np.log([row["hessian_top_eigenvalue"] for row in rows]),
        "optimization": np.log([row["train_loss"] for row in rows]),
    }
    accuracies, batches = ([row[key] for row in rows] for key in ("test_accuracy", "batch"))
    errors = nested_errors(features, accuracies, groups, factor=batches)
    count = len(errors["nothing"])
    if count < 3:
        text = f"{count} {unit}s to be predicted from the others"
        return [Check(f"{claim})", "above 0", text, PAIRED, False, otherwise="not tested") for claim in claims]
    total = errors["nothing"].mean()
    explained = {name: 1 - error.mean() / total for name, error in errors.items()}
    checks = []
    for (alone, _), claim in zip(pairs, claims, strict=True):
        gain = Difference(errors[alone] / total, errors["all"] / total)
        claim += f"; each {unit} predicted from the others: R² {explained[alone]:.2f} → {explained['all']:.2f}; gain)"
        checks.append(Check(claim, "above 0", str(gain), PAIRED, gain.verdict == "holds", otherwise=gain.verdict))
    return checks


def variant_claims(progress: Progress, folder: Path, setting: Setting) -> list[Check]:
    """Compare strategies from random starts under further conditions.

    Args:
        progress: Called with the fraction done and a description.
        folder: The folder of the study.
        setting: The task, the model and the conditions.

    Returns:
        The checks.
    """
    if not setting.variants:
        return []
    cases = {variant.name: {**variant.keys, **variant.regime.keys()} for variant in setting.variants}
    lengths: dict[str, dict[str, Keys]] = {
        variant.name: {
            f"{variant.name}, {length}": {**variant.keys, **case}
            for length, case in lengths_of(variant.regime, variant.lengths).items()
        }
        for variant in setting.variants
    }
    controls = {name: case for own in lengths.values() for name, case in own.items()}
    keys = {"schedule": setting.schedule, "analysis": _MEASURES}
    share = 3 * len(cases) / (3 * len(cases) + len(controls))
    description = setting.describe(keys, cases, strategies=[*STRATEGIES.values()])
    ends = Outcomes(carry_out(folder, "variants", description, part_of(progress, 0.0, share)))
    central = Outcomes([])
    if controls:
        description = setting.describe(keys, controls, strategies=["centralized"])
        central = Outcomes(carry_out(folder, "variants_lengths", description, part_of(progress, share, 1 - share)))
    checks = []
    for name, own in lengths.items():
        found = {(q, label): compared(ends, q, label, name) for q in _QUANTITIES for label in STRATEGIES}
        checks += order_checks(found, f"{setting.name}, {name}")
        if own:
            than = f"centralised training of the same training loss ({setting.name}, {name}"
            checks += control_checks(ends, name, central, [*own], than, ["accuracy", "flatness"])
    return checks
