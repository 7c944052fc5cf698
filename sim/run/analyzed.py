"""What has already been measured of the states of a finished run, so that nothing is measured twice.

RUN/analyzed.json    for each checkpoint, its digest, and for each measure and replica, the settings it was measured
                     under and the places (at the centroid or the agents, on all samples or their own), or why it
                     failed. `quantities` names the values, and `files` holds the lengths and checksums of the
                     measurements and tables
"""

import hashlib
from dataclasses import asdict
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import Stored, length, take
from basinet.sim.experiment.changes import DIGESTS
from basinet.sim.experiment.component import Component
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.digest import digest
from basinet.sim.run.files import checksum, sealed_json
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.records import ANALYZED, METRICS, Row, file_checksum, lines_of, load_journal, load_status
from basinet.sim.setup.setup import Setup

__all__ = [
    "MOST_STEPS",
    "STEP_BYTES",
    "Analyzed",
    "analysis_settings",
    "checkpoint_digest",
    "room_for_steps",
    "samples_used",
]

MOST_STEPS = 100
"""Largest number of Lanczos steps, memory permitting."""

STEP_BYTES = 12
"""Bytes per parameter of a Lanczos step: one float64, and half as much again while the basis grows."""


_version = cache(version)
"""The version of a package, which takes milliseconds to find."""


def room_for_steps(memory: int, num_parameters: int) -> int:
    """Compute the number of Lanczos steps that fit in memory.

    Args:
        memory: Memory budget of the analysis in MiB; half of it is for the Krylov basis.
        num_parameters: P.

    Returns:
        The number of steps, at most 100.
    """
    return min(MOST_STEPS, memory * 2**20 // 2 // (STEP_BYTES * num_parameters))


def samples_used(setup: Setup) -> int | None:
    """Count the samples that are measured.

    Args:
        setup: The parts of the run.

    Returns:
        As many as the run asks for; otherwise, of samples that are read when needed, as many as fit into the memory of
        the analysis; None for all.
    """
    config, train = setup.config, setup.task.train
    count = config.analysis_samples
    if count is None and isinstance(train, Stored):
        one = take(train.to("cpu", getattr(torch, config.analysis_dtype)), slice(0, 1))
        count = max(1, (config.analysis_memory << 20) // max(1, sum(t.nbytes for t in leaves(one))))
    return None if count is None or count >= length(train) else count


def analysis_settings(setup: Setup) -> dict[str, Any]:
    """Collect everything a measured value depends on besides the state and the place of the measurement.

    Args:
        setup: The parts of the run.

    Returns:
        Plain values: the keys of the experiment, the largest number of Lanczos steps, a digest of the training data,
        which the name of a task does not determine, and the size of the batches that have a loss, if they do.
    """
    config = setup.config
    batches = {"measured_batch": setup.task.measured_batch} if setup.task.mean_over == "batch" else {}
    products = {} if config.analysis_products == "exact" else {"analysis_products": config.analysis_products}
    return {
        "analysis_mode": config.analysis_mode,
        "analysis_dtype": config.analysis_dtype,
        "analysis_samples": config.analysis_samples or samples_used(setup),
        "lanczos_steps": room_for_steps(config.analysis_memory, setup.num_parameters),
        "train": digest(setup.task.train),
        **batches,
        **products,
    }


def checkpoint_digest(checkpoint: Path) -> str:
    """Digest a checkpoint.

    Args:
        checkpoint: The file.

    Returns:
        Hexadecimal digits; empty if the file does not exist.
    """
    if not checkpoint.is_file():
        return ""
    with open(checkpoint, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Analyzed:
    """Records what has been measured of a state.

    A value measured again under other settings replaces the old one under the same name. Some values belong to the
    whole network, whatever the place: for each measure, only the latest settings count.

    Args:
        checkpoint: The state, a file in a run's folder.
        settings: The wanted settings; see `analysis_settings`.
    """

    def __init__(self, checkpoint: Path, settings: dict[str, Any]) -> None:
        self.checkpoint = checkpoint
        self.settings = settings
        self.run = checkpoint.parents[1]

    @cached_property
    def _record(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"checkpoint": checkpoint_digest(self.checkpoint), "basinet": _version("basinet")}
        found: dict[str, Any] = load_journal(self.run).get(self.checkpoint.stem, {})
        known = all(found.get(key) == value for key, value in empty.items())
        return {**empty, "measured": found.get("measured", {}) if known else {}}

    @property
    def is_known(self) -> bool:
        """Whether anything has been measured of exactly this state."""
        return bool(self._record["measured"])

    def missing(self, config: Config, replica: int, *, retry: bool = False) -> list[str]:
        """List the measures that are still missing.

        Args:
            config: The run, with the wanted measures and places.
            replica: The replica's number.
            retry: Whether failed measures count as missing.

        Returns:
            Names of measures.
        """
        return [asked.name for asked in config.analysis if not self._has(asked, config, replica, retry=retry)]

    def _has(self, asked: Component, config: Config, replica: int, *, retry: bool) -> bool:
        taken = self._record["measured"].get(asked.name, {}).get(str(replica), [])
        if not taken or (retry and "failed" in taken[-1]):
            return False
        return bool(taken[-1]["settings"] == self._settings(asked) and _places(config) <= {*taken[-1]["places"]})

    def _settings(self, asked: Component) -> dict[str, Any]:
        """Add the settings of a measure, and the digest of a user's own."""
        own = asked.chosen | {key: value for key, value in asked.describe().items() if key in DIGESTS}
        return {**self.settings, "measure": own} if own else self.settings

    def record(self, folder: RunFolder, found: list[Row], config: Config, measures: list[str], replica: int) -> None:
        """Write the results of an analysis, and record them as measured.

        Args:
            folder: Receives metrics and tables.
            found: The results; see `basinet.sim.agents.worker.Analysis`.
            config: The run, with the places.
            measures: Names of the measures that were to be taken.
            replica: The replica's number.
        """
        failures = {
            row["failed"]: {key: row[key] for key in ("reason", "traceback")} for row in found if "failed" in row
        }
        journal = load_journal(self.run)
        vouched = journal.get("files") or load_status(self.run).get("files", {})
        folder.metrics.cut(vouched.get(METRICS))
        # The tables hold one state of a replica, the last.
        tables = folder.tables(row for row in found if "table" in row) if self.checkpoint == folder.checkpoint else {}
        files = {name: known for name, known in journal.get("files", {}).items() if name != METRICS}
        if tables:  # until all is recorded, each file may have its old content or the new one
            before = {name: files.get(name) or [file_checksum(self.run / name)] for name in tables}
            after = {name: [checksum(text.encode())] for name, text in tables.items()}
            either = files | {name: [*before[name], *after[name]] for name in tables}
            self._write(folder, journal, either)
            for name, text in tables.items():
                folder.write(self.run / name, text)
            files |= after
        folder.metrics.append(lines_of(row for row in found if not {"failed", "table"} & row.keys()))
        asked = {component.name: component for component in config.analysis}
        for name in measures:
            replicas = self._record["measured"].setdefault(name, {})
            entry = {"settings": self._settings(asked[name]), "places": sorted(_places(config))}
            if name in failures:
                entry["failed"] = failures[name]
            replicas[str(replica)] = _added(replicas.get(str(replica), []), entry)
        values = {value: known for name in measures for value, known in config.measures[name].values.items()}
        quantities = journal.get("quantities", {}) | {value: asdict(known) for value, known in values.items()}
        self._write(folder, journal | {self.checkpoint.stem: self._record, "quantities": quantities}, files)

    def _write(self, folder: RunFolder, journal: dict[str, Any], files: dict[str, Any]) -> None:
        states = {name: state for name, state in journal.items() if name != "files"}
        vouched = {METRICS: folder.metrics.vouch(), **files}
        folder.write(self.run / ANALYZED, sealed_json(states | {"files": vouched}))


def _places(config: Config) -> set[str]:
    return {f"{point} {view}" for point in config.analysis_points for view in config.analysis_views}


def _added(taken: list[dict[str, Any]], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Append a measurement, and remove its places from the earlier ones."""
    places = {*entry["places"]}
    if taken and all(taken[-1].get(key) == entry.get(key) for key in ("settings", "failed")):
        places |= {*taken[-1]["places"]}
    left = [{**old, "places": [place for place in old["places"] if place not in places]} for old in taken]
    return [*(old for old in left if old["places"]), {**entry, "places": sorted(places)}]
