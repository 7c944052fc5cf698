"""Which values of a run were measured otherwise than its experiment says, and which could not be measured."""

from typing import Any

from basinet.sim.experiment.component import DIGESTS
from basinet.sim.run.folder import Run
from basinet.sim.run.records import load_journal

__all__ = ["failures", "provenance"]

_NAMED = ("analysis_samples", "analysis_mode", "analysis_dtype")


def provenance(run: Run) -> list[str]:
    """Say which values of the last state were measured with other settings than those of the run.

    A later measurement takes the place of an earlier one value by value, so that values beside each other may come from
    different samples, floating types or data.

    Args:
        run: The run.

    Returns:
        A sentence for each difference, without a full stop.
    """
    otherwise: dict[str, dict[str, None]] = {}
    asked = {part["name"]: part for part in run.config.get("analysis", []) if isinstance(part, dict)}
    data: dict[str, dict[str, None]] = {}
    for name, _, entry, place in _taken(load_journal(run.path).get("state.pt", {})):
        if "failed" in entry:
            continue
        settings = entry["settings"]
        data.setdefault(settings["train"], {})[f"{name} ({place})"] = None
        differing = {key: settings[key] for key in _NAMED if settings[key] != run.config.get(key)}
        wanted, own = (
            {key: value for key, value in part.items() if key not in ("name", *DIGESTS)}
            for part in (asked.get(name, {}), settings.get("measure", {}))
        )
        differing |= {key: own.get(key, "default") for key in {**wanted, **own} if wanted.get(key) != own.get(key)}
        if differing:
            how = ", ".join(f"{key}={'all' if value is None else value}" for key, value in differing.items())
            otherwise.setdefault(how, {})[f"{name} ({place})"] = None
    sentences = [f"measured with {how}: {', '.join(names)}" for how, names in otherwise.items()]
    if len(data) > 1:
        sentences.append(
            f"measured on different training data: {' | '.join(', '.join(group) for group in data.values())}"
        )
    return sentences


def failures(run: Run) -> list[str]:
    """Say which measures could not be taken.

    Args:
        run: The run.

    Returns:
        A sentence for each state and reason, without a full stop.
    """
    found: dict[tuple[str, str], tuple[dict[str, None], set[str]]] = {}
    for state, taken in load_journal(run.path).items():
        for name, replica, entry, _ in _taken(taken):
            if "failed" in entry:
                names, replicas = found.setdefault((state, entry["failed"]["reason"]), ({}, set()))
                names[name] = None
                replicas.add(replica)
    sentences = []
    for (state, reason), (names, replicas) in found.items():
        step = "" if state == "state.pt" else f"at step {state.removeprefix('step-').removesuffix('.pt')} "
        many = f"in {len(replicas)} of {run.status.get('replicas', len(replicas))} replicas"
        sentences.append(f"{', '.join(names)} could not be measured {step}{many}: {reason}")
    return sentences


def _taken(state: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], str]]:
    """List what has been taken of a state: measure, replica, how it was taken or failed, and place."""
    return [
        (name, replica, entry, place)
        for name, replicas in state.get("measured", {}).items()
        for replica, entries in replicas.items()
        for entry in entries
        for place in entry["places"]
    ]
