"""What a command costs beside its steps: from the command to the first step, and a short run with its report."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from tests.benchmarks.harness import Row

COMMAND = """
import json, sys, time
from basinet.launch.cli.entry import _loading, main

marks = {}
with _loading():
    import torch
    marks["torch"] = time.process_time()
    from basinet.launch import api
    from basinet.launch.cli.commands import run_command
    from basinet.sim.agents.worker import Worker

def simulate(*arguments, _simulate=api.simulate, _advance=Worker.advance, **named):
    def advance(self, until):
        marks.setdefault("first step", time.process_time())
        return _advance(self, until)
    Worker.advance = advance  # not before: the experiment is tried out in small
    return _simulate(*arguments, **named)

api.simulate = simulate
assert main(sys.argv[1:]) == 0
print(json.dumps(marks | {"end": time.process_time()}))
"""

KEYS = ["cases=null", "topology.agents=8", "optimizer.lr=0.1", "batch_size=8", "steps=10", "replicas=1"]

WORKS = {
    "diffusion on a ring": ["strategy=diffusion"],
    "centralised SGD, nothing measured": ["strategy=centralized", "analysis=[]"],
}


def rows(repeats: int = 5) -> Iterator[Row]:
    """Compare the processor time of commands, in a process each, to that of `import torch` in the same process."""
    for work, keys in WORKS.items():
        found = [_marks([*KEYS, *keys]) for _ in range(repeats)]
        for what, mark, target in (
            ("from torch to the first step", "first step", 1.0),
            ("10 steps, report", "end", 5.0),
        ):
            row = Row("startup", f"{work}: {what}", ("<=", target), base="import torch")
            skipped = [marks["torch"] if mark == "first step" else 0.0 for marks in found]
            took = [marks[mark] - skip for marks, skip in zip(found, skipped, strict=True)]
            row.ratios = [seconds / marks["torch"] for seconds, marks in zip(took, found, strict=True)]
            row.ours_ms, row.base_ms = 1e3 * median(took), 1e3 * median(marks["torch"] for marks in found)
            yield row


def _marks(keys: list[str]) -> dict[str, float]:
    """Return the processor seconds at which a command has imported torch, begins the first step, and ends."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", COMMAND, "run", *keys, "--quiet", "--json", "--out", f"{out}/run"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    marks: dict[str, float] = json.loads(printed.splitlines()[-1])
    return marks
