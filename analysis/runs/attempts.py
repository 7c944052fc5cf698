"""Isolation of failures: a measure that fails does not affect the others."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from basinet.analysis.curvature.samples import AttemptError, Share

__all__ = ["Attempts"]

T = TypeVar("T")


class Attempts:
    """Runs the work of measures and records failures.

    Args:
        share: The processes that measure together; a failure in one counts for all.

    Attributes:
        failures: The first failure of each measure by name: the reason, a sentence, and the traceback.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.failures: dict[str, tuple[str, str]] = {}

    def take(self, names: Iterable[str], work: Callable[[], T]) -> T | None:
        """Do some work; if it fails, record a failure of the measures that need it.

        Args:
            names: Names of the measures.
            work: The work, with no nested attempt.

        Returns:
            The result of the work; None if it failed.
        """
        try:
            return self.share.attempt(work)
        except AttemptError as failure:
            for name in names:
                self.failures.setdefault(name, failure.args)
            return None
