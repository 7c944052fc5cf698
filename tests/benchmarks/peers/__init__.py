"""Other simulators on the same work: 16 agents on a ring, digits, MLP 64-128-10, batch 32, adapt then combine.

Each peer runs in a process of the interpreter `BASINET_PEERS_PYTHON` (by default this one), with the given
`PYTHONPATH`; one that cannot be imported there is skipped. Each script says how to install its peer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.harness import Row, measure
from tests.benchmarks.steps import MLP, advancing, make_block

HERE = Path(__file__).parent
REPEATS = 5
ROUNDS = {"run_ray_actors.py": 100}


def rows() -> Iterator[Row]:
    """Measure each peer in turn with a step of ours, and compare the fastest."""
    block = make_block(model=MLP, batch_size=32)
    step = advancing(block, 50)
    measure(step)
    fastest: Row | None = None
    for script in sorted(HERE.glob("run_*.py")):
        row = Row(
            "peers", f"CPU of {script.stem.removeprefix('run_').replace('_', ' ')} over ours, 16 agents, ring, MLP"
        )
        for _ in range(REPEATS):
            own = measure(step).cpu / 50
            found = _run(script)
            if "missing" in found:
                row.more = {"skipped": "not installed", "reason": found["missing"]}
                break
            row.ratios.append(float(found["cpu_s_per_round"]) / own)
            row.ours_ms, row.base_ms, row.more = 1e3 * own, 1e3 * float(found["cpu_s_per_round"]), found
        yield row
        if row.ratios and (fastest is None or row.ratio < fastest.ratio):
            fastest = row
    if fastest is not None:
        yield Row(**{**vars(fastest), "work": f"the fastest of them: {fastest.more['peer']}", "target": (">=", 7.5)})


def _run(script: Path) -> dict[str, object]:
    """Run a peer's script, and read the line that it prints."""
    interpreter = os.environ.get("BASINET_PEERS_PYTHON", sys.executable)
    rounds = str(ROUNDS.get(script.name, 200))
    done = subprocess.run([interpreter, script, rounds], capture_output=True, text=True, check=True, timeout=600)
    line: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return line
