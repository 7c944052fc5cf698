"""Phase diagrams over batch, step size and graph: where an ordering of the strategies holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.statistics.multiple_tests import holm
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference
from basinet.analysis.studies.flatness_tradeoff.orderings import ORDERINGS, UNITS, Ordering, Quantity
from basinet.analysis.studies.flatness_tradeoff.settings import Keys, Regime
from basinet.analysis.studies.flatness_tradeoff.trainings import Array
from basinet.analysis.studies.study import Check

__all__ = ["Cell", "phase_checks"]

Values = Mapping[tuple[Quantity, str], Array]

_COLOURS = {"holds": "#56B4E9", "not shown": "#EEEEEE", "reversed": "#E69F00", "too few pairs": "#FFFFFF"}
_MARKS = {"holds": "+", "not shown": "0", "reversed": "−", "too few pairs": "×"}


@dataclass(frozen=True)
class Cell:
    """A point of the diagram.

    Attributes:
        regime: Batch, learning rate and steps.
        factor: Factor on the learning rate.
        topology: The graph.
    """

    regime: Regime
    factor: float
    topology: str

    @property
    def name(self) -> str:
        """Name of its case."""
        return f"batch {self.regime.batch}, step {self.lr:g}, {self.topology}"

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.factor * self.regime.lr

    def keys(self) -> Keys:
        """Return the cell as keys of an experiment.

        Returns:
            The keys.
        """
        return {**self.regime.keys(self.factor), "topology.name": self.topology}


def phase_checks(values: Mapping[Cell, Values], name: str, where: str) -> tuple[list[Check], list[Drawing]]:
    """Test in which cells each ordering holds, and draw the diagrams.

    Args:
        values: The values in each cell, by quantity and strategy.
        name: End of the file names.
        where: Description of the training.

    Returns:
        One check and one figure per ordering.
    """
    checks, drawings = [], []
    for number, ordering in enumerate(ORDERINGS):
        found = {
            cell: Difference(here[ordering.quantity, ordering.more], here[ordering.quantity, ordering.less])
            for cell, here in values.items()
        }
        verdicts = _verdicts(found)
        checks.append(_check(verdicts, ordering, where))
        drawings.append(_draw(found, verdicts, ordering, f"phases_{name}_{number + 1}", where))
    return checks, drawings


def _verdicts(found: Mapping[Cell, Difference]) -> dict[Cell, str]:
    """Return the verdict of each cell, corrected for the number of cells."""
    shown = holm([each.p for each in found.values()])
    return {
        cell: "too few pairs"
        if each.pairs < 2
        else "not shown"
        if not shows
        else "holds"
        if each.mean > 0
        else "reversed"
        for (cell, each), shows in zip(found.items(), shown, strict=True)
    }


def _check(verdicts: Mapping[Cell, str], ordering: Ordering, where: str) -> Check:
    counts = {verdict: [*verdicts.values()].count(verdict) for verdict in _COLOURS}
    held, turned = counts["holds"], counts["reversed"]
    return Check(
        f"{ordering.number}, range: {ordering.words} ({where}, batch × step × graph)",
        f"holds in all {len(verdicts)} cells",
        ", ".join(f"{verdict} in {count}" for verdict, count in counts.items() if count),
        "the mean paired difference is above 0 in every cell, by t-tests at 5 % after Holm over the cells",
        held == len(verdicts),
        otherwise=(
            "mixed" if held and turned
            else "in part of the range" if held
            else "reversed" if turned
            else "too few pairs" if counts["too few pairs"] == len(verdicts)
            else "not shown"
        ),
    )  # fmt: skip


def _draw(
    found: Mapping[Cell, Difference], verdicts: Mapping[Cell, str], ordering: Ordering, name: str, where: str
) -> Drawing:
    graphs = list(dict.fromkeys(cell.topology for cell in found))
    figure, axes = grid(len(graphs), share_x=True, share_y=True, width=3.4)
    for ax, graph in zip(axes, graphs, strict=True):
        _panel(ax, {cell: each for cell, each in found.items() if cell.topology == graph}, verdicts)
        ax.set_title(graph, fontsize="medium")
        ax.set_xlabel("batch size per agent")
    axes[0].set_ylabel("learning rate / batch")
    caption = (
        f"{where}: {ordering.words}. Mean paired difference ({UNITS[ordering.quantity]}), and whether a t-test finds "
        "it above 0 (+, blue), below (−, orange) or neither (0, grey), at 5 % after Holm's correction over all cells; "
        "× if fewer than two pairs did not diverge. The intervals in the data are 95 % intervals without correction."
    )
    rows = [
        {
            "batch": cell.regime.batch, "lr": cell.lr, "topology": cell.topology, "difference": each.mean,
            "lower": each.low, "upper": each.high, "pairs": each.pairs, "p": each.p, "verdict": verdicts[cell],
        }
        for cell, each in found.items()
    ]  # fmt: skip
    return Drawing(name, f"Where it holds that {ordering.words}", caption, figure, rows)


def _panel(ax: Axes, found: Mapping[Cell, Difference], verdicts: Mapping[Cell, str]) -> None:
    batches = sorted({cell.regime.batch for cell in found})
    rates = sorted({_rate(cell) for cell in found})
    for cell, each in found.items():
        column, row = batches.index(cell.regime.batch), rates.index(_rate(cell))
        corner = column - 0.5, row - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, facecolor=_COLOURS[verdicts[cell]], edgecolor="white"))
        mark = _MARKS[verdicts[cell]]
        text = mark if each.pairs < 2 else f"{mark}\n{each.mean:+.2g}"
        ax.text(column, row, text, ha="center", va="center", fontsize=8)
    ax.set_xlim(-0.5, len(batches) - 0.5)
    ax.set_ylim(-0.5, len(rates) - 0.5)
    ax.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    ax.set_yticks(range(len(rates)), [f"{rate:.3g}" for rate in rates])


def _rate(cell: Cell) -> float:
    # Rounded, so that regimes that follow one rule share a row.
    return float(f"{cell.lr / cell.regime.batch:.6g}")
