"""Summary of a dry run: what the runs of an experiment have in common, and how they differ."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from basinet.analysis.statistics.run_labels import describe, setting, varied
from basinet.sim.run.folder import Run
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.setup import Setup

__all__ = ["about", "preview"]

_LONGEST = 100
"""Most characters of a cell."""


def preview(configs: Mapping[str, Mapping[str, Any]], most: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what runs have in common, and how each differs from the others.

    Args:
        configs: The resolved experiment of each run by its name.
        most: Largest number of runs to list.

    Returns:
        Common keys with their values (of a component, its common settings); and names of runs, with the keys that vary
        and their values.
    """
    keys = varied([Run(name, Path(name), dict(config), {}, []) for name, config in configs.items()])
    return _common(configs, set(keys)), [
        (name, _short(_said(config, keys))) for name, config in itertools.islice(configs.items(), most)
    ]


def about(setups: Iterable[Setup]) -> list[str]:
    """Say what the parts of runs were taken to mean.

    Args:
        setups: The parts of each run.

    Returns:
        Lines about their losses, their lengths if these follow from something else, what their models take of their
        starts, and keys that their runtimes do not use.
    """
    setups = list(setups)
    lengths = sorted({setup.num_steps for setup in setups if setup.config.steps is None})
    steps = [f"steps: {lengths[0]}{f' to {lengths[-1]}' if len(lengths) > 1 else ''}"] if lengths else []
    losses = [f"loss: {setup.task.about_loss}" for setup in setups]
    starts = [f"start: {setup.about_start}" for setup in setups if setup.about_start]
    return list(dict.fromkeys([*losses, *steps, *starts, *itertools.chain(*map(_unused, setups))]))


def _unused(setup: Setup) -> list[str]:
    part = setup.config.runtime
    keys = runtime_of(part).unused
    given = [(key, getattr(part, key)) for key in keys if getattr(part, key) != type(part).model_fields[key].default]
    return [f"runtime.{key}: {describe(value)} is not used, since runtime.name is {part.name}" for key, value in given]


def _said(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    found = [(key.removesuffix(".name"), setting(config, key)) for key in keys]
    return ", ".join(f"{key}={describe(value)}" for key, value in found if value is not None)


def _common(configs: Mapping[str, Mapping[str, Any]], keys: set[str]) -> list[tuple[str, str]]:
    rows = []
    for key, value in next(iter(configs.values())).items():
        if key in keys or f"{key}.name" in keys or any(key not in config for config in configs.values()):
            continue
        if isinstance(value, Mapping):
            value = {name: part for name, part in value.items() if not _varies(f"{key}.{name}", keys)}
        rows.append((key, _short(describe(value))))
    return rows


def _varies(key: str, keys: set[str]) -> bool:
    return any(varying == key or varying.startswith(f"{key}.") for varying in keys)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
