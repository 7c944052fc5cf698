"""What the page shows of single runs: who works on them, and what has been logged."""

import math
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from basinet.analysis.statistics.incidents import incidents
from basinet.launch.serve.study_index import ODD, Entry, StudyIndex
from basinet.launch.status.holder import holder_of, worker_on
from basinet.launch.status.status_cells import OF_WORKERS, worker_cells
from basinet.sim.run.execution.usage_record import load_usage
from basinet.sim.run.folder import load_run

__all__ = ["abandoned", "details", "listed", "worker_of"]

_UNFINISHED = ("running", "waiting")
_LOGS = (".log", ".out", ".err")
_MOST_LOGS = 12
_TAIL = 32 * 2**10


def listed(entry: Entry) -> dict[str, Any]:
    """Describe a run in a list.

    Args:
        entry: The run.

    Returns:
        Plain values.
    """
    status = entry.status
    return {
        "number": entry.number,
        "id": entry.id,
        "study": entry.study,
        "state": entry.state,
        "step": status.get("step", 0),
        "steps": status.get("steps", entry.config.get("steps")),
        "replicas": entry.config.get("replicas", 1),
        "samples": entry.samples if math.isfinite(entry.samples) else None,
        "diverged": len(entry.diverged),
        "changed": entry.changed,
        "problem": entry.problem,
        "error": str(status.get("error", "")),
        "config": dict(_flat(entry.config)),
        "finals": {
            name: [float(f"{mean:.7g}"), None if sd is None else float(f"{sd:.4g}"), count]
            for name, (mean, sd, count) in entry.finals.items()
            if not (name.endswith("_error") and name.removesuffix("_error") in entry.finals)
        },
    }


def _flat(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """List the dotted keys of a configuration with their values."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            plain = value if isinstance(value, str | int | float | bool | None) else str(value)
            found.append((f"{prefix}{key}", plain))
    return found


def details(index: StudyIndex, entry: Entry) -> dict[str, Any]:
    """Describe a run in full.

    Args:
        index: The runs.
        entry: The run.

    Returns:
        `status`, what its `status.json` says but for the lengths of files; `traceback`, of a failed run; `worker`, who
        works on it; `workers`, a table of what each worker uses, its headings first; `incidents`, the sentences that a
        reader of its numbers must know; `logs`, the ends of log files in its folder and in that of its study, by name;
        and `files`, the reports there.
    """
    sentences: list[str] = []
    used: list[dict[str, Any]] = []
    try:
        used = load_usage(index.confined(entry.path)).get("workers", [])
        if entry.state != "waiting":
            sentences = incidents([load_run(index.confined(entry.path))])
    except ODD as error:
        sentences = [" ".join(str(error).split())]
    study = _study(index, entry)
    kept = ("files", "quantities", "run", "model", "traceback")
    return {
        "status": {key: value for key, value in entry.status.items() if key not in kept},
        "traceback": str(entry.status.get("traceback", "")),
        "worker": worker_of(index, entry),
        "workers": [OF_WORKERS, *map(worker_cells, used)],
        "incidents": sentences,
        "logs": _logs(index, list(dict.fromkeys([entry.path, study]))),
        "files": _offered(entry.path, study, index.folder),
    }


def worker_of(index: StudyIndex, entry: Entry) -> str:
    """Say who works on a run.

    Args:
        index: The runs.
        entry: The run.

    Returns:
        A sentence.
    """
    if entry.state not in _UNFINISHED:
        return f"nobody: the run has ended ({entry.state})"
    age = max(0, round(time.time() - entry.changed))
    word = f"last written {age:,} s ago" if entry.changed else "nothing written yet"
    folders = _locked(index, entry)
    if not folders:
        return f"unknown: the lock is in the folder of the experiment, which is not served; {word}"
    holder = worker_on(folders)
    if holder is None:
        return f"nobody: no process has locked the folder; {word}. The same command resumes the run"
    if holder.has_ended():
        return f"nobody: {holder} has ended without leaving word; {word}. The same command resumes the run"
    return f"{holder}; {word}"


def abandoned(index: StudyIndex, entries: Iterable[Entry]) -> list[int]:
    """List the runs that are said to be running, but on which nobody works.

    Args:
        index: The runs.
        entries: Those to look at.

    Returns:
        Their numbers.
    """
    known = cache(holder_of)
    found = []
    for entry in entries:
        if entry.state == "running" and (folders := _locked(index, entry)):
            holder = worker_on(folders, known)
            if holder is None or holder.has_ended():
                found.append(entry.number)
    return found


def _locked(index: StudyIndex, entry: Entry) -> list[Path]:
    """Return the folders that whoever works on a run may have locked; none if one is not below the served one."""
    study = _study(index, entry)
    return [] if study == entry.path and (entry.path.parent / "experiment.yaml").exists() else [entry.path, study]


def _study(index: StudyIndex, entry: Entry) -> Path:
    """Return the folder of a run's experiment; that of the run, if it alone is served."""
    return entry.path.parent if entry.path != index.folder else entry.path


def _logs(index: StudyIndex, folders: list[Path]) -> dict[str, str]:
    """Read the ends of log files, which schedulers and shells write beside a run."""
    found: dict[str, str] = {}
    for folder in folders:
        if not index.confined(folder).is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix in _LOGS and path.is_file() and not path.is_symlink() and len(found) < _MOST_LOGS:
                with open(path, "rb") as file:
                    size = file.seek(0, 2)
                    file.seek(max(0, size - _TAIL))
                    found[path.relative_to(index.folder).as_posix()] = file.read(_TAIL).decode("utf-8", "replace")
    return found


def _offered(run: Path, study: Path, root: Path) -> list[str]:
    """List the reports of a run and of its study, as seen from the folder that is served."""
    pages = [folder / "report.html" for folder in dict.fromkeys([run, study]) if folder.is_relative_to(root)]
    return [page.relative_to(root).as_posix() for page in pages if page.is_file() and not page.is_symlink()]
