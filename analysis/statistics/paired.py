"""Paired differences between strategies, replica by replica."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from basinet.analysis.statistics.ranking import by_condition
from basinet.analysis.statistics.replica_values import finals, moments, t_interval
from basinet.analysis.statistics.rounding import write_digits
from basinet.analysis.statistics.run_labels import names
from basinet.sim.run.folder import Run
from basinet.sim.run.records import FINISHED

__all__ = ["ROUNDING", "PairedDifference", "paired_differences"]

ROUNDING = 1e-5
"""Relative difference below which values are equal up to float32 summation errors."""


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a strategy from the baseline with all other keys equal, paired by replica.

    Attributes:
        metric: Name of the metric.
        condition: The other keys that vary, and their values.
        strategy: The strategy.
        baseline: The strategy that it is compared with.
        mean: Mean of the differences, strategy minus baseline.
        error: Its standard error, None for a single pair.
        n: Number of pairs.
        interval: The 95 % t-interval of the mean, None for a single pair.
    """

    metric: str
    condition: str
    strategy: str
    baseline: str
    mean: float
    error: float | None
    n: int
    interval: tuple[float, float] | None

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def verdict(self) -> str:
        """What the pairs show: smaller, larger, or no difference."""
        if self.interval is None:
            return "a single pair has no interval"
        if not self.shown:
            return "no difference shown"
        return "larger" if self.mean > 0 else "smaller"

    def cells(self) -> list[str]:
        """Format the comparison as cells of a table.

        Returns:
            The two strategies, the mean difference ± its standard error, its interval, the pairs, the verdict.
        """
        pair = f"{self.strategy} − {self.baseline}"
        if self.error is None or self.interval is None:
            return [pair, write_digits([self.mean], self.mean, 0.0, join="", sign="+"), "", str(self.n), self.verdict]
        amount = write_digits([self.mean, self.error], self.mean, self.error, join=" ± ", sign="+").replace("± +", "± ")
        interval = write_digits(self.interval, self.mean, self.error, join=" to ", sign="+")
        return [pair, amount, interval, str(self.n), self.verdict]


def paired_differences(runs: Sequence[Run], metric: str, baseline: str = "centralized") -> list[PairedDifference]:
    """Compare strategies with a baseline, pairing their replicas by index.

    Replicas of the same index share seed, initial parameters and samples. Unfinished runs and pairs with a diverged
    replica are left out. Values that agree in five digits count as equal.

    Args:
        runs: The runs.
        metric: Name of the metric, whose last values are compared.
        baseline: Label of the strategy to compare with.

    Returns:
        One comparison per condition and strategy that has pairs.
    """
    named = [(run, *name) for run, name in zip(runs, names(runs), strict=True) if run.status.get("state") in FINISHED]
    references = {condition: finals(run, metric) for run, name, condition in named if name == baseline}
    comparisons = []
    for run, strategy, condition in named:
        reference, values = references.get(condition, {}), finals(run, metric)
        pairs = [(values[replica], reference[replica]) for replica in sorted(values.keys() & reference)]
        differences = [0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for a, b in pairs]
        mean, error, count = moments(differences)
        if strategy == baseline or mean is None:
            continue
        interval = None if error is None else t_interval(mean, error, count)
        comparisons.append(PairedDifference(metric, condition, strategy, baseline, mean, error, count, interval))
    return by_condition(comparisons, lambda comparison: comparison.condition)
