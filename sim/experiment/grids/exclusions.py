"""Exclusions: points of a grid that are left out."""

from collections.abc import Iterable, Mapping
from typing import Any

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.grids.ranges import choices
from basinet.sim.experiment.mistakes import shown

__all__ = ["Exclusions", "agrees", "look_up"]


class Exclusions:
    """What an experiment leaves out of its grid, and what each of the exclusions has left out so far.

    Args:
        given: The value of its key `exclude`: mappings from keys to a value, or to several.
        axes: Names of the grid's named axes, which are allowed as keys.

    Raises:
        ExperimentError: It is something else, or keys are unknown.
    """

    def __init__(self, given: Any, axes: Iterable[str] = ()) -> None:
        listed = [given] if isinstance(given, Mapping) else [] if given is None else given
        if not (isinstance(listed, list | tuple) and all(isinstance(one, Mapping) and one for one in listed)):
            raise ExperimentError(
                f"exclude: got {shown(given)}; allowed is a list of mappings from keys to one or several values"
            )
        known = [name for name in Config.model_fields if name not in ("strategy_keys", "tuned")] + list(axes)
        for key in (str(key) for one in listed for key in one):
            if (first := key.split(".")[0]) not in known:
                raise ExperimentError(f"exclude: an experiment has no key '{first}'; {nearest(first, known)}")
        self._wanted = [{str(key): _wanted(str(key), value) for key, value in one.items()} for one in listed]
        self._given = listed
        self._counts = [0] * len(listed)
        self._kept = 0
        self._lacking = {key for one in self._wanted for key in one}

    def leave_out(self, config: Config, axes: Mapping[str, str]) -> bool:
        """Return whether a run is left out.

        Args:
            config: The run.
            axes: Names of its values on the axes of the grid.

        Returns:
            Whether all keys of an exclusion have one of its values.
        """
        if not self._wanted:
            return False
        described = {**axes, **config.describe()}
        values = {key: look_up(described, key) for one in self._wanted for key in one}
        self._lacking -= {key for key, value in values.items() if value is not None}
        found = [all(agrees(values[key], wanted) for key, wanted in one.items()) for one in self._wanted]
        self._counts = [count + hit for count, hit in zip(self._counts, found, strict=True)]
        self._kept += not any(found)
        return any(found)

    def check(self) -> None:
        """Raise if an exclusion has left out nothing, or all of them everything.

        Raises:
            ExperimentError: It has.
        """
        if self._wanted and not self._kept:
            raise ExperimentError("exclude: all runs of the grid are left out; nothing is left to run")
        for one, wanted, count in zip(self._given, self._wanted, self._counts, strict=True):
            if not count:
                lacking = [key for key in wanted if key in self._lacking]
                reason = f"no run has the key '{lacking[0]}'" if lacking else "no run has these values"
                raise ExperimentError(f"exclude: {shown(dict(one))} leaves out nothing: {reason}")


def _wanted(key: str, given: Any) -> Any:
    found = choices(f"exclude.{key}", given)
    return given if found is None else found


def look_up(described: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key.

    Args:
        described: A nested description.
        key: The key.

    Returns:
        Its value; None if there is none.
    """
    value: Any = described
    for word in key.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return value


def agrees(value: Any, wanted: Any) -> bool:
    """Return whether a value is the one that is asked for, or one of several.

    Args:
        value: A value in a description of a run. A component agrees with its name, and with a mapping of some of its
            settings.
        wanted: A value, or a list of them.

    Returns:
        Whether they agree.
    """
    if isinstance(wanted, list | tuple):
        same = isinstance(value, list | tuple) and list(value) == list(wanted)
        return same or any(agrees(value, one) for one in wanted)
    if isinstance(value, Mapping):
        if isinstance(wanted, Mapping):
            return all(key in value and agrees(value[key], part) for key, part in wanted.items())
        return agrees(value.get("name"), wanted)
    if isinstance(wanted, Mapping):
        return set(wanted) == {"name"} and agrees(value, wanted["name"])
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)
