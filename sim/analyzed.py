"""What has been measured of the states of a finished run already, so that nothing is measured twice.

RUN/analyzed.json    for each checkpoint its digest, and for each measure the settings of its last measurement and the
                     replicas at which it was taken
"""

import hashlib
import json
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from basinet.sim.config import Config
from basinet.sim.folder import ANALYZED, write_atomically

__all__ = ["Analyzed", "checkpoint_digest"]

_EXACT = ("analysis_mode", "analysis_dtype", "analysis_samples")
_COVERED = ("analysis_points", "analysis_views")


def checkpoint_digest(checkpoint: Path) -> str:
    """Digest a checkpoint.

    Args:
        checkpoint: The file.

    Returns:
        Hexadecimal digits.
    """
    with open(checkpoint, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Analyzed:
    """Knows what has been measured of a state.

    A value that is measured again under other settings takes the place of the old one, under the same name: of each
    measure the last settings count alone.

    Args:
        checkpoint: The state, a file in a run's folder.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.path = checkpoint.parents[1] / ANALYZED

    def _states(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):  # what cannot be read is not known
            return {}
        return found

    @cached_property
    def _record(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"checkpoint": checkpoint_digest(self.checkpoint), "basinet": version("basinet")}
        found: dict[str, Any] = self._states().get(self.checkpoint.name, {})
        known = all(found.get(key) == value for key, value in empty.items())
        return found if known else {**empty, "measures": {}}

    def missing(self, config: Config, replica: int) -> list[str]:
        """List what is still to be measured.

        Args:
            config: The run, with what is wanted of its analysis.
            replica: Which replica.

        Returns:
            Names of measures.
        """
        return [name for name in config.analysis if not self._has(name, config, replica)]

    def _has(self, name: str, config: Config, replica: int) -> bool:
        entry = self._record["measures"].get(name)
        if entry is None or replica not in entry["replicas"]:
            return False
        wanted, had = _settings(config), entry["settings"]
        exact = all(had[key] == wanted[key] for key in _EXACT)
        return exact and all(set(wanted[key]) <= set(had[key]) for key in _COVERED)

    def add(self, config: Config, measures: list[str], replica: int) -> None:
        """Take note that something has been measured.

        Args:
            config: The run, with the settings of the analysis.
            measures: Names of what was measured.
            replica: Which replica.
        """
        settings = _settings(config)
        for name in measures:
            entry = self._record["measures"].get(name)
            if entry is None or entry["settings"] != settings:
                entry = self._record["measures"][name] = {"settings": settings, "replicas": []}
            entry["replicas"] = sorted({*entry["replicas"], replica})
        states = self._states() | {self.checkpoint.name: self._record}
        write_atomically(self.path, json.dumps(states, indent=1) + "\n")


def _settings(config: Config) -> dict[str, Any]:
    described = config.describe()
    return {key: described.get(key) for key in (*_EXACT, *_COVERED)}
