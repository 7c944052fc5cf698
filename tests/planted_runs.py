"""Folders of runs with planted numbers, written without training."""

import json
from pathlib import Path
from typing import Any

from basinet.sim.run.files import GrowingFile, sealed_json, sealed_yaml, write_atomically
from basinet.sim.run.records import csv_text, lines_of, steps_of

QUANTITIES = {
    "test_accuracy": {"label": "test accuracy", "heading": "test accuracy", "direction": "larger"},
    "hessian_trace": {"label": "Hessian trace", "heading": "Hessian trace", "direction": "smaller"},
    "excess_risk": {"label": "excess risk", "heading": "excess risk", "direction": "smaller"},
}
RING = [(k, (k + d) % 4, 1 / 3) for k in range(4) for d in (-1, 0, 1)]


def write_run(
    folder: Path,
    name: str,
    finals: dict[str, list[float]],
    *,
    curves: dict[str, list[list[float]]] | None = None,
    steps: int = 100,
    state: str = "done",
    step: int | None = None,
    diverged: dict[int, int] | None = None,
    sync: bool = True,
    **config: Any,
) -> Path:
    """Write a run with these values at its end by replica, and on the way with the curves [replica][evaluation]."""
    replicas = len(next(iter(finals.values()))) if finals else 1
    strategy = config.pop("strategy", "diffusion")
    full = {
        "task": {"name": "digits", "partition": {"name": "iid"}},
        "topology": {"name": "ring", "agents": 4, "policy": {"name": "metropolis"}},
        "strategy": strategy if isinstance(strategy, dict) else {"name": strategy},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0},
        "batch_size": 8,
        "steps": steps,
        "replicas": replicas,
        "seed": 0,
    }
    for key, value in config.items():
        *parents, last = key.split("__")
        inner = full
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    run = folder / name
    run.mkdir(parents=True)
    text = sealed_yaml(full)
    (run / "config.yaml").write_text(text)
    rows = []
    curves = curves or {}
    number = max((len(curve) for of in curves.values() for curve in of), default=0)
    for place in range(number):
        at = round(steps * place / number)
        for replica in range(replicas):
            row = {"step": at, "replica": replica, "communicated_bytes": 10 * at}
            rows.append(row | {metric: of[replica][place] for metric, of in curves.items()})
    last = steps if step is None else step
    for replica in range(replicas):
        row = {"step": last, "replica": replica, "communicated_bytes": 10 * last}
        rows.append(row | {metric: values[replica] for metric, values in finals.items() if replica < len(values)})
    lines = lines_of(rows)
    (run / "metrics.jsonl").write_bytes(lines)
    status = {
        "state": state,
        "step": last,
        "steps": steps,
        "replicas": replicas,
        "agents": 4,
        "diverged": {str(replica): at for replica, at in (diverged or {}).items()},
        "quantities": QUANTITIES,
        "run": steps_of(full),
        "files": {"metrics.jsonl": GrowingFile(run / "metrics.jsonl").vouch()},
    }
    (run / "status.json").write_text(sealed_json(status))
    (run / "topology.csv").write_text(csv_text(("receiver", "sender", "weight"), RING))
    return run


def write_record(folder: Path, names: list[str]) -> Path:
    """Write the record of an experiment with these runs."""
    write_atomically(folder / "experiment.yaml", sealed_yaml({"runs": names}))
    return folder


def lines_of_run(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
