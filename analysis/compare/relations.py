"""How a measure goes along with another over runs and replicas: correlations, and linear models with intervals."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from basinet.analysis.compare.fairness import Group
from basinet.analysis.compare.frame import Frame
from basinet.analysis.compare.tables_of_text import Cell, TextTable
from basinet.analysis.statistics.paired import ROUNDING
from basinet.sim.experiment.component import ExperimentError

__all__ = ["Relation", "Relations", "correlations", "relations"]

Array = NDArray[np.float64]

_LEAST = 5
"""Fewest points of a relation; with fewer, no test could tell it from chance."""


@dataclass(frozen=True)
class Relation:
    """A coefficient of one relation.

    Attributes:
        name: What goes along with what, and the coefficient.
        model: The linear model; empty for a correlation.
        value: The coefficient.
        lower: Lower end of its 95 % interval; NaN if there is none.
        upper: Upper end.
        p: The two-sided p-value of no relation.
        n: Number of points.
    """

    name: str
    model: str
    value: float
    lower: float
    upper: float
    p: float
    n: int


@dataclass(frozen=True)
class Relations:
    """How a measure goes along with another one.

    Attributes:
        found: The coefficients.
        notes: A sentence for everything that is not as asked for.
    """

    found: tuple[Relation, ...]
    notes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.table().html()

    def rows(self) -> list[dict[str, Any]]:
        """Return plain values.

        Returns:
            A row for each coefficient: the attributes of `Relation`; None for what there is not.
        """
        rows = map(asdict, self.found)
        return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]

    def table(self) -> TextTable:
        """Format the coefficients as text.

        Returns:
            The table.
        """
        rows = []
        for of in self.found:
            value, lower, upper = (f"{number:z.3f}" for number in (of.value, of.lower, of.upper))
            ends = "–" if math.isnan(of.lower) else f"[{lower}, {upper}]"
            rows.append([Cell(of.name), Cell(value), Cell(ends), Cell(f"{of.p:.2g}"), Cell(str(of.n))])
        models = dict.fromkeys(of.model for of in self.found if of.model)
        notes = [f"linear models: {model}, in standard deviations" for model in models]
        return TextTable(
            ["relation", "value", "95\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}interval", "p", "replicas"], {"": rows}, notes
        )


def relations(frame: Frame, groups: Sequence[Group], y: str, x: str, given: str | None = None) -> Relations:
    """Relate a measure to another one over replicas.

    Copies count once: runs of a strategy that does not use its graph are the same on all graphs.

    - Spearman's and Kendall's rank correlations of y and x.
    - Spearman's partial correlation given a third measure: the correlation of what is left of their ranks by linear
      regressions on its ranks.
    - Ordinary least squares y = a + b x + c z, with robust errors (HC3) since replicas differ in spread, in standard
      deviations of the measures: b = 0.5 means that y rises by half a standard deviation with one of x.
    - The same as a mixed model, whose intercept varies by group: how y follows x within groups of equal settings.

    Args:
        frame: The replicas.
        groups: Their groups, which are those of the mixed model.
        y: The measure that is explained, such as test_accuracy.
        x: A measure, such as hessian_trace.
        given: A third measure z, such as excess_risk; None for no partial correlation.

    Returns:
        The coefficients that can be computed.

    Raises:
        ExperimentError: There is no such measure, or too few replicas have all.
    """
    names = [y, x, *([given] if given else [])]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ExperimentError(f"--x: got {twice[0]} twice; the sides of a relation and what is given must differ")
    columns = [frame.numbers(name) for name in names]
    kind = np.full(len(frame), -1)
    for place, group in enumerate(groups):
        kind[group.rows] = place
    known = np.all([np.isfinite(column) for column in columns], axis=0) & (kind >= 0)
    n = int(known.sum())
    if n < _LEAST:
        counted = "1 replica has" if n == 1 else f"{n} replicas have"
        raise ExperimentError(f"--x: {counted} {' and '.join(names)}, and {_LEAST} are needed")
    notes = []
    if n < len(frame):
        notes.append(f"{len(frame) - n} of {len(frame)} replicas lack {' or '.join(names)}; left out")
    kept, copied = _without_copies(frame, np.flatnonzero(known), columns)
    notes += filter(None, [copied])
    n = len(kept)
    if n < _LEAST:
        raise ExperimentError(f"--x: {copied}, and {_LEAST} are needed")
    values, kind = [column[kept] for column in columns], kind[kept]
    for name, column in zip(names, values, strict=True):
        if np.ptp(column) == 0:
            raise ExperimentError(f"--x: {name} is {column[0]:g} in all {n} replicas, so nothing goes along with it")
    known_as = map(frame.quantity, names)
    labels = [quantity.heading or quantity.label for quantity in known_as]
    found = correlations(values, labels)
    found += _linear(values, labels, kind, notes)
    return Relations(tuple(found), tuple(notes))


def _without_copies(frame: Frame, rows: NDArray[np.int64], columns: Sequence[Array]) -> tuple[NDArray[np.int64], str]:
    """Keep one of the copies of each sample, or none if they differ, as in numbers of a graph that they do not use.

    Returns:
        The rows that are kept, and a sentence about the others, empty if there are none.
    """
    copies: dict[int, list[int]] = {}
    for row, sample in zip(rows.tolist(), frame.samples[rows].tolist(), strict=True):
        copies.setdefault(sample, []).append(row)
    same = [of for of in copies.values() if all(np.ptp(c[of]) <= ROUNDING * np.abs(c[of]).max() for c in columns)]
    said = []
    if left := sum(len(of) - 1 for of in same):
        said.append(f"{left} of {len(rows)} replicas are copies of others on a graph that their strategy does not use")
    if odd := len(rows) - left - len(same):
        said.append(f"{odd} of {len(rows)} replicas have measures of graphs that their strategy does not use")
    note = f"{' and '.join(said)}; left out, so that {len(same)} points remain" if said else ""
    return np.array([of[0] for of in same], dtype=int), note


def correlations(values: Sequence[Array], names: Sequence[str]) -> list[Relation]:
    """Compute rank correlations.

    Args:
        values: Columns of numbers: y, x and perhaps z.
        names: Their names.

    Returns:
        Spearman's and Kendall's of y and x, and Spearman's given z, unless it leaves nothing of one of them.
    """
    y, x, *given = map(stats.rankdata, values)
    n, degrees = len(y), len(y) - 3
    both = f"{names[0]} with {names[1]}"
    rho, tau = stats.pearsonr(y, x), stats.kendalltau(y, x)
    found = [
        Relation(f"{both}: Spearman's ρ", "", *_interval(rho.statistic, n - 3), float(rho.pvalue), n),
        Relation(f"{both}: Kendall's τ", "", *_interval(tau.statistic, n - 4, 0.437), float(tau.pvalue), n),
    ]
    for z in given:
        left = [column - stats.linregress(z, column).slope * (z - z.mean()) for column in (y, x)]
        if min(map(np.ptp, left)) > 1e-9 * n:
            r = float(stats.pearsonr(*left).statistic)
            p = 2 * float(stats.t.sf(abs(r) * math.sqrt(degrees / max(1 - r * r, 1e-300)), degrees))
            found.append(Relation(f"{both} given {names[2]}: Spearman's ρ", "", *_interval(r, n - 4), p, n))
    return found


def _interval(r: float, degrees: int, variance: float | None = None) -> tuple[float, float, float]:
    """Return a rank correlation with its 95 % interval, by Fisher's z.

    Its variance is (1 + r²/2) / degrees for Spearman's, 0.437 / degrees for Kendall's (Bonett, Wright: Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65, 2000).
    """
    with np.errstate(divide="ignore"):
        half = stats.norm.ppf(0.975) * math.sqrt((1 + r * r / 2 if variance is None else variance) / degrees)
        low, high = np.tanh(np.arctanh(r) + np.array([-half, half]))
    return float(r), float(low), float(high)


def _linear(values: Sequence[Array], names: Sequence[str], kind: NDArray[Any], notes: list[str]) -> list[Relation]:
    """Fit the linear models in standard deviations."""
    try:
        import statsmodels.api as sm
    except ImportError:
        notes.append('linear models need the package statsmodels: pip install "basinet[series]"')
        return []
    y, *others = [(column - column.mean()) / column.std(ddof=1) for column in values]
    design = sm.add_constant(np.column_stack(others))
    label = f"{names[0]} ~ {' + '.join(names[1:])}"
    n, terms = len(y), names[1:]
    found: list[Relation] = []

    def add(model: str, fit: Callable[[], Any]) -> None:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            try:
                fitted = fit()
                ends = np.asarray(fitted.conf_int())
            except (np.linalg.LinAlgError, ValueError) as error:
                notes.append(f"{model}, {label}: {error}")
                return
        if not getattr(fitted, "converged", True) or not np.isfinite(ends[1 : 1 + len(terms)]).all():
            notes.append(f"{model}, {label}: the fit has not converged")
            return
        if raised:
            notes.append(f"{model}, {label}: {raised[-1].message}")
        for place, term in enumerate(terms, 1):
            numbers = (float(fitted.params[place]), float(ends[place, 0]), float(ends[place, 1]))
            found.append(Relation(f"{names[0]} with {term}: {model}", label, *numbers, float(fitted.pvalues[place]), n))

    if np.linalg.matrix_rank(design) < design.shape[1]:
        notes.append(f"{label}: {' and '.join(terms)} are multiples of each other, so no linear model tells them apart")
        return []
    if n > design.shape[1] + 1:
        add("least squares", lambda: sm.OLS(y, design).fit(cov_type="HC3", use_t=True))
    if 2 <= len({*kind.tolist()}) < n:
        add("mixed model", lambda: sm.MixedLM(y, design, groups=kind).fit(reml=True))
    else:
        notes.append(f"mixed model, {label}: it needs at least two groups, and replicas within them")
    return found
