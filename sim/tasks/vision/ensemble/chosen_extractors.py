"""Which extractors a task uses, how they were judged, and what standardises their features."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Self

from basinet.sim.experiment.mistakes import reason_of
from basinet.sim.tasks.vision.ensemble.extractor_ranking import Ranked
from basinet.sim.tasks.vision.quality.statistics_ridge import Standard

__all__ = ["Chosen"]


class Chosen(NamedTuple):
    """The extractors of a task.

    Attributes:
        ranked: How each was judged, those that are not used as well.
        standards: What standardises the features of those that are used, in their order.
    """

    ranked: tuple[Ranked, ...]
    standards: tuple[Standard, ...]

    @property
    def used(self) -> list[Ranked]:
        """Those that are used, in their order."""
        return [extractor for extractor in self.ranked if extractor.selected]

    @property
    def content(self) -> str:
        """The content of a file that `read` takes."""
        extractors = [extractor._asdict() for extractor in self.ranked]
        return json.dumps({"extractors": extractors, "standards": list(map(asdict, self.standards))})

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what a run has kept.

        Args:
            file: Its file standards.json.

        Returns:
            The extractors.

        Raises:
            ValueError: The file cannot be read, or holds something else.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            ranked = tuple(_ranked(**extractor) for extractor in found["extractors"])
            parts = found["standards"]
            standards = tuple(Standard(tuple(map(float, p["shift"])), tuple(map(float, p["scale"]))) for p in parts)
            chosen = cls(ranked, standards)
            lengths = [len(standard.shift) for standard in standards]
            if not lengths or [e.length for e in chosen.used] != lengths:
                raise ValueError("it does not standardise the features of the extractors")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"standards: {file} cannot be read: {reason_of(error)}") from error
        return chosen


def _ranked(name: str, length: int, davies_bouldin: float, ridge_srocc: float, selected: bool) -> Ranked:
    return Ranked(str(name), int(length), float(davies_bouldin), float(ridge_srocc), bool(selected))
