"""The record of a search in the folder of an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from basinet.launch.tuning.choosing import Score, at_edge, best_of, differences
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import importable, plain
from basinet.sim.experiment.mistakes import count_of, shown
from basinet.sim.experiment.tuning.tuned_experiment import Candidate, TunedExperiment, search_seed
from basinet.sim.run.claim import forget
from basinet.sim.run.files import discard, is_leftover
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import SEARCH, TUNING, load_tuning, steps_of

__all__ = ["check_free", "described", "discard_rounds", "finished_choices"]


def check_free(tuned: TunedExperiment, out: Path) -> dict[str, Any]:
    """Read the record of the same search, if there is one.

    Args:
        tuned: The experiment.
        out: Its folder.

    Returns:
        The record; empty if nothing has begun.

    Raises:
        ExperimentError: The folder holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"--out: {out} is a file; choose a folder")
    found = load_tuning(out)
    entries = [entry.name for entry in out.iterdir() if not is_leftover(entry)] if out.exists() else []
    why = _first_difference(found["identity"], _identity(tuned)) if found else ""
    if why or (not found and set(entries) - {SEARCH}):
        raise ExperimentError(
            f"--out: {out} holds another experiment{why}; choose another folder, or --fresh (fresh=True) to discard it"
        )
    return found


def finished_choices(tuned: TunedExperiment, record: Mapping[str, Any]) -> dict[str, Candidate] | None:
    """Read what a finished search has chosen.

    Args:
        tuned: The experiment.
        record: Its record.

    Returns:
        The choice of each group; None if the search is not finished.
    """
    if record.get("state") != "done":
        return None
    given = {key: {_text(value): value for value in several} for key, several in tuned.tuning.values.items()}
    first = tuned.candidates[0]
    return dict.fromkeys(tuned.groups, first) | {
        group: {key: given[key].get(_text(value), value) for key, value in found["choice"].items()}
        for group, found in record["groups"].items()
    }


def _text(value: Any) -> str:
    return repr(plain(value, importable))


def discard_rounds(out: Path, kept: str) -> None:
    """Remove the rounds of an earlier search, its record, and the runs with what it chose.

    Args:
        out: The experiment's folder.
        kept: Name of a round that stays.
    """
    (out / TUNING).unlink(missing_ok=True)
    if (out / "experiment.yaml").exists():
        forget(out)
    for folder in (out / SEARCH).iterdir():
        if folder.is_dir() and folder.name != kept and (folder / "experiment.yaml").exists():
            discard(folder)


def described(
    tuned: TunedExperiment,
    metric: str,
    known: Quantity,
    rounds: Sequence[str] = (),
    tried: Mapping[str, Sequence[Any]] | None = None,
    scores: Mapping[str, Sequence[Score]] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe a search in plain values.

    Args:
        tuned: The experiment.
        metric: The metric that candidates are judged by.
        known: Its description.
        rounds: Folders of its rounds.
        tried: The values tried of each key, with those that were added.
        scores: Scores of the candidates of each group; None while the search is not finished.
        notes: Sentences about values that were added, and about choices at an edge.

    Returns:
        The record.
    """
    tuning, tried = tuned.tuning, tuned.tuning.values if tried is None else tried
    seeds = dict.fromkeys(config.seed for config in tuned.runs.values())
    return {
        "state": "searching" if scores is None else "done",
        "identity": _identity(tuned),
        "criterion": (
            f"the best mean of the {known.label} over {count_of(tuning.replicas, 'replica')} at the last step; a"
            " replica that diverged is worse than all others"
        ),
        "metric": {"name": metric, "label": known.label, "direction": known.direction},
        "share": tuning.share,
        "keys": {key: plain(list(several), importable) for key, several in tried.items()},
        "seeds": [{"final": seed, "search": search_seed(seed)} for seed in seeds],
        "rounds": list(rounds),
        "notes": list(notes),
        "groups": {group: _group(tuned.groups[group], of, known, tried) for group, of in (scores or {}).items() if of},
    }


def _group(runs: Sequence[str], scores: Sequence[Score], known: Quantity, tried: Mapping[str, Any]) -> dict[str, Any]:
    assert known.direction is not None
    (best,) = best_of(scores, known.direction)
    candidates = []
    for place, score in enumerate(scores):
        mean, error, count = score.moments
        row = {"values": plain(score.values, importable), "mean": mean, "se": error, "n": count, "lost": score.lost}
        row |= {"step": score.step, "steps": score.steps, "ended": score.ended, "chosen": place == best}
        candidates.append(row | (differences(score, scores[best]) if place != best else {}))
    edges = at_edge(scores[best].values, tried)
    return {
        "runs": list(runs),
        "choice": plain(scores[best].values, importable),
        "edges": {key: "largest" if largest else "smallest" for key, largest in edges.items()},
        "candidates": candidates,
    }


def _identity(tuned: TunedExperiment) -> dict[str, Any]:
    """Describe what the search depends on, however it is written."""
    given = asdict(tuned.tuning)
    runs = {name: steps_of(config.describe()) for name, config in tuned.runs.items()}
    return {"tune": plain(given.pop("values") | given, importable), "runs": runs}


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in parentheses in what two searches differ; empty if in nothing."""
    for part, said in (("tune", "tune.{} is {}, not {}"), ("runs", "of the runs, {} is not the same")):
        before, now = old[part], new[part]
        for key in dict.fromkeys([*now, *before]):
            if before.get(key) != now.get(key):
                return f" ({said.format(key, shown(before.get(key)), shown(now.get(key)))})"
    return ""
