"""The benchmark: `python -m tests.benchmarks [GROUP …]`, from the repository's root; without groups, everything.

Prints a table as it goes and writes it as JSON to runs/benchmarks/table.json. Costs are processor time on one thread
where nothing else is said, each measured in turn with what it is compared to.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    bandwidth,
    checkpointing,
    curvature,
    engines,
    events,
    gpu,
    lengths,
    optimizers,
    peers,
    runs,
    scaling,
    startup,
    steps,
    strategies,
    upscaling,
    waiting,
    workers,
)
from tests.benchmarks.harness import Row, machine

GROUPS: dict[str, list[Callable[[], Iterator[Row]]]] = {
    "steps": [steps.rows],
    "engines": [engines.rows],
    "events": [events.rows],
    "lengths": [lengths.rows],
    "many": [steps.hundred_thousand],
    "mixing": [bandwidth.mixing],
    "optimizers": [bandwidth.optimizers, bandwidth.normalised],
    "subspaces": [optimizers.stacked],
    "two losses": [optimizers.two_losses],
    "checkpoints": [checkpointing.rows],
    "startup": [startup.rows],
    "evaluation": [runs.evaluation],
    "replicas": [runs.replicas],
    "scaling": [scaling.series, scaling.memory],
    "strategies": [strategies.rows],
    "curvature": [curvature.products, curvature.top_eigenvalues, curvature.traces],
    "upscaling": [upscaling.rows],
    "waiting": [waiting.rows],
    "workers": [workers.rows, workers.ray_actors],
    "tiny steps": [workers.tiny_steps],
    "peers": [peers.rows],
    "gpu": [gpu.rows],
}


def main() -> None:
    """Measure the groups asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/table.json"))
    chosen = parser.parse_args()
    for group in chosen.groups:
        if group not in GROUPS:
            sys.exit(f"there is no group '{group}'; allowed: {', '.join(GROUPS)}")
    torch.set_num_threads(1)
    console = Console(width=170)
    found: list[Row] = []
    for group in chosen.groups or GROUPS:
        for measure in GROUPS[group]:
            for row in measure():
                found.append(row)
                console.print(f"[dim]{row.group}: {row.work}", highlight=False)
                _write(chosen.out, found)
    console.print(_table(found))
    console.print(f"table: {chosen.out}")


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": [row.plain() for row in rows]}, indent=1))


def _table(rows: list[Row]) -> Table:
    table = Table("work", "ours ms", "wall ms", "base ms", "ratio", "min–max", "target", "", "", title="Processor time")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in rows:
        if not row.ratios:
            table.add_row(row.work, *[""] * 6, "–", str(row.more.get("skipped", "")))
            continue
        spread = f"{min(row.ratios):.2f}–{max(row.ratios):.2f}" if len(row.ratios) > 1 else ""
        target = f"{row.target[0]} {row.target[1]:g}" if row.target else ""
        mark = {True: "[green]met", False: "[red]missed", None: ""}[row.met]
        times = [f"{t:.3g}" if t is not None else "" for t in (row.ours_ms, row.ours_wall_ms, row.base_ms)]
        table.add_row(row.work, *times, f"{row.ratio:.2f}", spread, target, mark, row.note)
    return table


if __name__ == "__main__":
    main()
