"""Submissions to a challenge, ranked: their numbers, how certain these are, and which differences carry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basinet.analysis.statistics.bootstrap import RESAMPLES, bootstrap_interval, bootstrap_p
from basinet.analysis.statistics.multiple_tests import holm
from basinet.sim.run.records import Row

__all__ = ["SEED", "Challenge", "Entry", "Gap", "Leaderboard", "Published"]

SEED = 0
"""Seed of the resamples."""

_FEW = 10
"""Fewer items than these give intervals that are too short."""


@dataclass(frozen=True)
class Published:
    """Results as their source prints them.

    Attributes:
        about: What they are, and of which data, in a sentence.
        columns: Headings.
        rows: The cells.
    """

    about: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Challenge:
    """What a challenge measures.

    Attributes:
        name: Its name on the command line.
        title: Its name in words.
        tasks: The tasks of the runs that may enter.
        item: What a submission answers, in the singular: image or video.
        protocol: How it scores, in a sentence.
        headings: Headings of its numbers, with their units; larger is better for all.
        decimals: Decimals of its numbers.
        published: The published results.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    item: str
    protocol: str
    headings: Mapping[str, str]
    decimals: Mapping[str, int]
    published: Published


@dataclass(frozen=True, eq=False)
class Entry:
    """A submission that was scored.

    Attributes:
        name: Its name.
        numbers: The numbers of the protocol; NaN is what cannot be known.
        draws: The same in each resample of the items.
        items: A row for each image or video.
        remarks: What else is to be known, in sentences.
    """

    name: str
    numbers: Mapping[str, float]
    draws: Mapping[str, NDArray[np.float64]]
    items: Sequence[Row]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gap:
    """The difference of two submissions, from the same resamples.

    Attributes:
        better: The one of the higher rank.
        other: The other one.
        difference: By how much its number is larger.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: The two-sided p-value of no difference.
        carries: Whether it is significant at 5 % among all gaps of the leaderboard, by Holm's method.
    """

    better: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    carries: bool


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """The ranked submissions of a challenge.

    Attributes:
        challenge: What it measures.
        by: The number that ranks.
        entries: The submissions, best first.
        refused: What is wrong with the others, in sentences, by their names.
        notes: What else is to be known, in sentences.
        baseline: What the simplest answer reaches, which has no rank.
    """

    challenge: Challenge
    by: str
    entries: tuple[Entry, ...]
    refused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    baseline: Entry | None = None

    @classmethod
    def of(
        cls,
        challenge: Challenge,
        by: str,
        entries: Sequence[Entry],
        refused: Mapping[str, tuple[str, ...]],
        truth: str,
        notes: Sequence[str] = (),
        baseline: Entry | None = None,
    ) -> "Leaderboard":
        """Rank submissions.

        Args:
            challenge: What is measured.
            by: The number that ranks.
            entries: The submissions in any order, at least one.
            refused: What is wrong with the others.
            truth: Where the truth is from.
            notes: What else is to be known.
            baseline: What the simplest answer reaches.

        Returns:
            The leaderboard.
        """
        ranked = tuple(sorted(entries, key=lambda entry: -entry.numbers[by]))
        told = [f"Truth: {truth}.", *notes, *(remark for entry in ranked for remark in entry.remarks)]
        told += () if baseline is None else baseline.remarks
        board = cls(challenge, by, ranked, refused, tuple(told), baseline)
        if board.count >= _FEW:
            return board
        few = f"The intervals are too short, since {board.items} are few."
        alone = f"There are no intervals, since there is a single {challenge.item}."
        return replace(board, notes=(*board.notes, few if board.count > 1 else alone))

    @property
    def count(self) -> int:
        """Number of images or videos."""
        return len(self.entries[0].items)

    @property
    def items(self) -> str:
        """What they are, and how many, in words."""
        return f"{self.count} {self.challenge.item}{'' if self.count == 1 else 's'}"

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """The differences of each submission from the first one, and from the next one."""
        first, *others = self.entries
        found = [self._gap(*pair) for pair in (*((first, entry) for entry in others), *pairwise(others))]
        carrying = holm([gap[-1] for gap in found])
        return tuple(Gap(*gap, bool(carries)) for gap, carries in zip(found, carrying, strict=True))

    def _gap(self, better: Entry, other: Entry) -> tuple[str, str, float, float, float, float]:
        with np.errstate(invalid="ignore"):  # perfect images have an infinite PSNR
            draws = better.draws[self.by] - other.draws[self.by]
        difference = better.numbers[self.by] - other.numbers[self.by]
        return (
            better.name,
            other.name,
            difference,
            *bootstrap_interval(draws, self.count),
            bootstrap_p(draws, self.count),
        )

    def rows(self) -> list[Row]:
        """Return the ranking.

        Returns:
            A row for each submission, best first: `rank`, the same for equal ones, `submission`, and each number with
            the ends of its 95 % interval, `…_low` and `…_high`; None is what cannot be known, such as the interval of
            a single image.
        """
        values = [entry.numbers[self.by] for entry in self.entries]
        ranks = (1 + sum(other > value for other in values) for value in values)
        return [{"rank": rank, **self._row(entry)} for rank, entry in zip(ranks, self.entries, strict=True)]

    def baseline_rows(self) -> list[Row]:
        """Return the row of the baseline, if there is one, as those of `rows`, with the rank None."""
        return [] if self.baseline is None else [{"rank": None, **self._row(self.baseline)}]

    def _row(self, entry: Entry) -> Row:
        row: Row = {"submission": entry.name}
        for name in self.challenge.headings:
            low, high = bootstrap_interval(entry.draws[name], self.count)
            row |= {name: _known(entry.numbers[name]), f"{name}_low": _known(low), f"{name}_high": _known(high)}
        return row

    def gap_rows(self) -> list[Row]:
        """Return the differences.

        Returns:
            A row for each pair of submissions that is compared.
        """
        return [{name: _known(value) for name, value in vars(gap).items()} for gap in self.gaps]

    def item_rows(self) -> list[Row]:
        """Return what was measured of each image or video.

        Returns:
            A row for each submission and image or video.
        """
        return [{"submission": entry.name, **row} for entry in self.entries for row in entry.items]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Format the ranking as text.

        Returns:
            The headings and the rows: rank, submission, the number that ranks with its interval, the others, and how
            far it is below the first one and the one before; a star marks the differences that carry. The baseline is
            at the end, without a rank.
        """
        others = [name for name in self.challenge.headings if name != self.by]
        verdicts = {(gap.better, gap.other): gap for gap in self.gaps}
        header = ["rank", "submission", f"{self.challenge.headings[self.by]}{' [95 %]' if self.count > 1 else ''}"]
        header += [self.challenge.headings[name] for name in others]
        header += ["below first", "below previous"] if len(self.entries) > 1 else []
        rows, before = [], ""
        for row in (*self.rows(), *self.baseline_rows()):
            name = row["submission"]
            text = [str(row["rank"] or "–"), name, self.written(self.by, row[self.by])]
            if self.count > 1:
                ends = [self.written(self.by, row[f"{self.by}_{end}"], -1) for end in ("low", "high")]
                text[-1] += f" [{', '.join(ends)}]"
            text += [self.written(other, row[other]) for other in others]
            if len(self.entries) > 1:
                first = self.entries[0].name
                text += [self._verdict(verdicts.get((above, name))) for above in (first, before)]
            rows.append(text)
            before = name
        return header, rows

    def _verdict(self, gap: Gap | None) -> str:
        if gap is None:
            return ""
        return f"{self.written(self.by, gap.difference)}{' *' if gap.carries else ''}"

    def written(self, name: str, value: float | None, more: int = 0) -> str:
        """Format one of the numbers.

        Args:
            name: Its name.
            value: The number; None or NaN if it cannot be known.
            more: How many more decimals than usual.

        Returns:
            The text.
        """
        if value is None or np.isnan(value):
            return "–"
        if np.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.{self.challenge.decimals[name] + more}f}"

    def how(self) -> tuple[str, ...]:
        """Say how it was measured.

        Returns:
            Sentences.
        """
        compared = f"{len(self.gaps)} comparison{'' if len(self.gaps) == 1 else 's'}"
        tests = f"; a star marks a difference that carries, at 5 % by Holm's method over {compared}"
        intervals = (
            f"Intervals: percentile bootstrap over {self.items}, {RESAMPLES} resamples,"
            f" the same for all submissions{tests if self.gaps else ''}."
        )
        return (
            f"{self.challenge.protocol}",
            *([intervals] if self.count > 1 else []),
            *self.notes,
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values.

        Returns:
            `challenge`, `ranked_by`, `ranking`, `baseline`, `differences`, `refused`, `how` and `published`;
            None is also what is infinite, which JSON cannot hold.
        """
        published = self.challenge.published
        return {
            "challenge": self.challenge.name,
            "ranked_by": self.by,
            f"{self.challenge.item}s": self.count,
            "ranking": [_finite(row) for row in self.rows()],
            "baseline": [_finite(row) for row in self.baseline_rows()],
            "differences": [_finite(row) for row in self.gap_rows()],
            "refused": {name: list(sentences) for name, sentences in self.refused.items()},
            "how": list(self.how()),
            "published": {
                "about": published.about,
                "rows": [dict(zip(published.columns, row, strict=True)) for row in published.rows],
            },
        }


def _known(value: Any) -> Any:
    """Return None for what cannot be known."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _finite(row: Row) -> Row:
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in row.items()}
