"""Isolation of failures: a measure that fails, or is not finished when the work is to stop, does not affect others."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from basinet.analysis.curvature.samples import AttemptError, Share
from basinet.sim.run.interruptions import WorkStopped, go_on

__all__ = ["Attempts"]

T = TypeVar("T")

_MOST_NAMED = 3


class Attempts:
    """Runs the work of measures and records failures and interruptions.

    Args:
        share: The processes that measure together; a failure in one counts for all.

    Attributes:
        failures: The first failure of each measure by name: the reason, a sentence, and the traceback.
        unfinished: Names of the measures that were not finished when the work was to stop.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.failures: dict[str, tuple[str, str]] = {}
        self.unfinished: set[str] = set()

    def take(self, names: Iterable[str], work: Callable[[], T]) -> T | None:
        """Do some work; if it fails or is stopped, record this for the measures that need it.

        Args:
            names: Names of the measures.
            work: The work, with no nested attempt.

        Returns:
            The result of the work; None if it failed or was stopped.
        """
        names = list(names)

        def watched() -> T:
            go_on(", ".join(names) if len(names) <= _MOST_NAMED else f"{names[0]} and {len(names) - 1} others")
            return work()

        try:
            return self.share.attempt(watched)
        except WorkStopped:
            self.unfinished.update(names)
            return None
        except AttemptError as failure:
            for name in names:
                self.failures.setdefault(name, failure.args)
            return None
