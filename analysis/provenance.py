"""Which values of a run were measured otherwise than its experiment says."""

import json
from typing import Any

from basinet.sim.folder import ANALYZED, Run

__all__ = ["provenance"]

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
    data: dict[str, dict[str, None]] = {}
    for name, place, settings in _taken(run):
        data.setdefault(settings["train"], {})[f"{name} ({place})"] = None
        differing = {key: settings[key] for key in _NAMED if settings[key] != run.config.get(key)}
        if differing:
            how = ", ".join(f"{key}={'all' if value is None else value}" for key, value in differing.items())
            otherwise.setdefault(how, {})[f"{name} ({place})"] = None
    sentences = [f"measured with {how}: {', '.join(names)}" for how, names in otherwise.items()]
    if len(data) > 1:
        sentences.append(
            f"measured on different training data: {' | '.join(', '.join(group) for group in data.values())}"
        )
    return sentences


def _taken(run: Run) -> list[tuple[str, str, dict[str, Any]]]:
    """List what has been measured of the last state: measure, place and settings."""
    try:
        states = json.loads((run.path / ANALYZED).read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return [
        (name, place, entry["settings"])
        for name, replicas in states.get("state.pt", {}).get("measured", {}).items()
        for entries in replicas.values()
        for entry in entries
        for place in entry["places"]
    ]
