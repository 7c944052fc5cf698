"""Runs that differ only in a graph that their strategy does not use: one takes the steps, the others copy its results.

The table of the graph, and measures that depend on it, are each run's own.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.experiment.config import Config
from basinet.sim.run.analyzed import checkpoint_digest
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.checkpoint_names import SUFFIX
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.files import plain_file, sealed_json
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.records import (
    ANALYZED,
    METRICS,
    OF_THE_SETUP,
    Row,
    lines_of,
    load_journal,
    load_status,
    read_lines,
)
from basinet.sim.run.trajectory import FILE
from basinet.sim.setup.setup import Setup

__all__ = ["groups", "take_over"]


def groups(setups: Mapping[str, Setup]) -> list[list[str]]:
    """Group runs with bit-identical steps.

    Args:
        setups: The parts of each run by name.

    Returns:
        Groups of names, in order; most have one run.
    """
    found: dict[str, list[str]] = {}
    for name, setup in setups.items():
        alone = (
            StrategyTraits.of(setup.strategy()).uses_graph or setup.network is not None
        )  # whose links are the graph's
        place = name if alone else _steps(setup)
        found.setdefault(place, []).append(name)
    return list(found.values())


def _steps(setup: Setup) -> str:
    """Describe what the steps of a run that does not use its graph depend on, and where they are measured."""
    described = {
        key: value
        for key, value in setup.config.describe().items()
        if key not in ("case", "strategy_keys", "tuned", "topology") and not key.startswith("analysis")
    }
    return json.dumps([described, setup.num_steps, setup.evaluate_every, setup.centroid_weights.tolist()])


def take_over(source: Path, folder: RunFolder, config: Config, revise: Callable[[Row], Row] | None = None) -> None:
    """Copy results to a run that has not begun, except what was measured of the graph.

    A crash during the copy leaves a run whose status has the key `takes_over`.

    Args:
        source: Folder of a finished run with the same steps.
        folder: Folder of the run, which holds its own tables.
        config: The run.
        revise: Returns measurements as they are in this run; None if they are the same.
    """
    own = {name: measure for name, measure in config.measures.items() if measure.needs.graph}
    values = {value for measure in own.values() for value in measure.values}
    donor = RunFolder(source)
    status, journal = load_status(source), load_journal(source)
    folder.begin()
    folder.write_status(state="running", step=0, run=folder.identity, takes_over=source.name)
    tables = [path for path in source.glob("*.csv") if path.name not in OF_THE_SETUP]
    for path in [*tables, source / FILE]:
        if path.exists():
            folder.write(folder.path / path.name, path.read_bytes())
    rows = [{key: value for key, value in row.items() if key not in values} for row in read_lines(source / METRICS)]
    metrics = lines_of(rows if revise is None else map(revise, rows))
    folder.write(folder.path / METRICS, metrics)
    folder.metrics.cut()
    if "files" in journal:
        journal["files"][METRICS] = folder.metrics.vouch()
    if donor.frozen.exists():
        folder.write(folder.frozen.with_suffix(donor.frozen.suffix), plain_file(donor.frozen).read_bytes())
    for path in donor.checkpoints():
        copy = folder.path / path.relative_to(source).with_suffix(SUFFIX)
        folder.write(copy, TensorFile({**load_checkpoint(path), "run": folder.identity}))
        if path.stem in journal:
            state = journal[path.stem]
            state["checkpoint"] = checkpoint_digest(copy)
            state["measured"] = {k: v for k, v in state["measured"].items() if k not in own}
    if journal:
        folder.write(folder.path / ANALYZED, sealed_json(journal))
    if revise is not None and "files" in status:
        status["files"][METRICS] = folder.metrics.vouch()
    folder.write_status(**status | {"run": folder.identity})
