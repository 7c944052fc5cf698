"""The contents of an experiment's folder: all files are read here, and rejected if damaged."""

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from basinet.sim.experiment.mistakes import in_words
from basinet.sim.run.checkpoints.checkpoint_names import CHECKPOINTS, EARLIER, SUFFIX, on_disk
from basinet.sim.run.files import (
    ANEW,
    LOST,
    Damaged,
    Vouched,
    checksum,
    inside,
    is_leftover,
    no_linked_run,
    plain_file,
    read_json,
    read_yaml,
)

__all__ = [
    "ANALYZED",
    "FINISHED",
    "METRICS",
    "OF_THE_SETUP",
    "PARTITION_COLUMNS",
    "PIPELINE",
    "SEARCH",
    "TUNING",
    "Row",
    "csv_text",
    "essence",
    "file_checksum",
    "final_values",
    "is_begun",
    "lines_of",
    "load_config",
    "load_journal",
    "load_record",
    "load_status",
    "load_tuning",
    "parse_lines",
    "read_last_lines",
    "read_lines",
    "read_table",
    "stages_of",
    "steps_of",
    "vouched_content",
]

Row = dict[str, Any]

ANALYZED = "analyzed.json"
"""File that records what has been measured of the states of a run; see `basinet.sim.run.analyzed`."""

METRICS = "metrics.jsonl"

PARTITION_COLUMNS = ("replica", "agent", "label", "samples")
"""Columns of a partition; the one by which groups of samples were dealt out follows."""

PIPELINE = "pipeline.yaml"
"""File that records an experiment in stages, each in a folder of its own."""

SEARCH = "tuning"
"""Folder of the runs that try values out for those of an experiment, in rounds."""

TUNING = "tuning.json"
"""File that records what was tried out, and what was chosen."""

OF_THE_SETUP = ("attackers.csv", "partition.csv", "topology.csv")
"""Tables that are written before the first step; all others belong to the analysis."""

FINISHED = ("done", "diverged")
"""States of a run that has taken its last step."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a table of a run's folder.

    Args:
        path: The CSV file.

    Returns:
        Its rows as mappings by column name; none if the file does not exist.

    Raises:
        Damaged: It is not a table.
    """
    if not plain_file(path).exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except (ValueError, csv.Error) as error:
        raise Damaged(path, str(error)) from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise Damaged(path, f"row {number} does not have as many values as the header")
    return rows


def load_record(folder: Path) -> dict[str, Any]:
    """Read the record of an experiment.

    Args:
        folder: The experiment's folder.

    Returns:
        The experiment as given, with its runs and versions.

    Raises:
        Damaged: The file does not hold what was written.
    """
    path = folder / "experiment.yaml"
    record = read_yaml(path)
    for key, kind in (("runs", list), ("objects", list), ("modules", list), ("impossible", dict), ("versions", dict)):
        if key in record and not isinstance(record[key], kind):
            raise Damaged(path, f"{key}: got {record[key]!r}, where a {kind.__name__} must be")
    for name in record.get("runs", []):
        inside(folder, name)
    return record


def load_tuning(folder: Path) -> dict[str, Any]:
    """Read the record of what was tuned.

    Args:
        folder: The experiment's folder.

    Returns:
        The record; empty if nothing was tuned.

    Raises:
        Damaged: The file does not hold what was written.
    """
    path = folder / TUNING
    found = read_json(path) if plain_file(path).exists() else {}
    for key, kind in (("keys", dict), ("metric", dict), ("groups", dict)):
        if found and not isinstance(found.get(key), kind):
            raise Damaged(path, f"{key}: got {found.get(key)!r}, where a {kind.__name__} must be")
    return found


def stages_of(folder: Path) -> list[Path]:
    """Return the stages of an experiment.

    Args:
        folder: The experiment's folder.

    Returns:
        Their folders, in their order; none if it is an experiment without stages.
    """
    record = folder / PIPELINE
    names = read_yaml(record).get("runs", []) if plain_file(record).exists() else []
    return [inside(folder, name) for name in names]


def load_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a run.

    Args:
        folder: The run's folder.

    Returns:
        The resolved experiment.

    Raises:
        FileNotFoundError: The folder holds no `config.yaml`.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise FileNotFoundError(f"{folder} is not the folder of a run: it holds no config.yaml")
    no_linked_run(folder)
    return read_yaml(path)


def load_status(folder: Path) -> dict[str, Any]:
    """Read the status of a run.

    Args:
        folder: The run's folder.

    Returns:
        Its values; see `Run`.

    Raises:
        Damaged: It does not hold what was written, or is missing.
    """
    path = folder / "status.json"
    if not path.exists():
        if (folder / METRICS).exists() or on_disk(folder / CHECKPOINTS / f"state{SUFFIX}").exists():
            raise Damaged(path, "it is missing")
        return {"state": "running", "step": 0}
    status = read_json(path)
    diverged = status.get("diverged", {})
    whole = [
        status.get("step", 0),
        status.get("steps", 0),
        *(diverged.values() if isinstance(diverged, dict) else [""]),
    ]
    if not isinstance(status.get("state"), str) or not all(type(number) is int and number >= 0 for number in whole):
        raise Damaged(path, "it does not contain the state of a run")
    if not all(str(replica).isdecimal() for replica in diverged):
        raise Damaged(path, "it does not contain which replicas have diverged")
    return status


def load_journal(folder: Path) -> dict[str, Any]:
    """Read the record of what has been measured of the states of a run.

    Args:
        folder: The run's folder.

    Returns:
        The measures of each state by the name of its checkpoint, without the suffix that earlier versions wrote, and
        the checksums of files under "files".

    Raises:
        Damaged: It, or a table of the analysis, does not hold what was written.
    """
    path = folder / ANALYZED
    if not plain_file(path).exists():
        return {}
    found = read_json(path)
    if not all(isinstance(state, dict) for state in found.values()):
        raise Damaged(path, "it does not contain what was measured")
    for name, allowed in found.get("files", {}).items():
        if name != METRICS and file_checksum(inside(folder, name)) not in allowed:
            raise Damaged(folder / name, LOST)
    return {name.removesuffix(EARLIER): entry for name, entry in found.items()}


def file_checksum(path: Path) -> str | None:
    """Compute the checksum of a file.

    Args:
        path: The file.

    Returns:
        Hexadecimal digits; None if the file does not exist.
    """
    return checksum(path.read_bytes()) if plain_file(path).exists() else None


_NUMBERS = {int, float}


def _measurement(row: Row) -> Row:
    """Raise one of `_MISTAKES` unless a value is a row."""
    step, replica, agent = row["step"], row["replica"], row.get("agent", 0)
    if not (type(step) is type(replica) is type(agent) is int and min(step, replica, agent) >= 0):
        raise ValueError("step, replica and agent must be whole numbers")
    if not {*map(type, row.values())} <= _NUMBERS:  # quick, since there may be millions
        raise ValueError("a measurement must be a number")
    return row


_MISTAKES = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What is raised for a line that is not a row."""


def _parsed(content: bytes) -> tuple[list[Row], Exception | None]:
    """Parse lines up to the first that is not a row; return what is wrong with that one, too."""
    lines = content.split(b"\n")
    if lines[-1] == b"" and content.count(b"}\n{") == len(lines) - 2:  # each line seems to be an object
        with suppress(*_MISTAKES):  # all at once, which takes half the time
            rows = json.loads(b"[%b]" % content[:-1].replace(b"\n", b","))
            if len(rows) == len(lines) - 1:
                return list(map(_measurement, rows)), None
    rows = []
    for line in lines:
        try:
            rows.append(_measurement(json.loads(line)))
        except _MISTAKES as error:
            return rows, error
    return rows, None


def parse_lines(content: bytes, path: Path, first: int = 1) -> list[Row]:
    """Parse measurements that were appended to a file.

    Args:
        content: Complete lines, the last one ended, too.
        path: The file.
        first: Number of the first of these lines.

    Returns:
        The rows.

    Raises:
        Damaged: A line is not a row.
    """
    rows, error = _parsed(content)
    if error and len(rows) < content.count(b"\n"):
        raise Damaged(path, f"line {first + len(rows)}: {in_words(error)}") from error
    return rows


def read_lines(path: Path, vouched: Sequence[Vouched] = ()) -> list[Row]:
    """Read measurements.

    Args:
        path: The file, with one JSON object per line.
        vouched: Recorded beginnings of the file.

    Returns:
        Its rows, none if the file does not exist; what a crash has left after them is dropped: an incomplete last
        line, or anything beyond the recorded content that is not a row.

    Raises:
        Damaged: A line is not a row, or recorded content is missing.
    """
    content = path.read_bytes() if plain_file(path).exists() else b""
    rows, error = _parsed(content)
    if error and len(rows) < content.count(b"\n"):
        begin = sum(len(line) + 1 for line in content.split(b"\n")[: len(rows)])
        if begin < max((part["bytes"] for part in vouched), default=len(content)):
            raise Damaged(path, f"line {len(rows) + 1}: {in_words(error)}") from error
    for part in vouched:
        if len(content) < part["bytes"]:
            raise Damaged(path, f"rows after line {len(rows)} are missing")
        if checksum(memoryview(content)[: part["bytes"]]) != part["crc32"]:
            raise Damaged(path, LOST)
    return rows


def vouched_content(path: Path, vouched: Sequence[Vouched]) -> bytes | None:
    """Read a file of measurements if it begins with what was recorded.

    Args:
        path: The file.
        vouched: Recorded beginnings of the file.

    Returns:
        Its content; None if nothing was recorded, or something else.
    """
    content = plain_file(path).read_bytes() if path.exists() else b""
    whole = vouched and all(
        part["bytes"] <= len(content) and checksum(memoryview(content)[: part["bytes"]]) == part["crc32"]
        for part in vouched
    )
    return content if whole else None


def read_last_lines(path: Path, vouched: Sequence[Vouched], step: int) -> list[Row]:
    """Read the measurements of the last step, without parsing the others.

    Args:
        path: The file, with one JSON object per line.
        vouched: Recorded beginnings of the file.
        step: The step.

    Returns:
        The rows of this step, from complete lines; all rows, as of `read_lines`, if none begins with this step.

    Raises:
        Damaged: As for `read_lines`.
    """
    content = vouched_content(path, vouched)
    start = b'\n{"step": %d, ' % step
    parts = (b"\n" + (content or b"")).split(start)[1:]  # quicker than a regular expression
    if parts and b"\n" not in parts[-1]:
        parts.pop()  # half a line
    found = [start + part.partition(b"\n")[0] for part in parts]
    try:
        rows = [_measurement(json.loads(line)) for line in found]
    except _MISTAKES:
        rows = []
    return rows or read_lines(path, vouched)


def final_values(rows: Iterable[Row], diverged: Collection[int] = ()) -> dict[int, Row]:
    """Collect the finite values of the centroids at the last step of each replica.

    Args:
        rows: Measurements.
        diverged: Replicas that diverged, which are left out.

    Returns:
        The step and the values by replica.
    """
    found: dict[int, Row] = {}
    for row in rows:
        replica, step = row["replica"], row["step"]
        if "agent" in row or replica in diverged or step < found.get(replica, row)["step"]:
            continue
        if replica not in found or step > found[replica]["step"]:
            found[replica] = {}
        found[replica].update((name, v) for name, v in row.items() if name != "replica" and math.isfinite(v))
    return found


def is_begun(folder: Path) -> bool:
    """Return whether a folder contains a run.

    Args:
        folder: The folder of a run.

    Returns:
        Whether its configuration exists.

    Raises:
        Damaged: There are other files of a run, but no configuration.
    """
    if (folder / "config.yaml").exists():
        return True
    if folder.exists() and any(not is_leftover(path) for path in folder.iterdir()):
        raise Damaged(folder / "config.yaml", "it is missing, so that nobody knows what the run is", ANEW)
    return False


def lines_of(rows: Iterable[Row]) -> bytes:
    """Write measurements as JSON lines.

    Args:
        rows: Plain mappings with `step` and `replica`.

    Returns:
        The lines, as `read_lines` reads them.
    """
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table as CSV.

    Args:
        header: Column names.
        rows: Rows in the order of the header.

    Returns:
        The text, as `read_table` reads it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def steps_of(config: Mapping[str, Any]) -> str:
    """Digest what the steps of a run depend on: all keys but those of its analysis and execution.

    Args:
        config: The configuration, as read from its file.

    Returns:
        Hexadecimal digits, equal for equal values.
    """
    return checksum(json.dumps(_canonical(essence(config))).encode())


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """Extract from a configuration what the steps of a run depend on.

    Args:
        config: The configuration.

    Returns:
        All keys but those of the analysis and the runtime, of which only the floating types count.
    """
    runtime = config.get("runtime")
    types = {key: runtime.get(key) for key in ("dtype", "autocast")} if isinstance(runtime, Mapping) else {}
    chosen = {key: value for key, value in config.items() if key != "runtime" and not key.startswith("analysis")}
    return {**chosen, "runtime": types}


def _canonical(value: Any) -> Any:
    """Bring equal values, whatever the order of their keys, into the same form."""
    if isinstance(value, Mapping):
        return sorted([str(key), _canonical(inner)] for key, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return list(map(_canonical, value))
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value
