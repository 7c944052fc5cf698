"""Strategies compared on one task: score against steps, bytes, flatness and excess risk; agents beside centroids."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import legend_below_panels
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import axis_label, baseline_lines, baseline_style, styles
from basinet.analysis.runs.solution import Solution, replicas_of
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference, larger, nested_errors
from basinet.analysis.studies.flatness_tradeoff.trainings import Outcomes, log
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check
from basinet.sim.evaluation.measuring import measure
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["ALONE", "CONSENSUS", "DIFFUSION", "LOCAL", "NO_AGENTS", "Compared", "at_least"]

NO_AGENTS, CONSENSUS, DIFFUSION, ALONE, LOCAL = "centralized", "consensus", "diffusion ATC", "isolated", "local SGD"
"""Labels of the strategies that claims are about."""

_MENDING = ("exact diffusion", "gradient tracking ATC")
"""Labels of those that correct for agents whose data differ."""

_NEAR = 2.0
"""Distance in ranges of the scores up to which figures show a baseline, which their captions name in any case."""

_FLATNESS, _RISK, _BYTES = "hessian_top_eigenvalue", "excess_risk", "communicated_bytes"


def at_least(claim: str, a: ArrayLike, b: ArrayLike, gap: float) -> Check:
    """Check that a is above b by some gap, by the paired difference.

    Args:
        claim: The claim in words.
        a: Values.
        b: Values of the same replicas, or one for all.
        gap: The gap.

    Returns:
        The check.

    Example:
        >>> at_least("tall", [1.9, 2.0, 2.1], [1.0, 1.0, 1.0], 0.5).verdict
        'agrees'
    """
    found = Difference(a, b)
    otherwise = "too few pairs" if found.pairs < 2 else "falls short" if found.high < gap else "not shown"
    rule = f"the paired 95 % interval lies above {gap:g}"
    return Check(claim, f"at least {gap:g}", str(found), rule, found.low > gap, otherwise)


@dataclass(frozen=True)
class Compared:
    """Finished trainings by all strategies under several conditions, the cases of their experiment.

    Attributes:
        runs: The trainings.
        metric: The score, larger if better.
        of_agents: Replicas whose agents are scored one by one, the first ones.
        loss: Name of the loss, where a study compares several of them.
    """

    runs: Sequence[Run]
    metric: str
    of_agents: int
    loss: str = ""

    def _told(self, what: str) -> str:
        return ", ".join(filter(None, [what, self.loss]))

    @cached_property
    def outcomes(self) -> Outcomes:
        """Final values by strategy and case."""
        return Outcomes(self.runs)

    @property
    def baselines(self) -> dict[str, float]:
        """What predictors without a network score, by name."""
        known = self.runs[0].status["baselines"].items()
        return {name: values[self.metric] for name, values in known if self.metric in values}

    def score(self, label: str, case: str) -> Any:
        """Return the final score of the centroids of a training, one per replica."""
        return self.outcomes.get(self.metric, label, case)

    def flatter(self, case: str) -> Iterator[Check]:
        """Check whether decentralised training ends in flatter minima than centralised training does.

        Args:
            case: The condition.

        Yields:
            A check for consensus and one for diffusion.
        """
        found = self.outcomes
        for label in (CONSENSUS, DIFFUSION):
            yield larger(
                f"{label} ends where it is flatter than centralised training does"
                f" (log ratio of λ_max, {self._told(case)})",
                found.flatness(NO_AGENTS, case),
                found.flatness(label, case),
            )

    def better(self, case: str) -> Check:
        """Check whether diffusion scores above consensus.

        Args:
            case: The condition.

        Returns:
            The check.
        """
        claim = f"diffusion scores above consensus (difference, {self._told(case)})"
        return larger(claim, self.score(DIFFUSION, case), self.score(CONSENSUS, case))

    def above(self, label: str, other: str, case: str) -> Check:
        """Check whether the centroids of a strategy score above those of another one.

        Args:
            label: The strategy.
            other: The other one.
            case: The condition.

        Returns:
            The check.
        """
        claim = f"{label} scores above {other} (difference, {self._told(case)})"
        return larger(claim, self.score(label, case), self.score(other, case))

    def together(self, case: str) -> Check:
        """Check whether the centroids of diffusion score above agents that train alone.

        Args:
            case: The condition.

        Returns:
            The check, of the replicas whose agents are scored.
        """
        claim = f"diffusion scores above the mean of agents that train alone (difference, {self._told(case)})"
        rows = [row for row in self.ends if (row["strategy"], row["case"]) == (ALONE, case) and row["agents"]]
        whole = self.score(DIFFUSION, case)[[row["replica"] for row in rows]]
        return larger(claim, whole, [fmean(row["agents"]) for row in rows])

    def mended(self, alike: str, unlike: str) -> Iterator[Check]:
        """Check whether different data cost diffusion something, and whether corrections win it back.

        Args:
            alike: The condition under which agents have data of one kind.
            unlike: That under which their data differ.

        Yields:
            A check of the cost, and one for each strategy that corrects.
        """
        whole, spoilt = (self.score(DIFFUSION, case) for case in (alike, unlike))
        gap = self._told(f"{alike} minus {unlike}")
        yield larger(f"data that differ cost diffusion something (difference, {gap})", whole, spoilt)
        for label in _MENDING:
            claim = f"{label} scores above diffusion where data differ (difference, {self._told(unlike)})"
            yield larger(claim, self.score(label, unlike), spoilt)

    def told(self) -> Check:
        """Check whether flatness tells anything of scores.

        Returns:
            The check, of the same regressions as in `ordered`.
        """
        claim = (
            f"flatness tells of scores (squared error of their mean minus λ_max, {self._told('trainings left out')})"
        )
        return larger(claim, self._errors["nothing"], self._errors[_FLATNESS])

    def ordered(self) -> Check:
        """Check whether the excess risk tells of scores what flatness does not.

        Returns:
            The check, of linear regressions cross-validated over the trainings.
        """
        claim = "flatness alone does not order scores: the excess risk tells more of them (squared error, λ_max alone"
        told = f"{claim} minus both, {self._told('trainings left out')})"
        return larger(told, self._errors[_FLATNESS], self._errors["all"])

    @cached_property
    def _errors(self) -> dict[str, Any]:
        """Squared errors of linear regressions of the score, cross-validated over the trainings."""
        rows = [row for row in self.ends if row[_FLATNESS] and row[_RISK] and row["score"] is not None]
        features = {name: log(np.array([row[name] for row in rows])) for name in (_FLATNESS, _RISK)}
        groups = [f"{row['strategy']}, {row['case']}" for row in rows]
        return nested_errors(features, [row["score"] for row in rows], groups)

    @cached_property
    def ends(self) -> list[Row]:
        """What each replica ends with: score, flatness, excess risk, agents' scores, and the baselines."""
        found, rows = self.outcomes, []
        for run in self.runs:
            label, case = strategy_label(run.config), run.config["case"]
            names = {"score": self.metric, _FLATNESS: _FLATNESS, _RISK: _RISK, _BYTES: _BYTES}
            columns = {name: found.get(metric, label, case).tolist() for name, metric in names.items()}
            agents = self._agents(run)
            for replica in range(run.config["replicas"]):
                values = {name: _finite(column[replica]) for name, column in columns.items()}
                place = {"strategy": label, "case": case, "replica": replica}
                rows.append({**place, **values, "agents": agents.get(str(replica)), **self.baselines})
        return rows

    def _agents(self, run: Run) -> dict[str, list[float]]:
        """Return the scores of the agents by replica; those of centralised training are all the same."""
        if strategy_label(run.config) == NO_AGENTS:
            return {}
        scores = partial(_scores_of_agents, run, self.metric, self.of_agents)
        return once("agents", scores, config=run.config, replicas=self.of_agents, metric=self.metric)

    def curves(self) -> list[Row]:
        """Return the scores over steps and bytes, mean over the replicas, with their standard errors."""
        rows = []
        for run in self.runs:
            at: dict[int, list[Row]] = {}
            for row in run.metrics:
                if self.metric in row and "agent" not in row and row["replica"] in replicas_of(run):
                    at.setdefault(row["step"], []).append(row)
            for step, found in at.items():
                sent = fmean(row[_BYTES] for row in found) / run.config["topology"]["agents"]
                scores = [row[self.metric] for row in found]
                error = stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else None
                place = {"strategy": strategy_label(run.config), "case": run.config["case"], "step": step}
                known = {"bytes": sent, "score": fmean(scores), "standard error": error}
                rows.append({**place, **known, **self.baselines})
        return rows

    def drawings(self) -> list[Drawing]:
        """Draw scores over steps and bytes, scores against flatness and excess risk, and agents beside centroids."""
        curves = self.curves()
        beside = [row for row in self.ends if row["agents"]]
        of_agents = [
            {**row, "agents": None, "agent": agent, "score of the agent": score}
            for row in beside
            for agent, score in enumerate(row["agents"])
        ]
        return [
            Drawing(
                f"score{self._last}",
                self._told("Score over steps and bytes"),
                "Of the centroid, mean over the replicas with its standard error; bytes that an agent sends, or"
                f" exchanges with a server. The axes are those of the scores after the start. {self._trivial}",
                self._draw_curves(curves, axis_label(self.metric, self.runs)),
                curves,
            ),
            self.against_flatness(),
            Drawing(
                f"agents{self._last}",
                self._told("Agents beside their centroid"),
                "Small marks are the agents of a replica, large ones their centroid, the mean of their parameters."
                f" {self._trivial}",
                self._draw_agents(beside, axis_label(self.metric, self.runs)),
                of_agents,
            ),
        ]

    def against_flatness(self) -> Drawing:
        """Draw scores against flatness and excess risk."""
        rows = [{name: value for name, value in row.items() if name != "agents"} for row in self.ends]
        return Drawing(
            f"flatness{self._last}",
            self._told("Score against flatness and excess risk"),
            "Each mark is a replica's centroid: the largest eigenvalue of the Hessian of the training loss on a"
            f" subset of the training data, and how far that loss can still be brought down. {self._trivial}",
            self._draw_flatness(rows, axis_label(self.metric, self.runs)),
            rows,
        )

    @property
    def _trivial(self) -> str:
        return "Without a network: " + ", ".join(f"{key} {value:.4g}" for key, value in self.baselines.items()) + "."

    @property
    def _last(self) -> str:
        return f"_{self.loss.replace(' ', '_')}" if self.loss else ""

    def _draw_curves(self, rows: Sequence[Row], name: str) -> Figure:
        cases = list(dict.fromkeys(row["case"] for row in rows))
        figure, axes = grid(2 * len(cases), share_x=False, share_y=True)
        for ax, (case, x) in zip(axes, [(case, x) for case in cases for x in ("step", "bytes")], strict=True):
            for label, own in _by_strategy(row for row in rows if row["case"] == case):
                look = styles(row["strategy"] for row in rows)[label]
                xs = [row[x] / (1e6 if x == "bytes" else 1) for row in own]
                errors = [row["standard error"] or 0 for row in own]
                ax.errorbar(
                    xs, [row["score"] for row in own], errors,
                    label=label, color=look.color, linestyle=look.line, marker=look.marker, capsize=3,
                )  # fmt: skip
            ax.set_title(case, fontsize="medium")
            ax.set_xlabel("step" if x == "step" else "bytes per agent (MB)")
        return self._finish(figure, axes, [row["score"] for row in rows if row["step"]], name)

    def _draw_flatness(self, rows: Sequence[Row], name: str) -> Figure:
        cases = list(dict.fromkeys(row["case"] for row in rows))
        figure, axes = grid(2 * len(cases), share_x=False, share_y=True)
        for ax, (case, x) in zip(axes, [(case, x) for case in cases for x in (_FLATNESS, _RISK)], strict=True):
            for label, own in _by_strategy(
                row for row in rows if row["case"] == case and row[x] and row["score"] is not None
            ):
                look = styles(row["strategy"] for row in rows)[label]
                ax.plot(
                    [row[x] for row in own], [row["score"] for row in own],
                    label=label, color=look.color, linestyle="", marker=look.marker,
                )  # fmt: skip
            ax.set_title(case, fontsize="medium")
            ax.set_xscale("log")
            ax.set_xlabel(axis_label(x, self.runs))
        return self._finish(figure, axes, [row["score"] for row in rows if row["score"] is not None], name)

    def _draw_agents(self, rows: Sequence[Row], name: str) -> Figure:
        cases = list(dict.fromkeys(row["case"] for row in rows))
        labels = list(dict.fromkeys(row["strategy"] for row in rows))
        figure, axes = grid(len(cases), share_x=False, share_y=True)
        for ax, case in zip(axes, cases, strict=True):
            for label, own in _by_strategy(row for row in rows if row["case"] == case):
                look = styles([NO_AGENTS, *labels])[label]
                for row in own:
                    x = labels.index(label) + 0.6 * ((row["replica"] + 0.5) / self.of_agents - 0.5)
                    ax.plot([x] * len(row["agents"]), row["agents"], color=look.color, marker=".", linestyle="")
                    ax.plot([x], [row["score"]], color=look.color, marker=look.marker, markersize=9, fillstyle="none")
            ax.set_title(case, fontsize="medium")
            ax.set_xticks(range(len(labels)), [label.replace(" ", "\n", 1) for label in labels])
            ax.set_xlim(-0.5, len(labels) - 0.5)
        scores = [score for row in rows for score in (row["score"], *row["agents"])]
        return self._finish(figure, axes, scores, name, legend=False)

    def _finish(
        self, figure: Figure, axes: Sequence[Axes], scores: Sequence[float], name: str, *, legend: bool = True
    ) -> Figure:
        """Label the axes, fit them to the scores, and draw the baselines that are near these."""
        low, high = min(scores), max(scores)
        near = [y for y in self.baselines.values() if low - _NEAR * (high - low) <= y <= high + _NEAR * (high - low)]
        low, high = min([low, *near]), max([high, *near])
        for ax in axes:
            for place, (key, value) in enumerate(baseline_lines(self.baselines).items()):
                if value in near:
                    ax.axhline(value, label=key, **baseline_style(place))
            if low < high:
                ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            spec = ax.get_subplotspec()
            if spec is not None and spec.is_first_col():
                ax.set_ylabel(name)
            label_log_axes(ax)
        if legend:
            known = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
            found = {label: handle for pairs in known for handle, label in pairs}
            legend_below_panels(figure, list(found.values()), list(found))
        return figure


def _scores_of_agents(run: Run, metric: str, replicas: int) -> dict[str, list[float]]:
    found = {}
    for replica in replicas_of(run)[:replicas]:
        solution = Solution(run.path, replica, "float32")
        scores = []
        for model in solution.agents():
            outputs = partial(solution.task.outputs, model)
            scores.append(measure(solution.task, "test", outputs, model=model)[metric])
        found[str(replica)] = scores
    return found


def _by_strategy(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["strategy"], []).append(row)
    yield from found.items()


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
