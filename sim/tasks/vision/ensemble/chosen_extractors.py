"""Which extractors a task uses, how they were judged, and what standardises their features."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Self

from basinet.sim.experiment.mistakes import reason_of
from basinet.sim.tasks.vision.ensemble.extractor_ranking import Ranked
from basinet.sim.tasks.vision.quality.statistics_ridge import Standard
from basinet.sim.vision.extractors.extracted import CLIP
from basinet.sim.vision.extractors.extractor import Extractor
from basinet.sim.vision.extractors.pool import POOL

__all__ = ["Chosen"]

_log = logging.getLogger(__name__)


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

    def check_made(self, made: Mapping[str, Extractor], file: str | Path) -> None:
        """Compare the extractors that are used with what they were when they were chosen.

        Networks of the pool, which may have been trained anew by another version of torch, are told in a warning.

        Args:
            made: The extractors, by their names without `@clip`.
            file: The file from which these were read.

        Raises:
            ValueError: The user's own, or the network of a package, is another one.
        """
        others = [each.name.removesuffix(CLIP) for each in self.used]
        others = [name for name, each in zip(others, self.used, strict=True) if made[name].content != each.content]
        for name in dict.fromkeys(others):
            if name not in POOL:
                raise ValueError(
                    f"standards: {name} is another extractor than when {file} was written; allowed are the same code"
                    " and weights"
                )
            _log.warning("standards: %s has other weights than when %s was written; scores may differ", name, file)

    def check_lengths(self, found: Mapping[str, int]) -> None:
        """Raise if features have other lengths than when extractors were chosen.

        Args:
            found: Lengths of the features by those that are used, by their names.

        Raises:
            ValueError: Some have.
        """
        for extractor in self.used:
            if (length := found[extractor.name]) != extractor.length:
                raise ValueError(
                    f"standards: {extractor.name} has {extractor.length} features there, and {length} are found here"
                )


def _ranked(name: str, length: int, davies_bouldin: float, ridge_srocc: float, selected: bool, content: str) -> Ranked:
    return Ranked(str(name), int(length), float(davies_bouldin), float(ridge_srocc), bool(selected), str(content))
