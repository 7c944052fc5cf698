"""What is wrong with a submission, in sentences; and the names by which submissions are told apart."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from basinet.sim.experiment.component import ExperimentError

__all__ = ["Faults", "Refused", "different", "short_names"]

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
            kind: The kind in words; "" for faults that are sentences themselves.
            *places: Where, such as names of files.
        """
        if places:
            self._found.setdefault(kind, []).extend(places)

    def compare(self, given: Mapping[str, str], wanted: Mapping[str, str], items: str) -> None:
        """Compare the names in a submission with those that it must have.

        Args:
            given: What to call the parts of the submission in messages, by their names.
            wanted: The same of all that there must be.
            items: What they are, in the plural.
        """
        missing = {name: called for name, called in wanted.items() if name not in given}
        further = {name: called for name, called in given.items() if name not in wanted}
        short, others = _by_core(missing), _by_core(further)
        for core in filter(others.__contains__, short):
            pair = further.pop(others[core]), missing.pop(short[core])
            self.add(f"{items} whose names have another folder or ending", "{} for {}".format(*pair))
        self.add(f"missing {items}", *missing.values())
        self.add(f"{items} that the truth does not have", *further.values())

    def check(self) -> None:
        """Raise if there are any.

        Raises:
            Refused: There are: a sentence for each kind, with the first few and their number.
        """
        if self._found:
            raise Refused(*(_sentence(kind, places) for kind, places in self._found.items()))


def different(names: Sequence[str]) -> Sequence[str]:
    """Return the names of the test data of a run.

    Args:
        names: The names.

    Returns:
        The names.

    Raises:
        Refused: Two are the same, so that they cannot be matched.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise Refused(f"several of its test data are called {twice[0]}")
    return names


def _by_core(names: Iterable[str]) -> dict[str, str]:
    """Return the names by what is left of them without folders, ending and capitals, where that is unique."""
    cores = {name: re.sub(r"\.[a-z][a-z0-9]{1,4}$", "", re.split(r"[/\\]", name)[-1].lower()) for name in names}
    count = Counter(cores.values())
    return {core: name for name, core in cores.items() if count[core] == 1}


def _sentence(kind: str, places: Sequence[str]) -> str:
    shown = (", " if kind else "; ").join(places[:_SHOWN])
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{kind}{': ' if kind else ''}{shown}{more}"


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
