"""The table of a comparison."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from basinet.analysis.compare.efforts import EFFORTS
from basinet.analysis.compare.tables_of_text import Cell, TextTable
from basinet.analysis.compare.targets import Reached
from basinet.analysis.statistics.rounding import plus_minus, write_amount, write_digits
from basinet.analysis.statistics.run_labels import setting

if TYPE_CHECKING:
    from basinet.analysis.compare.comparison import Comparison, Mean

__all__ = ["Interval", "table_of"]

Interval = Literal["error", "bootstrap"]

_EVERYWHERE = "all conditions"
_BEST = (
    "best, and better than the next (t-test, paired by seed and replica where both have the same, else Welch's; Holm"
    " over the column, 5 %)"
)


def table_of(found: "Comparison", interval: Interval, most: int | None) -> TextTable:
    """Format a comparison as text.

    Args:
        found: The comparison.
        interval: What follows the means: the standard error, or the 95 % bootstrap interval.
        most: The largest number of groups that are shown; of more, the best of each value of the compared keys.

    Returns:
        A section for each condition, and the trivial baselines.
    """
    known = found.quantities
    shown = [name for name in found.columns if name not in known or any(name in means for means in found.means)]
    ranked = next((name for name in shown if name in known and known[name].direction), None)
    ranked = ranked if len(found.groups) > 1 else None
    titles = [", ".join(found.by), "replicas"]
    for name in shown:
        titles += [known[name].title if name in known else name, *(["rank"] if name == ranked else [])]
    kinds = [effort for effort in EFFORTS if any(effort in of for of in found.efforts)]
    titles += ["reached", *(f"{EFFORTS[effort].heading} to target" for effort in kinds)] if found.efforts else []
    sections: dict[str, list[list[Cell]]] = {}
    many = most is not None and len(found.groups) > most
    for place in _best_of_each(found, ranked)[:most] if many else range(len(found.groups)):
        group, means = found.groups[place], found.means[place]
        row = [Cell(group.label), Cell(f"{found.used(group)}/{len(group.rows)}")]
        for name in shown:
            row.append(_cell(means.get(name), interval, name) if name in known else Cell(found.said(group, name)))
            row += [Cell(_plain(means[name].rank) if name in means else "–")] if name == ranked else []
        if found.efforts:
            of = next(iter(found.efforts[place].values()), None)
            row.append(Cell(f"{of.count}/{of.number}" if of else "–"))
            row += [Cell(_effort(found.efforts[place].get(effort), effort)) for effort in kinds]
        sections.setdefault(group.condition, []).append(row)
    for condition, baselines in _baselines(found, list(sections)).items():
        for name, values in baselines:
            row = [Cell(f"{name} (baseline)"), Cell("")]
            for metric in shown:
                text = plus_minus(values.get(metric), None) if metric in known else ""
                row += [Cell(text), *([Cell("")] if metric == ranked else [])]
            if any(metric in values for metric in shown):
                sections.setdefault(condition, []).append([*row, *[Cell("")] * (len(titles) - len(row))])
    legend = _legend(found, interval, ranked)
    if many:
        measure = f" by {known[ranked].label}" if ranked else ""
        legend.insert(0, f"of {len(found.groups)} groups the best of each {titles[0]}{measure}; all: --format csv")
    return TextTable(titles, sections, legend, _BEST if ranked else "")


def _best_of_each(found: "Comparison", metric: str | None) -> list[int]:
    """Find the group of each value of the compared keys with the best mean of a metric, in the order of groups."""
    best: dict[str, int] = {}
    for place, (group, means) in enumerate(zip(found.groups, found.means, strict=True)):
        before = found.means[best.setdefault(group.label, place)]
        if metric in means and (
            metric not in before or found.quantities[metric].is_better(means[metric].mean, before[metric].mean)
        ):
            best[group.label] = place
    return sorted(best.values())


Baselines = list[tuple[str, dict[str, float]]]


def _baselines(found: "Comparison", conditions: Sequence[str]) -> dict[str, Baselines]:
    """List the trivial baselines of the runs of each condition, and those that are the same in all, each once."""
    of_each: dict[str, Baselines] = {condition: [] for condition in conditions}
    for group in found.groups:
        for place in dict.fromkeys(found.frame.places[group.rows].tolist()) if group.condition in of_each else ():
            of = of_each[group.condition]
            of += [pair for pair in found.frame.runs[place].baselines.items() if pair not in of]
    if len(of_each) < 2:
        return of_each
    first, *others = of_each.values()
    same = [pair for pair in first if all(pair in of for of in others)]
    return {key: [pair for pair in of if pair not in same] for key, of in of_each.items()} | {_EVERYWHERE: same}


def _legend(found: "Comparison", interval: Interval, ranked: str | None) -> list[str]:
    kind = "mean ± standard error" if interval == "error" else "mean [95 % bootstrap interval]"
    legend = [f"{kind} over the replicas that did not diverge"]
    if any("Hessian" in quantity.title for quantity in found.quantities.values()):
        legend[-1] += "; a smaller Hessian is flatter"
    if any(setting(run.config, "attack.name") not in (None, "none") for run in found.frame.runs):
        legend[-1] += "; under attack, of the honest agents"
    if ranked:
        legend.append(f"rank: by {found.quantities[ranked].label}")
    if found.target:
        legend.append(
            f"to {found.target[0]}={found.target[1]:g}: Kaplan-Meier median [95 % interval]; replicas that do not"
            " reach it are censored"
        )
    return legend


def _spent(number: float, effort: str) -> str:
    return write_amount(number) if effort in ("step", "samples", "bytes") else f"{number:.4g}"


def _cell(mean: "Mean | None", interval: Interval, metric: str) -> Cell:
    if mean is None or math.isnan(mean.mean):
        return Cell("–")
    if math.isnan(mean.error) or (math.isnan(mean.rank) and not mean.error):  # such as the bytes of each replica
        return Cell(_spent(mean.mean, metric), mean.best)
    if interval == "error":
        return Cell(plus_minus(mean.mean, mean.error), mean.best)
    middle, *ends = (write_digits([end], mean.mean, mean.error, join="") for end in (mean.mean, *mean.interval))
    return Cell(f"{middle} [{', '.join(ends)}]", mean.best)


def _plain(number: float) -> str:
    return "–" if math.isnan(number) else f"{number:g}"


def _effort(of: Reached | None, effort: str) -> str:
    if of is None:
        return "–"
    median, low, high = (
        "∞" if math.isinf(number) else _spent(number, effort) for number in (of.median, of.lower, of.upper)
    )
    return f"{median} [{low}, {high}]" if of.count and of.number > 1 else median
