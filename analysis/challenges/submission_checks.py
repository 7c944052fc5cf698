"""What is wrong with a submission, in sentences; and the names by which submissions are told apart."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from basinet.sim.experiment.component import ExperimentError

__all__ = ["Faults", "Refused", "short_names"]

_SHOWN = 3


class Refused(Exception):
    """A submission that cannot be scored.

    Args:
        sentences: What is wrong with it.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*sentences)
        self.sentences = sentences


class Faults:
    """The faults of a submission by their kind."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, *places: str) -> None:
        """Add faults of a kind.

        Args:
            kind: The kind in words.
            *places: Where, such as names of files.
        """
        if places:
            self._found.setdefault(kind, []).extend(places)

    def names(self, given: Sequence[str], wanted: Sequence[str], items: str) -> None:
        """Compare the names in a submission with those that it must have.

        Args:
            given: Its names.
            wanted: All that there must be.
            items: What they are names of, in the plural.
        """
        self.add(f"missing {items}", *(name for name in wanted if name not in set(given)))
        self.add(f"{items} that the truth does not have", *(name for name in given if name not in set(wanted)))

    def check(self) -> None:
        """Raise if there are any.

        Raises:
            Refused: There are: a sentence for each kind, with the first few and their number.
        """
        if self._found:
            raise Refused(*(_sentence(kind, places) for kind, places in self._found.items()))


def _sentence(kind: str, places: Sequence[str]) -> str:
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{kind}: {', '.join(places[:_SHOWN])}{more}"


def short_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name submissions by the ends of their paths.

    Args:
        paths: The paths.

    Returns:
        The paths by the fewest last parts of them that differ.

    Raises:
        ExperimentError: A path is given twice.

    Example:
        >>> [*short_names([Path("runs/a/x"), Path("runs/b/x")])]
        ['a/x', 'b/x']
    """
    whole = [path.absolute() for path in paths]
    if twice := [str(path) for path, count in Counter(whole).items() if count > 1]:
        raise ExperimentError(f"SUBMISSION: {twice[0]} is given twice; give each one once")
    for parts in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-parts:]) for path in whole]
        if len({*names}) == len(names):
            break
    return dict(zip(names, paths, strict=True))
