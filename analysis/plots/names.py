"""What tables, legends and panels call a run: its strategy, and the other settings in which runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from basinet.sim.folder import Run

__all__ = ["describe", "labels", "names", "setting", "strategy_label", "varied"]

# The label of the strategy says the first three; the others do not change what a replica computes.
_UNNAMED = ("strategy", "strategy.name", "strategy.order", "replicas", "evaluate_every", "analysis")

_SPELLING = {
    "aug_dgm": "Aug-DGM", "beer": "BEER", "choco": "CHOCO", "d2": "D²", "dcd": "DCD", "decentlam": "DecentLaM",
    "deepsqueeze": "DeepSqueeze", "diging": "DIGing", "extra": "EXTRA", "lead": "LEAD", "nids": "NIDS", "pga": "PGA",
    "powergossip": "PowerGossip", "sam": "SAM", "sgd": "SGD", "slowmo": "SlowMo",
}  # fmt: skip


def describe(value: Any) -> str:
    """Write a value of an experiment in short.

    Args:
        value: A plain value; a component is a mapping with `name`.

    Returns:
        Text on one line.

    Example:
        >>> describe({"name": "ring", "agents": 16})
        'ring (agents=16)'
    """
    if isinstance(value, Mapping):
        settings = ", ".join(f"{key}={describe(item)}" for key, item in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name} ({settings})" if name and settings else name or settings
    if isinstance(value, list):
        return f"[{', '.join(map(describe, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat_keys(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        nested = isinstance(value, Mapping) and bool(value)
        keys += _flat_keys(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
    return keys


def _look_up(config: Mapping[str, Any], key: str) -> tuple[tuple[Any, ...], Any] | None:
    """Return the components around a key and its value; None where there are no such components."""
    *parents, last = key.split(".")
    owners: list[Any] = []
    inner: Any = config
    for parent in parents:
        inner = inner.get(parent)
        if not isinstance(inner, Mapping):
            return None
        owners.append(inner.get("name"))
    return tuple(owners[:-1] if last == "name" else owners), inner.get(last)


def setting(config: Mapping[str, Any], key: str) -> Any:
    """Look up a setting.

    Args:
        config: The resolved experiment of a run.
        key: A dotted key.

    Returns:
        Its value, or None.
    """
    found = _look_up(config, key)
    return found[1] if found else None


def varied(runs: Sequence[Run]) -> list[str]:
    """Find the configuration keys that differ between runs.

    A component's setting counts only where it differs between runs that use the same component: a ring and a
    torus differ in `topology.name`, not in the rows that a ring does not have.

    Args:
        runs: The runs.

    Returns:
        Dotted keys, in the order of the configuration.
    """
    differing = []
    for key in dict.fromkeys(key for run in runs for key in _flat_keys(run.config)):
        values: dict[tuple[Any, ...], set[str]] = {}
        for found in (_look_up(run.config, key) for run in runs):
            if found is not None:
                values.setdefault(found[0], set()).add(repr(found[1]))
        if any(len(different) > 1 for different in values.values()):
            differing.append(key)
    return differing


def strategy_label(config: Mapping[str, Any]) -> str:
    """Name the strategy of a run.

    Args:
        config: The resolved experiment of the run.

    Returns:
        For example `diffusion ATC`.
    """
    strategy = config.get("strategy", "")
    settings = strategy if isinstance(strategy, Mapping) else {"name": strategy}
    order = str(settings.get("order") or "")
    order = _SPELLING.get(order, order.upper())
    words = str(settings.get("name", "")).split("_")
    return f"{' '.join(_SPELLING.get(word, word) for word in words)} {order}".strip()


def _join(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def names(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Name each run by its strategy and by the other keys that vary, its condition.

    Args:
        runs: The runs.

    Returns:
        Strategy and condition of each run; the condition is empty where nothing else varies. Runs that share
        both are told apart by their folders.
    """
    keys = [key for key in varied(runs) if key not in _UNNAMED]
    if "case" in keys:
        # The case stands for the keys that it sets.
        keys = [key for key in keys if key == "case" or not _follows_case(runs, key)]

    def differing(run: Run, *, of_strategy: bool) -> str:
        chosen = [key for key in keys if (key.split(".")[0] == "strategy") == of_strategy]
        found = [(key.removesuffix(".name").removeprefix("strategy."), _look_up(run.config, key)) for key in chosen]
        return ", ".join(
            describe(pair[1]) if key == "case" else f"{key}={describe(pair[1])}"
            for key, pair in found
            if pair is not None and not (of_strategy and pair[1] is None)  # other strategies have no such setting
        )

    named: list[tuple[str, str]] = []
    places = (
        ["" for _ in runs],
        [f"folder={run.path.parent}" for run in runs],
        [f"folder={run.path}" for run in runs],
    )
    for place in places:
        named = [
            (
                _join(strategy_label(run.config), differing(run, of_strategy=True)),
                _join(differing(run, of_strategy=False), folder),
            )
            for run, folder in zip(runs, place, strict=True)
        ]
        if len(set(named)) == len(named):
            break
    return named


def _follows_case(runs: Sequence[Run], key: str) -> bool:
    values: dict[Any, set[str]] = {}
    for run in runs:
        values.setdefault(run.config.get("case"), set()).add(repr(setting(run.config, key)))
    return all(len(different) == 1 for different in values.values())


def labels(runs: Sequence[Run]) -> list[str]:
    """Give each run a short label.

    Args:
        runs: The runs.

    Returns:
        The strategy, then the other keys that vary: `diffusion ATC, batch_size=256`.
    """
    return [_join(*pair) for pair in names(runs)]
