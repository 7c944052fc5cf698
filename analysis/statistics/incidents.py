"""Notes on results: what diverged, was measured with other settings or not at all, or was left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from basinet.analysis.statistics.replica_values import num_replicas
from basinet.analysis.statistics.run_labels import labels, listed
from basinet.sim.experiment.changes import DIGESTS
from basinet.sim.run.folder import Run
from basinet.sim.run.records import FINISHED, load_journal

__all__ = ["excuses", "failures", "incidents", "provenance", "validated"]

_NAMED = ("analysis_samples", "analysis_mode", "analysis_dtype", "analysis_products")

_UNSAID = {"analysis_products": "exact"}
"""What is not recorded where it has its default."""


def provenance(run: Run) -> list[str]:
    """Describe which values of the last state were measured with other settings than the run's.

    A later measurement replaces an earlier one value by value, so adjacent values may come from different samples,
    floating types or data.

    Args:
        run: The run.

    Returns:
        One sentence per difference, without a full stop.
    """
    otherwise: dict[str, dict[str, None]] = {}
    asked = {part["name"]: part for part in run.config.get("analysis", []) if isinstance(part, dict)}
    data: dict[str, dict[str, None]] = {}
    for name, _, entry, place in _taken(load_journal(run.path).get("state", {})):
        if "failed" in entry:
            continue
        settings, configured = _UNSAID | entry["settings"], _UNSAID | run.config
        data.setdefault(settings["train"], {})[f"{name} ({place})"] = None
        differing = {key: settings[key] for key in _NAMED if settings[key] != configured.get(key)}
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
    """Describe which measures failed.

    Args:
        run: The run.

    Returns:
        One sentence per state and reason, without a full stop.
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
        step = "" if state == "state" else f"at step {state.removeprefix('step-')} "
        many = f"in {len(replicas)} of {run.status.get('replicas', len(replicas))} replicas"
        sentences.append(f"{', '.join(names)} could not be measured {step}{many}: {reason}")
    return sentences


def _taken(state: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], str]]:
    """List the measurements of a state: measure, replica, its settings or failure, and place."""
    return [
        (name, replica, entry, place)
        for name, replicas in state.get("measured", {}).items()
        for replica, entries in replicas.items()
        for entry in entries
        for place in entry["places"]
    ]


def excuses(impossible: Mapping[str, str]) -> list[str]:
    """Describe which runs are left out, grouped by reason.

    Args:
        impossible: The reason by name of the run.

    Returns:
        One sentence per reason.
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in impossible.items():
        reasons.setdefault(reason, []).append(name)
    return [f"left out as impossible: {listed(names)} ({reason})" for reason, names in reasons.items()]


def validated(runs: Sequence[Run]) -> list[str]:
    """Say of which runs the test data are none, but training samples that were held out for validation.

    Args:
        runs: The runs.

    Returns:
        A sentence without a full stop, if there are any.
    """
    found = [run.name for run in runs if run.config.get("validation")]
    if not found:
        return []
    whose = "all runs" if len(found) == len(runs) else listed(found)
    return [f"what is called test in {whose} is of training samples that were held out for validation"]


def incidents(runs: Sequence[Run]) -> list[str]:
    """List what a reader of the numbers must know.

    Diverged replicas, runs that stopped early, eigenvalues that have not converged, values measured with other settings
    than the run's, failed measures, and unfinished runs.

    Args:
        runs: The runs.

    Returns:
        The sentences.
    """
    sentences = [f"{sentence}." for sentence in validated(runs)]
    for label, run in zip(labels(runs), runs, strict=True):
        if run.diverged:
            steps = ", ".join(str(step) for _, step in sorted(run.diverged.items()))
            count = f"{len(run.diverged)} of {num_replicas(run)} replicas"
            sentences.append(f"{label}: {count} diverged at step {steps}.")
        unsure = {r["replica"] for r in run.metrics if any(name.endswith("converged") and not r[name] for name in r)}
        if unsure:
            count = f"{len(unsure)} of {num_replicas(run)} replicas"
            sentences.append(f"{label}: extreme eigenvalues of {count} have not converged; see their errors.")
        sentences += [f"{label}: {sentence}." for sentence in (*provenance(run), *failures(run))]
        if "stopped" in run.status:
            progress = f"step {run.status['step']} of {run.status['steps']}"
            sentences.append(f"{label}: stopped early at {progress}, since {run.status['stopped']}.")
        if run.status.get("state") not in FINISHED:
            error = run.status.get("error")
            sentences.append(f"{label}: {run.progress}" + (f" ({error})." if error else "."))
    return sentences
