"""The section of a report on tuning: what was tried, what was chosen, and by which criterion."""

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.plots.compared.tuning_sweep import candidate_rows, plot_tuned_map, plot_tuning, tuned_metric
from basinet.analysis.report.captions import capital
from basinet.analysis.report.page import figure_html, folded_html, list_html, table_html
from basinet.analysis.statistics.rounding import plus_minus, write_digits
from basinet.analysis.statistics.run_labels import describe, names
from basinet.sim.run.folder import Run

__all__ = ["tuning_drawing", "tuning_html"]

_MOST_LINES = 8
_MOST_MAPS = 6


def tuning_html(record: Mapping[str, Any], runs: Sequence[Run], folder: Path) -> str:
    """Describe a search.

    Args:
        record: Its record; empty if nothing was tuned.
        runs: The final runs.
        folder: The experiment's folder, which receives the figure.

    Returns:
        HTML; empty if nothing was tuned.
    """
    if not record:
        return ""
    if not record["groups"]:
        return "<h2>Tuning</h2>\n<p>The search has not finished.</p>"
    record = _titled(record, runs)
    keys = ", ".join(record["keys"])
    was = "was" if len(record["keys"]) == 1 else "were"
    text = (
        f"For each of the following, {keys} {was} chosen by {record['criterion']}. A share of"
        f" {record['share']:g} of the training samples was held out of the training for that, the same for all"
        " candidates; test data were not used. Candidates share seeds, and the final runs have others."
    )
    notes = f'<div class="alert">{list_html(record["notes"])}</div>' if record["notes"] else ""
    return "\n".join(
        [
            f"<h2>Tuning</h2>\n<p>{escape(text)}</p>{notes}",
            _choices(record),
            figure_html(tuning_drawing(record), folder / "figures"),
            folded_html(f"All {len(candidate_rows(record))} candidates (also in figures/tuning.csv)", _all(record)),
        ]
    )


def _titled(record: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """Call groups of single runs by the run's strategy and condition, as elsewhere in the report."""
    known = dict(zip((run.name for run in runs), names(runs), strict=True))
    groups = {}
    for group, found in record["groups"].items():
        title = known.get(found["runs"][0], (group, "")) if len(found["runs"]) == 1 else (group, "")
        groups[", ".join(filter(None, title))] = {**found, "title": title}
    return {**record, "groups": groups if len(groups) == len(record["groups"]) else record["groups"]}


def _choices(record: Mapping[str, Any]) -> str:
    """Format what was chosen."""
    label = record["metric"]["label"]
    headings = ["chosen for", *record["keys"], f"{label} (mean ± s.e.)", "not distinguishable from it", "at the edge"]
    rows = []
    for group, found in record["groups"].items():
        (best,) = (one for one in found["candidates"] if one["chosen"])
        alike = [_said(one["values"]) for one in found["candidates"] if one.get("indistinguishable")]
        edges = ", ".join(f"{key}: {end} tried" for key, end in found["edges"].items())
        values = [describe(value) for value in best["values"].values()]
        rows.append([group, *values, _mean(best), "; ".join(alike), edges])
    return table_html(headings, rows, numbers=[len(record["keys"]) + 1])


def _all(record: Mapping[str, Any]) -> str:
    """Format all candidates, grouped."""
    headings = ["", *record["keys"], "mean ± s.e.", "difference from what was chosen", "up to step", "remark"]
    rows = []
    for row in candidate_rows(record):
        difference = ""
        if row.get("difference") is not None:
            pair, error = (row["difference"], row["difference_se"])
            numbers = [pair] if error is None else [pair, error]
            difference = write_digits(numbers, pair, error or 0.0, join=" ± ", sign="+").replace("± +", "± ")
        remarks = ["chosen"] if row["chosen"] else ["not distinguishable"] if row.get("indistinguishable") else []
        remarks += [] if row["ended"] else ["stopped early"]
        remarks += [f"{row['lost']} without a value"] if row["lost"] else []
        values = [describe(row[key]) for key in record["keys"]]
        rows.append([row["group"], *values, _mean(row), difference, str(row["step"]), ", ".join(remarks)])
    count = len(record["keys"])
    return table_html(headings, rows, numbers=range(count + 1, count + 4), grouped=True)


def _mean(row: Mapping[str, Any]) -> str:
    return plus_minus(row["mean"], row["se"])


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={describe(value)}" if len(values) > 1 else describe(value) for key, value in values.items()
    )


def tuning_drawing(record: Mapping[str, Any]) -> Drawing:
    """Draw a search: a panel for each key, or for two keys a map for each group.

    Args:
        record: Its record.

    Returns:
        The figure.
    """
    rows, metric, keys = candidate_rows(record), tuned_metric(record), list(record["keys"])
    groups, titles = _best_groups(record), _titles(record)
    shown = _shown(groups, titles, len(keys))
    drawn = [row for row in rows if row["group"] in shown]
    caption = f"{capital(metric.label)} over the candidates: mean over the replicas"
    if len(keys) == 2:
        figure, axes = grid(len(shown), share_x=True, share_y=True)
        for ax, group in zip(axes, shown, strict=True):
            plot_tuned_map([row for row in drawn if row["group"] == group], keys[0], keys[1], metric, ax=ax)
            ax.set_title(group, fontsize="medium")
        caption += ". What was chosen is framed; in parentheses what was stopped early; × where a replica diverged."
        if len(axes) > 1:
            caption += " Each panel has colours of its own."
    else:
        series, conditions = ([*dict.fromkeys(part)] for part in zip(*(titles[group] for group in shown), strict=True))
        panels = list(itertools.product(keys, conditions))
        figure, axes = grid(len(panels), share_x=len(keys) == 1, share_y=True)
        for ax, (key, condition) in zip(axes, panels, strict=True):
            mine = [{**row, "group": titles[row["group"]][0]} for row in drawn if titles[row["group"]][1] == condition]
            plot_tuning(mine, key, metric, series=series, ax=ax, legend=len(axes) == 1)
            ax.set_title(condition, fontsize="medium")
        if len(axes) > 1:
            finish_panels(figure, axes, share_x=len(keys) == 1)
        caption += (
            ", bars of one standard error. What was chosen has a ring; hollow marks were stopped early; × where a"
        )
        caption += " replica diverged." + (" Of the other keys, the best values." if len(keys) > 1 else "")
    if len(shown) < len(groups):
        caption += (
            f" Of {len(groups)} choices the {len(shown)} with the best {metric.label} are shown; all are in the table."
        )
    found = [f"{group}: {_said(record['groups'][group]['choice'])}" for group in shown]
    finding = f"Chosen: {'; '.join(found)}."
    return Drawing("tuning", f"{capital(metric.label)} over {' and '.join(keys)}", caption, figure, rows, finding)


def _titles(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name the line and the panel of each group: with several keys, of which each has a panel, all in one."""
    if len(record["keys"]) > 1:
        return {group: (group, "") for group in record["groups"]}
    return {group: found.get("title", (group, "")) for group, found in record["groups"].items()}


def _shown(groups: Sequence[str], titles: Mapping[str, tuple[str, str]], keys: int) -> list[str]:
    """Choose what is drawn: the best groups, as maps, or as lines; with one key in a panel for each condition."""
    if keys != 1:
        return list(groups[: _MOST_MAPS if keys == 2 else _MOST_LINES])
    panels = dict[str, list[str]]()
    for group in groups:
        panels.setdefault(titles[group][1], []).append(group)
    best = {group for members in [*panels.values()][:_MOST_MAPS] for group in members[:_MOST_LINES]}
    return [group for group in titles if group in best]


def _best_groups(record: Mapping[str, Any]) -> list[str]:
    """Return the groups in their order, or of many the best first."""
    groups: Sequence[str] = list(record["groups"])
    if len(groups) <= _MOST_MAPS:
        return list(groups)
    sign = 1 if record["metric"]["direction"] == "smaller" else -1

    def place(group: str) -> tuple[int, float]:
        (best,) = (one for one in record["groups"][group]["candidates"] if one["chosen"])
        return best["lost"], sign * (best["mean"] or 0.0)

    return sorted(groups, key=place)
