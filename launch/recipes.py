"""Scripts that start an experiment on several machines: by Ray, by torchrun, or as a job of Slurm."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared

__all__ = ["RECIPES", "Machines", "launcher", "script"]

_HEAD = ': "${HEAD:?name the first machine, such as HEAD=node1}"'
"""A shell line that stops a script unless HEAD is set."""


@dataclass(frozen=True)
class Machines:
    """The machines that an experiment runs on.

    Attributes:
        nodes: Number of machines.
        workers: Workers per machine, which share the agents.
        cpus: Processors per worker.
        gpus: GPUs per machine.
        time: Time limit of a job, in Slurm's format.
    """

    nodes: int = 1
    workers: int = 1
    cpus: int = 1
    gpus: int = 0
    time: str = "01:00:00"


def script(runtime: str, file: Path, words: Sequence[str], out: Path, machines: Machines) -> str:
    """Check an experiment, and return the script that starts it.

    Args:
        runtime: A name in `RECIPES`.
        file: The experiment.
        words: Overrides, `key=value`.
        out: The experiment's folder, which all machines see.
        machines: The machines.

    Returns:
        A script for bash.

    Raises:
        ExperimentError: The recipe does not exist, something in the experiment is not allowed, or there are more
            workers than agents.
    """
    if runtime not in RECIPES:
        raise ExperimentError(f"launch: nothing is started by '{runtime}'; {nearest(runtime, RECIPES)}")
    recipe, total = RECIPES[runtime], machines.nodes * machines.workers
    runtime_words = recipe.settings(machines)
    decided = {_key(word) for word in runtime_words}
    words = [word for word in words if _key(word) not in decided] + runtime_words
    shared = Shared()
    for config in read_experiment(file, words).runs.values():
        setup = build_setup(config, shared)
        rows = config.replicas * setup.num_agents
        if total > rows:
            raise ExperimentError(
                f"--workers: {machines.nodes} machines with {machines.workers} workers each are {total} workers; "
                f"allowed are at most {rows}, one per agent of each replica"
            )
    return recipe.write(shlex.join(["run", str(file), *words, "--out", str(out)]), machines, _plain(file.stem))


def _plain(name: str) -> str:
    """Remove from a name what a Slurm line may not hold."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)


def _key(word: str) -> str:
    return word.partition("=")[0]


def launcher(machines: Machines, head: str = "$HEAD", port: str = "29500") -> str:
    """Return the torchrun command that starts `basinet` on each machine.

    Args:
        machines: The machines.
        head: The first machine, where the ranks meet.
        port: The port on it.

    Returns:
        The beginning of a bash command, the same on every machine; arguments of `basinet` follow.
    """
    if machines.nodes == 1:
        where = "--standalone"
    else:
        where = f'--nnodes={machines.nodes} --rdzv_backend=c10d --rdzv_id=basinet --rdzv_endpoint="{head}:{port}"'
    return f"torchrun {where} --nproc_per_node={machines.workers} -m basinet"


def _torchrun(words: str, machines: Machines, _: str) -> str:
    lines = [f"export OMP_NUM_THREADS={machines.cpus}", f"{launcher(machines)} {words}"]
    if machines.nodes > 1:
        lines = [f"# The same on each of {machines.nodes} machines.", _HEAD, *lines]
    return _script(lines)


def _slurm(words: str, machines: Machines, name: str) -> str:
    cpus = machines.workers * machines.cpus
    requests = {
        "job-name": name,
        "nodes": machines.nodes,
        "ntasks-per-node": 1,  # torchrun, which starts the workers
        "cpus-per-task": cpus,
        **({"gpus-per-node": machines.gpus} if machines.gpus else {}),
        "time": machines.time,
        "signal": "TERM@60",  # a minute before the end: the experiment stops with a checkpoint
    }
    port = "$((20000 + SLURM_JOB_ID % 20000))"
    lines = [
        *(f"#SBATCH --{key}={value}" for key, value in requests.items()),
        "",
        "# Submit it again to go on where the time ran out.",
        "set -euo pipefail",
        'mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
        f"export OMP_NUM_THREADS={machines.cpus}",
        f"srun --cpus-per-task={cpus} {launcher(machines, '${hosts[0]}', port)} {words}",
    ]
    return _script(lines)


def _ray(words: str, machines: Machines, name: str) -> str:
    if machines.nodes == 1:
        return _script([f"basinet {words}"])
    return _script([_RAY.format(
        others=machines.nodes - 1,
        resources=f"--num-cpus={machines.workers * machines.cpus} --num-gpus={machines.gpus}",
        name=shlex.quote(name),
        words=words,
    )])  # fmt: skip


_RAY = """\
# With `head` on the first machine, with `join` on each of the {others} others; then with `run` on the first one, and at
# the end with `stop` on all. HEAD=node1 names the first machine, PORT another port than this user's usual one.
: "${{PORT:=$((20000 + UID % 10000))}}"
# What Ray writes on this machine, and the session in which it runs there: it alone is stopped.
FOLDER="${{RAY_TMPDIR:-/tmp}}/basinet-$UID-$PORT"
# Who holds this token may run code here: the folder of this script is seen by all machines, its owner alone reads it.
TOKEN="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"/.{name}-token
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$TOKEN"
running() {{ [ -s "$FOLDER/session" ] && pgrep -s "$(cat "$FOLDER/session")" > /dev/null; }}
start() {{
    if running; then echo "Ray is running here; first: $0 stop" >&2; exit 1; fi
    mkdir -p -m 700 "$FOLDER"
    setsid --wait bash -c 'echo $$ > "$0/session"; exec ray start --temp-dir="$0" "$@"' "$FOLDER" "$@" {resources}
}}
case "${{1:?head, join, run or stop}}" in
    head)
        [ -s "$TOKEN" ] || (umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \\n' > "$TOKEN")
        start --head --port="$PORT" --include-dashboard=false ;;
    join)
        start --address="${{HEAD:?name the first machine, such as HEAD=node1}}:$PORT" ;;
    run)
        RAY_ADDRESS="${{HEAD:?name the first machine, such as HEAD=node1}}:$PORT" basinet {words} ;;
    stop)
        for signal in TERM KILL; do
            running && pkill -$signal -s "$(cat "$FOLDER/session")"
            for _ in {{1..50}}; do running && sleep 0.2; done
        done
        rm -rf "$FOLDER" ;;
esac"""


def _script(lines: Sequence[str]) -> str:
    return "\n".join(["#!/bin/bash", *lines]) + "\n"


def _on_ranks(_: Machines) -> list[str]:
    return ["runtime.name=torchrun"]


def _on_actors(machines: Machines) -> list[str]:
    words = ["runtime.name=ray", f"runtime.actors={machines.nodes * machines.workers}"]
    words += [f"runtime.cpus_per_actor={machines.cpus}"]
    return words + ([f"runtime.gpus_per_actor={machines.gpus / machines.workers:g}"] if machines.gpus else [])


@dataclass(frozen=True)
class Recipe:
    """How to write a script.

    Attributes:
        settings: Returns the runtime's settings, `key=value`, for some machines.
        write: Returns the script for the arguments of `basinet`, the machines and the experiment's name.
    """

    settings: Callable[[Machines], list[str]]
    write: Callable[[str, Machines, str], str]


RECIPES: Mapping[str, Recipe] = {
    "ray": Recipe(_on_actors, _ray),
    "torchrun": Recipe(_on_ranks, _torchrun),
    "slurm": Recipe(_on_ranks, _slurm),
}
"""Recipes by launcher."""
