"""Labels of runs in tables, legends and panels: the strategy, and the other settings in which runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from basinet.sim.experiment.changes import DIGESTS
from basinet.sim.experiment.digest import flat
from basinet.sim.run.folder import Run

__all__ = ["UNNAMED", "describe", "labels", "listed", "names", "setting", "strategy_label", "varied"]

UNNAMED = (
    "strategy",
    "strategy.name",
    "strategy.order",
    "replicas",
    "evaluate_every",
    "evaluate_samples",
    "metrics",
    "metrics_on",
    "analysis",
)
"""Keys that no label names: the strategy covers the first three; the others do not change what a replica computes."""

_SPELLING = {
    "aug_dgm": "Aug-DGM", "beer": "BEER", "choco": "CHOCO", "d2": "D²", "dcd": "DCD", "decentlam": "DecentLaM",
    "deepsqueeze": "DeepSqueeze", "diging": "DIGing", "extra": "EXTRA", "lead": "LEAD", "nids": "NIDS", "pga": "PGA",
    "powergossip": "PowerGossip", "sam": "SAM", "sgd": "SGD", "slowmo": "SlowMo",
}  # fmt: skip


def describe(value: Any) -> str:
    """Format a value of an experiment compactly.

    Args:
        value: A plain value; a component is a mapping with `name`.

    Returns:
        Text on one line.

    Example:
        >>> describe({"name": "ring", "agents": 16})
        'ring (agents=16)'
    """
    if isinstance(value, Mapping):
        told = ("name", *DIGESTS, *(["label"] if "digest" in value else []))
        settings = ", ".join(f"{key}={describe(item)}" for key, item in value.items() if key not in told)
        name = _name(value)
        return f"{name} ({settings})" if name and settings else name or settings
    if isinstance(value, list):
        return f"[{', '.join(map(describe, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(component: Mapping[str, Any]) -> str:
    """Name a component, a user-defined object by its label or its class, or several as in a grid."""
    given = component.get("name", "")
    name = describe(given) if isinstance(given, list | Mapping) else str(given)
    if "digest" not in component:
        return name
    return str(component.get("label") or name.split(":")[-1].split(".")[-1])


def _look_up(config: Mapping[str, Any], key: str) -> tuple[tuple[Any, ...], Any] | None:
    """Return the components around a key and its value; None if there are no such components."""
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

    A component's setting counts only if it differs between runs that use the same component: a ring and a torus differ
    in `topology.name`, not in the rows that a ring does not have.

    Args:
        runs: The runs.

    Returns:
        Dotted keys, in the order of the configuration.
    """
    differing = []
    parts = dict.fromkeys(part for run in runs for part in run.config)
    same = {part for part in parts if len({repr(run.config.get(part, "none")) for run in runs}) == 1}
    changing = ({part: value for part, value in run.config.items() if part not in same} for run in runs)
    for key in dict.fromkeys(key for config in changing for key in flat(config)):
        if key in ("strategy_keys", "tuned") or key.endswith(".code_digest"):  # these identify code, not choices
            continue
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
    words = _name(settings).split("_")
    return f"{' '.join(_SPELLING.get(word, word) for word in words)} {order}".strip()


def _join(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def names(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Name each run by its strategy and by its condition, the other keys that vary.

    Keys set for a single strategy are not part of the condition; they are named with the strategy if its runs differ in
    them.

    Args:
        runs: The runs.

    Returns:
        Strategy and condition of each run; the condition is empty if nothing else varies. Runs that share both are
        distinguished by their folders.
    """
    keys = [key for key in varied(runs) if key not in UNNAMED]
    owned = {key for run in runs for key in run.config.get("strategy_keys") or ()}
    own = [key for key in keys if any(key == word or key.startswith(f"{word}.") for word in owned)]
    if "case" in keys and "case" not in own:
        # The case implies the keys that it sets.
        keys = [key for key in keys if key == "case" or not _follows_case(runs, key)]
    settings = [key for key in keys if key.split(".")[0] == "strategy"]
    others = [key for key in keys if key not in own and key not in settings]
    strategies = list(map(_join, _strategies(runs), _said(runs, settings)))
    conditions = _said(runs, others)
    for key in sorted(own, key=lambda key: key == "case"):  # the name of a case only as a last resort
        groups: dict[tuple[str, str], list[int]] = {}
        for number, pair in enumerate(zip(strategies, conditions, strict=True)):
            groups.setdefault(pair, []).append(number)
        for group in groups.values():
            if len({repr(setting(runs[number].config, key)) for number in group}) > 1:
                for number, text in zip(group, _said([runs[number] for number in group], [key]), strict=True):
                    strategies[number] = _join(strategies[number], text)
    named: list[tuple[str, str]] = []
    places = (
        ["" for _ in runs],
        [f"folder={run.path.parent}" for run in runs],
        [f"folder={run.path}" for run in runs],
    )
    for place in places:
        named = [
            (strategy, _join(condition, folder))
            for strategy, condition, folder in zip(strategies, conditions, place, strict=True)
        ]
        if len(set(named)) == len(named):
            break
    return named


def _strategies(runs: Sequence[Run]) -> list[str]:
    """Name strategies; user-defined objects of the same name are numbered."""
    found = [setting(run.config, "strategy") for run in runs]
    objects = _object_names(found)
    return [
        name if isinstance(part, Mapping) and "digest" in part else strategy_label(run.config)
        for run, part, name in zip(runs, found, objects, strict=True)
    ]


def _said(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Format the values of keys for each run, without keys that do not apply to it."""
    texts: dict[str, list[str]] = {}
    for key in keys:
        place, _, last = key.rpartition(".")
        parts = [setting(run.config, place) if place else None for run in runs]
        short = key.removesuffix(".name").removeprefix("strategy.")
        if last in ("name", "digest", "label") and any(isinstance(p, Mapping) and "digest" in p for p in parts):
            if place != "strategy":  # the strategy's name covers objects
                texts[place] = [f"{place}={name}" for name in _object_names(parts)]
            continue
        found = [_look_up(run.config, key) for run in runs]
        texts[key] = [
            ""
            if pair is None or (pair[1] is None and place == "strategy")  # other strategies have no such setting
            else describe(pair[1])
            if key == "case"
            else f"{short}={describe(pair[1])}"
            for pair in found
        ]
    return [_join(*(found[place] for found in texts.values())) for place in range(len(runs))]


def _object_names(components: Sequence[Any]) -> list[str]:
    """Name components; user-defined objects that share a name are numbered."""
    known: dict[str, list[str]] = {}
    names = [_name(part) if isinstance(part, Mapping) else describe(part) for part in components]
    told = [str(part["digest"]) if isinstance(part, Mapping) and "digest" in part else "" for part in components]
    for name, digest in zip(names, told, strict=True):
        if digest not in known.setdefault(name, []):
            known[name].append(digest)
    return [
        f"{name} {known[name].index(digest) + 1}" if len(known[name]) > 1 else name
        for name, digest in zip(names, told, strict=True)
    ]


def _follows_case(runs: Sequence[Run], key: str) -> bool:
    values: dict[Any, set[str]] = {}
    for run in runs:
        values.setdefault(run.config.get("case"), set()).add(repr(setting(run.config, key)))
    return all(len(different) == 1 for different in values.values())


def labels(runs: Sequence[Run]) -> list[str]:
    """Label each run on one line.

    Args:
        runs: The runs.

    Returns:
        The strategy, then the other keys that vary: `diffusion ATC, batch_size=256`.
    """
    return [_join(*pair) for pair in names(runs)]


def listed(names: Sequence[str], join: str = ", ") -> str:
    """Join names; of many, only the first five.

    Args:
        names: The names.
        join: The separator.

    Returns:
        The text.
    """
    more = f" and {len(names) - 5:,} more" if len(names) > 6 else ""
    return join.join(names[: 5 if more else None]) + more
