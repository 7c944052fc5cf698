"""Measures are taken one family at a time, so that one that fails, fails alone."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from basinet.analysis.curvature.samples import AttemptError, Share

__all__ = ["Attempts"]

T = TypeVar("T")


class Attempts:
    """Does the work of measures, and takes note of what fails.

    Args:
        share: The processes that measure together; a failure of one is one of all.

    Attributes:
        failures: The first reason for which a measure failed, a sentence, and the traceback, by the measure's name.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.failures: dict[str, tuple[str, str]] = {}

    def take(self, names: Iterable[str], work: Callable[[], T]) -> T | None:
        """Do some work; where it fails, the measures that need it do.

        Args:
            names: Their names.
            work: The work, with no other attempt in it.

        Returns:
            What the work returned; None where it failed.
        """
        try:
            return self.share.attempt(work)
        except AttemptError as failure:
            for name in names:
                self.failures.setdefault(name, failure.args)
            return None
