"""Commands of Slurm, `sbatch`, `srun` and `scontrol`, that act on this machine; called by the name that it is given.

As Slurm's own, they read the requests of a script only before its first command, know no other options than those of
Slurm, and start each task with its numbers. FAKE_SLURM is a folder for what they remember.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(os.environ["FAKE_SLURM"])
KNOWN = ("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "time", "array", "signal")
KNOWN += ("open-mode", "requeue", "no-requeue", "partition", "account", "qos")


def requests(text):
    """Read the requests of a script, a mapping for each component of a heterogeneous job."""
    components = [{}]
    for line in text.splitlines()[1:]:
        if line == "#SBATCH hetjob":
            components.append({})
        elif found := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            assert found[1] in KNOWN, line
            components[-1][found[1]] = found[2]
        elif line and not line.startswith("#"):
            break
    return components


def sbatch(words):
    text = Path(words[0]).read_text() if words else sys.stdin.read()
    assert text.startswith("#!"), "sbatch: This does not look like a batch script"
    asked = requests(text)
    job, worst = 4711, 0
    first, last = map(int, (asked[0].get("array") or "0-0").split("-"))
    for task in range(first, last + 1):
        given = {"SLURM_JOB_ID": str(job + task), "SLURM_JOB_NODELIST": "nodes"}
        if "array" in asked[0]:
            given |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": str(job)}
        for number, component in enumerate(asked):
            (HERE / f"component-{number}").write_text(f"{component['nodes']} {component['ntasks-per-node']}")
        restarts, again = 0, HERE / "requeued"
        while True:
            count = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
            status = subprocess.run(["bash", "-s"], input=text, text=True, env=os.environ | given | count).returncode
            if not again.exists():
                break
            assert again.read_text() == given["SLURM_JOB_ID"] and "requeue" in asked[0]
            again.unlink()
            restarts += 1
        worst = max(worst, status)
    return worst


def srun(words):
    steps, rest = [], list(words)
    while ":" in rest:
        steps.append(rest[: rest.index(":")])
        rest = rest[rest.index(":") + 1 :]
    tasks, rank = [], 0
    for step in [*steps, rest]:
        component = 0
        while step[0].startswith("--"):
            key, _, value = step.pop(0).partition("=")
            assert key in ("--cpus-per-task", "--het-group"), key
            component = int(value) if key == "--het-group" else component
        nodes, per_node = map(int, (HERE / f"component-{component}").read_text().split())
        for place in range(nodes * per_node):
            given = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(place % per_node)}
            tasks.append(subprocess.Popen(step, env=os.environ | given, stdin=subprocess.DEVNULL))
            rank += 1
    return max(task.wait() for task in tasks)


def scontrol(words):
    match words:
        case ["show", "hostnames", "nodes"]:
            print("127.0.0.1\nnode2")
        case ["requeue", job]:
            (HERE / "requeued").write_text(job)
        case _:
            raise SystemExit(f"scontrol: {words}")
    return 0


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[Path(sys.argv[0]).name](sys.argv[1:]))
