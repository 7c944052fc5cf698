"""A job of Slurm whose tasks are the ranks of an experiment, and which queues itself again when its time is over."""

import re
from collections.abc import Iterable, Iterator, Mapping

from basinet.launch.clusters.machines import Job, SameMachines, bash
from basinet.sim.experiment.component import ExperimentError

__all__ = ["slurm_options", "slurm_script"]

_OPTIONS = {
    "nodes": "--nodes",
    "ntasks-per-node": "--workers",
    "cpus-per-task": "--cpus",
    "gpus-per-node": "--gpus",
    "mem": "--memory",
    "time": "--time",
    "array": "--array",
    "requeue": "--requeue",
}
"""Options of Slurm, and those of `basinet launch` that they follow from."""


def slurm_options(words: Iterable[str]) -> dict[str, str]:
    """Read further options of Slurm.

    Args:
        words: KEY=VALUE, as in partition=gpu.

    Returns:
        Values by key.

    Raises:
        ExperimentError: One of them cannot be written into a script, or follows from another option.
    """
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        key = key.removeprefix("--")
        if not re.fullmatch(r"[a-z][a-z-]*", key) or not re.fullmatch(r"[^\s\"'#\\]+", value):
            raise ExperimentError(f"--slurm: got {word}; allowed are KEY=VALUE, as in partition=gpu, without blanks")
        if key in _OPTIONS:
            raise ExperimentError(f"--slurm: got {word}; give {_OPTIONS[key]} instead")
        found[key] = value
    return found


def slurm_script(job: Job) -> str:
    """Write the job.

    Args:
        job: The experiment and the machines.

    Returns:
        A script for sbatch.

    Raises:
        ExperimentError: Slurm has no arrays of jobs with several kinds of machines.
    """
    groups = job.machines.groups
    if job.array is not None and len(groups) > 1:
        raise ExperimentError("--array: got several kinds of machines in --gpus; Slurm's arrays allow one kind")
    requests = [[f"#SBATCH --{request}" for request in _requests(job, group)] for group in groups]
    part = "" if job.array is None else f' --part "$SLURM_ARRAY_TASK_ID/{job.array}"'
    tasks = [_tasks(job, group, number) for number, group in enumerate(groups)]
    return bash(
        *[line for lines in requests[:-1] for line in [*lines, "#SBATCH hetjob"]],
        *requests[-1],
        "",
        "# The first task leads; all meet on its machine.",
        'mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
        "export MASTER_ADDR=${hosts[0]} MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
        f"export WORLD_SIZE={job.machines.total} OMP_NUM_THREADS={job.machines.cpus}",
        f"run=(basinet {job.command()}{part})",
        f"srun {' : '.join(tasks)}",
        "status=$?",
        *_again(job),
        "exit $status",
    )


def _requests(job: Job, group: SameMachines) -> Iterator[str]:
    """What the job asks for on machines that are alike."""
    machines = job.machines
    gpus = f"{group.gpu}:{group.gpus}" if group.gpu else str(group.gpus)
    requests: Mapping[str, str | int | None] = {
        "job-name": job.name,
        "nodes": group.nodes,
        "ntasks-per-node": group.workers,
        "cpus-per-task": machines.cpus,
        "gpus-per-node": gpus if group.gpus else None,
        "mem": machines.memory,
        "time": job.time,
        "array": None if job.array is None else f"1-{job.array}",
        "signal": "TERM@120",  # so long before the end, the tasks stop with a checkpoint
        "open-mode": "append",
        **job.slurm,
    }
    yield from (f"{key}={value}" for key, value in requests.items() if value is not None)
    yield "requeue" if job.requeue else "no-requeue"


def _tasks(job: Job, group: SameMachines, number: int) -> str:
    where = f"--het-group={number} " if len(job.machines.groups) > 1 else ""
    rank = f"RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE={group.workers}"
    return f"""{where}--cpus-per-task={job.machines.cpus} bash -c '{rank} exec "$@"' task "${{run[@]}}\""""


def _again(job: Job) -> list[str]:
    """What follows an interruption, after which the experiment goes on from its checkpoints."""
    if not job.requeue:
        return []
    return [
        f"# Interrupted, as by the time limit: queued again, at most {job.requeue} times, to go on from checkpoints.",
        f'if [ $status = 130 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.requeue} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID" && exit',
        "fi",
    ]
