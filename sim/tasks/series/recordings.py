"""Time series: those of statsmodels, and CSV files in the layout of ETT."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from basinet.sim.experiment.mistakes import nearest, shown
from basinet.sim.tasks.loaders.csv_files import Columns, are_finite, as_numbers, read_csv

__all__ = ["Fill", "Recording", "Shipped"]

Shipped = Literal["co2", "elnino", "sunspots", "macrodata"]

Fill = Literal["last", "linear"]


@dataclass(frozen=True, eq=False)
class Recording:
    """Numbers recorded one after the other.

    Attributes:
        source: Where they are from, for error messages.
        channels: Names of what was recorded.
        values: The numbers, float64 [T, C]; NaN if missing.
        times: When each row was recorded, in words.
        places: Where each row is in the source, in words.
        season: Rows after which the numbers nearly repeat; None if unknown.
    """

    source: str
    channels: tuple[str, ...]
    values: NDArray[np.float64]
    times: tuple[str, ...]
    places: tuple[str, ...]
    season: int | None = None

    @classmethod
    def shipped(cls, name: Shipped) -> Self:
        """Read one of the series that are part of statsmodels.

        Args:
            name: Its name.

        Returns:
            The series.

        Raises:
            ImportError: If statsmodels is not installed.
        """
        package = find_spec("statsmodels")  # located, since importing it would take longer than all else
        if package is None or package.origin is None:
            raise ImportError('these series are part of the package statsmodels: pip install "basinet[series]"')
        file = Path(package.origin).parent / "datasets" / name / f"{name}.csv"
        header, columns, _ = read_csv(file, "forecast")
        numbers = {key.lower(): as_numbers(column) for key, column in zip(header, columns, strict=True)}
        found, times, season = _SHIPPED[name](numbers)
        return cls(name, tuple(found), np.stack([*found.values()], axis=1), tuple(times), tuple(times), season)

    @classmethod
    def from_csv(cls, path: str) -> Self:
        """Read a file whose first column is `date`, and whose others hold numbers.

        Args:
            path: The file.

        Returns:
            The series.

        Raises:
            ValueError: If it cannot be read, has another layout, or its dates are not in order.
        """
        header, columns, places = read_csv(Path(path), "forecast")
        _check_layout(path, (header, columns, places))
        values = []
        for name, words in zip(header[1:], columns[1:], strict=True):
            column = np.full(len(words), np.nan) if (words == "").all() else as_numbers(words)
            if column.dtype.kind == "U":
                row = int(np.argmax([not _is_number(word) for word in words]))
                raise ValueError(
                    f"forecast: column {name!r} has {shown(words[row].item())} in {places[row]} of {path}; allowed are"
                    " numbers"
                )
            values.append(column)
        dates = columns[0].tolist()
        _check_order(path, dates, places)
        where = tuple(f"{place} of {path}" for place in places)
        return cls(path, tuple(header[1:]), np.stack(values, axis=1), tuple(dates), where)

    def select(self, channels: Sequence[str]) -> Self:
        """Choose channels.

        Args:
            channels: Their names.

        Returns:
            These channels only, in that order.

        Raises:
            ValueError: If one does not exist, is named twice, or none is named.
        """
        for name in channels:
            if name not in self.channels:
                raise ValueError(f"forecast: {self.source} has no column {name!r}; {nearest(name, self.channels)}")
        if not channels or len({*channels}) < len(channels):
            given = "names a column twice" if channels else "names none"
            raise ValueError(f"forecast: columns {given}; allowed are some of {', '.join(self.channels)}, each once")
        chosen = [self.channels.index(name) for name in channels]
        return replace(self, channels=tuple(channels), values=self.values[:, chosen])

    def filled(self, how: Fill | None) -> Self:
        """Fill in missing numbers.

        Args:
            how: By the last number before them, or the first one at the beginning; or by linear interpolation. None if
                none may be missing.

        Returns:
            A series without missing numbers.

        Raises:
            ValueError: If one is missing but may not be, or is not finite in float32, or all of a channel are missing.
        """
        missing = np.isnan(self.values)
        wrong = ~are_finite(self.values) if how is None else ~(are_finite(self.values) | missing)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            what = "no value" if missing[row, column] else shown(float(self.values[row, column]))
            fill = "" if how is not None else ", and missing ones with `fill`, which is last or linear"
            raise ValueError(
                f"forecast: column {self.channels[column]!r} has {what} in {self.places[row]}; allowed are numbers"
                f" that are finite in float32{fill}"
            )
        if missing.all(axis=0).any():
            name = self.channels[int(missing.all(axis=0).argmax())]
            raise ValueError(f"forecast: column {name!r} of {self.source} has no values; leave it out of `columns`")
        rows = np.arange(len(self.values))
        values = self.values.copy()
        for channel, gaps in zip(values.T, missing.T, strict=True):
            known = rows[~gaps]
            if how == "linear":
                channel[gaps] = np.interp(rows[gaps], known, channel[known])
            else:
                channel[gaps] = channel[known[(np.searchsorted(known, rows[gaps]) - 1).clip(min=0)]]
        return replace(self, values=values)


_Columns = dict[str, NDArray[Any]]

_Found = tuple[_Columns, list[str], int]
"""Channels by name, the time of each row, and the season."""


def _co2(columns: _Columns) -> _Found:
    days = [f"{int(day)}" for day in columns["date"]]
    return {"co2": columns["co2"]}, [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in days], 52


def _elnino(columns: _Columns) -> _Found:
    years = columns.pop("year")
    times = [f"{int(year)}-{month:02}" for year in years for month in range(1, 13)]
    return {"temperature": np.stack([*columns.values()], axis=1).ravel()}, times, 12


def _sunspots(columns: _Columns) -> _Found:
    return {"sunactivity": columns["sunactivity"]}, [f"{int(year)}" for year in columns["year"]], 11


def _macrodata(columns: _Columns) -> _Found:
    quarters = zip(columns.pop("year"), columns.pop("quarter"), strict=True)
    return columns, [f"{int(year)}Q{int(quarter)}" for year, quarter in quarters], 4


_SHIPPED: dict[str, Callable[[_Columns], _Found]] = {
    "co2": _co2,
    "elnino": _elnino,
    "sunspots": _sunspots,
    "macrodata": _macrodata,
}


def _check_layout(path: str, found: Columns) -> None:
    """Raise unless a file has the layout of ETT."""
    header, _, places = found
    if header[0] != "date" or len(header) == 1:
        raise ValueError(
            f"forecast: the columns of {path} are {', '.join(map(repr, header))}; the first has to be 'date', and"
            " others hold numbers"
        )
    if not places:
        raise ValueError(f"forecast: {path} has no rows")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"forecast: column {twice!r} appears twice in {path}")


def _check_order(path: str, dates: Sequence[str], places: Sequence[str]) -> None:
    """Raise if a date cannot be read, or is before the one in the row above."""
    before = _parse(path, dates[0], places[0])
    for row in range(1, len(dates)):
        found = _parse(path, dates[row], places[row])
        if found < before:
            raise ValueError(
                f"forecast: the date {dates[row]} in {places[row]} of {path} is before {dates[row - 1]} in the row"
                " above; rows have to be in the order of time"
            )
        before = found


_FORMATS = ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")
"""Formats of dates other than those of ISO 8601."""


def _parse(path: str, text: str, place: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found
    except ValueError:
        pass
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ValueError(
        f"forecast: the date in {place} of {path} is {shown(text)}; allowed are forms such as 2016-07-01 00:00:00 and"
        " 2016/7/1 0:00"
    )


def _is_number(word: str) -> bool:
    try:
        float(word or "nan")
    except ValueError:
        return False
    return True
