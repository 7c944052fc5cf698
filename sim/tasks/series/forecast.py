"""Forecasting of time series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.data.held_out import hold_rows_out
from basinet.sim.data.rows import length
from basinet.sim.evaluation.measuring import measure
from basinet.sim.experiment.mistakes import nearest, shown
from basinet.sim.tasks.loaders.csv_files import shift_and_scale
from basinet.sim.tasks.series.naive import LinearForecast, last_value, seasonal_naive
from basinet.sim.tasks.series.recordings import Fill, Recording, Shipped
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import TASKS, Batch

__all__ = ["Forecast", "forecast"]

Length = Annotated[int, Field(ge=1, le=10**6)]
Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_USUAL = 96
"""Length of windows and forecasts of a series without a known season, as usual for ETT."""


@dataclass(frozen=True, kw_only=True)
class Forecast(Regression):
    """Forecasts of the values that follow a window, under the mean squared error.

    Inputs are windows [n, L, C], targets the values that follow, [n, H, C]; both are usually views of the series.
    Outputs are [B, H, C], or [B, H · C] of models that know no channels.

    Attributes:
        names: Names of the channels.
        shift: What was subtracted from each channel.
        scale: What it was then divided by.
        times: When each row of the test series was recorded, from the first input on, in words.
        stride: Rows between the starts of successive windows.
        separate: Whether each channel is a series of its own, so that C = 1; the windows that start at the same time
            then follow one another.
        season: Length of a season; None if unknown.
    """

    names: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    times: tuple[str, ...] = ()
    stride: int = 1
    separate: bool = False
    season: int | None = None

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Any:
        """Apply a model to windows; see `Task.outputs`.

        Args:
            model: The model.
            batch: Windows and what follows them.

        Returns:
            Forecasts [B, H, C].
        """
        found, shape = super().outputs(model, batch), self.targets(batch).shape
        flat = isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] == shape[1] * shape[2]
        return found.reshape(shape) if flat else found

    @property
    def naive(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Trivial forecasts by name: functions of windows [B, L, C].

        Without a season, or with one that is longer than a window, there is no seasonal one.
        """
        (length, _), horizon = self.input_shape, self.horizon
        found: dict[str, Callable[[Tensor], Tensor]] = {"last value": lambda inputs: last_value(inputs, horizon)}
        if (season := self.season) is not None and season <= length:
            found["seasonal naive"] = lambda inputs: seasonal_naive(inputs, horizon, season)
        return {**found, "ridge regression": LinearForecast(self)}

    @property
    def horizon(self) -> int:
        """Number of values to forecast, H."""
        return int(self.targets(self.train).shape[1])

    def hold_out(self, share: float, seed: int) -> Self:
        """Hold the last windows of the training part out; none that remains has values to forecast in common with them.

        Args:
            share: Their share of the windows.
            seed: Not used, since time gives the order.

        Returns:
            The task.

        Raises:
            ValueError: The share leaves no windows for one of the two.
        """
        channels = len(self.names) if self.separate else 1
        start = torch.arange(length(self.train)) // channels
        starts = int(start[-1]) + 1
        first = starts - round(share * starts)
        border = first - (-(-self.horizon // self.stride) - 1)
        if first == starts or border < 1:
            raise ValueError(f"a share of {share:g} of {starts} windows leaves none to train or to test on")
        rows = range(first * self.stride, (starts - 1) * self.stride + self.input_shape[0] + self.horizon)
        return hold_rows_out(self, start >= first, start < border, times=tuple(f"row {row}" for row in rows))

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for the mean target and for the trivial forecasts, by name."""
        found = super().baselines()
        with torch.no_grad():
            for name, function in self.naive.items():
                of_batch = partial(_of_inputs, function)
                found[name] = measure(self, "train", of_batch) | measure(self, "test", of_batch)
        return found


def _of_inputs(function: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    return function(batch[0])


@TASKS.register()
def forecast(
    *,
    series: Shipped | None = None,
    path: str | None = None,
    columns: Sequence[str] | None = None,
    inputs: Length | None = None,
    horizon: Length | None = None,
    stride: Length = 1,
    channels: Literal["joint", "separate"] = "joint",
    season: Length | None = None,
    fill: Fill | None = None,
    standardize: bool = True,
    test: Literal["test", "validation"] = "test",
    split: Sequence[Share] = (7, 1, 2),
    periods: Length = 16,
) -> Forecast:
    """Load a time series, of which windows are to be continued.

    The first 70 % of its rows are for training, the next 10 % for validation and the last 20 % for tests, as in Wu et
    al.: Autoformer, NeurIPS 2021, arXiv:2106.13008 (but for ETT itself, whose `split` is [6, 2, 2] there). Windows and
    what follows them lie within the rows for training; forecasts that are tested lie within the rows for tests, and
    their windows may reach back before these.

    The training samples know the `period` in which they begin, and with separate channels the `series` that they are
    from, by which they may be partitioned.

    Args:
        series: A series that is part of statsmodels: `co2` (weekly, the default), `elnino` (monthly), `sunspots`
            (yearly) or `macrodata` (12 columns, quarterly).
        path: A CSV file instead, with the columns `date`, in order, and others that hold numbers.
        columns: Columns to use, which are the channels C; by default, all that hold numbers.
        inputs: Length L of a window; by default two seasons, or 96 without a known season.
        horizon: Number of values to forecast, H; by default one season, or 96.
        stride: Rows between the starts of successive windows, in training and in tests.
        channels: Whether channels are forecast together, or each is a univariate series of its own.
        season: Rows after which the series nearly repeats, for the baseline of that name; at most `inputs`. By default
            52 weeks, 12 months, 11 years (of the solar cycle) or 4 quarters, and none for a file.
        fill: How missing values are filled in: by the `last` one before, or the first one at the beginning; or by
            `linear` interpolation, which looks ahead. By default, `last` for the series of statsmodels, and a file must
            not lack any.
        standardize: Whether channels are shifted and scaled to mean 0 and variance 1 over the rows for training.
        test: Whether the rows for tests are the test data, or those for validation; the others are not used.
        split: Relative sizes of the parts for training, validation and tests.
        periods: Number of periods of the same length into which the training windows are divided by their time.

    Returns:
        A task.

    Raises:
        ValueError: If there is no such series or column, a file has another layout, a value is missing or no number, or
            the series is too short.
    """
    if series is not None and path is not None:
        raise ValueError(f"forecast: series is {series!r} and path {path!r}; give one of them")
    if series is not None and series not in get_args(Shipped):
        raise ValueError(f"forecast: series is {series!r}; {nearest(series, get_args(Shipped))}")
    found = Recording.shipped(series or "co2") if path is None else Recording.from_csv(path)
    found = found if columns is None else found.select(columns)
    found = found.filled("last" if fill is None and path is None else fill)
    known = season or found.season
    length = inputs or (2 * known if known else _USUAL)
    ahead = horizon or known or _USUAL
    if season is not None and season > length:
        raise ValueError(f"forecast: season is {season}; allowed are at most {length}, the inputs")
    values, total = found.values, len(found.values)
    if len(split) != 3 or not all(0 < share < np.inf for share in split):
        raise ValueError(f"forecast: split is {shown([*split])}; allowed are three positive numbers")
    fit, held = (int(share / sum(split) * total) for share in (split[0], split[2]))
    first, last = (total - held, total) if test == "test" else (fit, total - held)
    for part, size, wanted, why in (
        ("training", fit, length + ahead, f"inputs + horizon = {length} + {ahead}"),
        (test, last - first, ahead, f"the horizon of {ahead}"),
    ):
        if size < wanted:
            raise ValueError(
                f"forecast: the {part} part of {found.source} has {size} of {total} rows, fewer than {why}"
            )
    shift, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    if standardize:
        shift, scale = shift_and_scale(values[:fit])
    scaled = torch.from_numpy((values - shift) / scale).float()
    separate = channels == "separate"
    begin = first - length
    train = _windows(scaled[:fit], length, ahead, stride, separate=separate)
    starts = (fit - length - ahead) // stride + 1
    beside = {"period": np.arange(starts) * min(periods, starts) // starts}
    if separate:
        names = np.tile(np.array(found.channels), starts)
        beside = {"period": np.repeat(beside["period"], len(found.channels)), "series": names}
    task = Forecast(
        train=train,
        test=_windows(scaled[begin:last], length, ahead, stride, separate=separate),
        num_outputs=train[1].shape[1:].numel(),
        model="linear_forecaster",
        columns=beside,
        names=found.channels,
        shift=tuple(shift.tolist()),
        scale=tuple(scale.tolist()),
        times=found.times[begin:last],
        stride=stride,
        separate=separate,
        season=known,
    )
    task.check()
    return task


def _windows(series: Tensor, length: int, horizon: int, stride: int, *, separate: bool) -> tuple[Tensor, Tensor]:
    """Cut a series [T, C] into windows [n, L, C] and what follows them, [n, H, C]; views of it where possible."""
    view = series.unfold(0, length + horizon, stride)  # [n, C, L + H]
    if separate:  # a copy if the stride is larger than one
        view = view.reshape(-1, 1, length + horizon)
    view = view.transpose(1, 2)
    return view[:, :length], view[:, length:]
