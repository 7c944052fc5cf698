"""The experiment that a command line names."""

from collections.abc import Sequence
from pathlib import Path

from basinet.launch.cli.built_in import BUILT_IN
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.words import split_words

__all__ = ["find_experiment"]


def find_experiment(words: Sequence[str]) -> tuple[Path, list[str]]:
    """Find the file of an experiment: the user's own, or a built-in one by its name.

    Args:
        words: Its name ("main" by default), and overrides, `key=value`.

    Returns:
        The file, and the overrides.

    Raises:
        ExperimentError: Several are named.
    """
    names, overrides = split_words(words)
    if len(names) > 1:
        raise ExperimentError(f"{names[1]}: one experiment at a time; overrides are written key=value")
    name = names[0] if names else "main"
    return BUILT_IN[name] if name in BUILT_IN and not Path(name).is_file() else Path(name), overrides
