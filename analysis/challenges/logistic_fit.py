"""Correlations of predicted quality with opinions: Kendall's, and Pearson's after a logistic fit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import kendalltau

from basinet.analysis.challenges.video_protocol import is_constant, plcc

__all__ = ["krocc", "logistic", "plcc_fitted"]

_CENTRES, _WIDTHS = np.linspace(-2.0, 2.0, 9), np.geomspace(0.1, 100.0, 10)
"""Where the fit begins, in deviations of the predictions: at the best of these."""

_NARROWEST, _WIDEST = 1e-3, 1e4
"""Bounds of the width of the logistic function, in deviations of the predictions; at the widest it is a line."""

_Floats = NDArray[np.float64]


def krocc(predicted: Any, truth: Any) -> float:
    """Compute Kendall's correlation τ_b of ranks.

    Args:
        predicted: Predictions [n].
        truth: Scores [n].

    Returns:
        The correlation; 0 if either is constant.
    """
    if is_constant(predicted) or is_constant(truth):
        return 0.0
    return float(kendalltau(predicted, truth).statistic)


def logistic(predicted: Any, truth: Any) -> _Floats:
    r"""Fit $β_2 + (β_1 − β_2) / (1 + \exp(−(x − β_3) / β_4))$ to scores by least squares, $β_1 ≥ β_2$ and $β_4 > 0$.

    For given β_3 and β_4 the others are those of linear regression, and the error falls with the correlation of the
    logistic function with the scores: it is this that is maximised over the two. Usual fits leave the signs open, which
    turns round what is predicted in the wrong order.

    Args:
        predicted: Predictions x [n].
        truth: Scores [n].

    Returns:
        The fitted values [n]; the mean score if either is constant.

    References:
        Video Quality Experts Group: Final report on the validation of objective models of video quality assessment,
        2000.
    """
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    mean = np.full_like(y, y.mean())
    if is_constant(x) or is_constant(y):
        return mean
    x = x - x.mean()
    x = x / np.abs(x).max()  # squares of very small numbers are 0
    x = x / x.std()

    def curve(centre: float, width: float) -> _Floats:
        found: _Floats = expit((x - centre) / width)
        return found

    def loss(parameters: _Floats) -> float:
        return -float(plcc(curve(parameters[0], float(np.exp(parameters[1]))), y))

    starts = np.array([[centre, np.log(width)] for centre in _CENTRES for width in _WIDTHS])
    start = starts[int(np.argmin([loss(one) for one in starts]))]
    bounds = [(float(x.min()), float(x.max())), (np.log(_NARROWEST), np.log(_WIDEST))]
    start[0] = np.clip(start[0], *bounds[0])
    options = {"xatol": 1e-6, "fatol": 1e-12, "maxiter": 1000}
    best = minimize(loss, start, method="Nelder-Mead", bounds=bounds, options=options).x
    fitted = curve(best[0], float(np.exp(best[1])))
    if is_constant(fitted):
        return mean
    slope = max(0.0, float(np.polyfit(fitted, y, 1)[0]))
    values: _Floats = y.mean() + slope * (fitted - fitted.mean())
    return values


def plcc_fitted(predicted: Any, truth: Any) -> float:
    """Compute Pearson's correlation after a `logistic` fit.

    Args:
        predicted: Predictions [n].
        truth: Scores [n].

    Returns:
        The correlation, from 0 to 1; 0 if either is constant.
    """
    return float(plcc(logistic(predicted, truth), truth))
