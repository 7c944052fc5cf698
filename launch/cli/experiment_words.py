"""The experiment that a command line names."""

from collections.abc import Sequence
from pathlib import Path

from basinet.launch.cli.built_in import BUILT_IN
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import nearest
from basinet.sim.experiment.words import split_words

__all__ = ["find_experiment"]


def find_experiment(words: Sequence[str]) -> tuple[Path, list[str]]:
    """Find the file of an experiment: the user's own, or a built-in one by its name.

    Args:
        words: Its name ("main" by default), and overrides, `key=value`.

    Returns:
        The file, and the overrides.

    Raises:
        ExperimentError: Several are named, or a name is neither a file nor a built-in experiment.
    """
    names, overrides = split_words(words)
    if len(names) > 1:
        raise ExperimentError(f"{names[1]}: one experiment at a time; overrides are written key=value")
    file = Path(names[0] if names else "main")
    if file.is_file() or file.suffix or len(file.parts) > 1:
        return file, overrides
    if file.name not in BUILT_IN:
        beside = (f"{file}{suffix}" for suffix in (".yaml", ".yml"))
        allowed = [*BUILT_IN, *(name for name in beside if Path(name).is_file())]
        raise ExperimentError(f"{file}: neither a file nor a built-in experiment; {nearest(file.name, allowed)}")
    return BUILT_IN[file.name], overrides
