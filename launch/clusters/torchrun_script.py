"""A script that starts the ranks of an experiment by torchrun, the same on each machine."""

from basinet.launch.clusters.machines import Job, Machines, bash

__all__ = ["launcher", "torchrun_script"]


def launcher(machines: Machines) -> str:
    """Return the torchrun command that starts `basinet` on each machine.

    Args:
        machines: The machines; HEAD names the first one, where the ranks meet.

    Returns:
        The beginning of a bash command, the same on every machine; arguments of `basinet` follow.
    """
    if machines.nodes == 1:
        where = "--standalone"
    else:
        meeting = '--rdzv_backend=c10d --rdzv_id=basinet --rdzv_endpoint="$HEAD:${PORT:-29500}"'
        where = f"--nnodes={machines.nodes} {meeting}"
    return f"torchrun {where} --nproc_per_node={machines.only.workers} -m basinet"


def torchrun_script(job: Job) -> str:
    """Write the script.

    Args:
        job: The experiment and the machines.

    Returns:
        It.
    """
    lines = [f"export OMP_NUM_THREADS={job.machines.cpus}", f"{launcher(job.machines)} {job.command()}"]
    if job.machines.nodes > 1:
        head = ': "${HEAD:?name the first machine, such as HEAD=node1}"'
        lines = [
            f"# The same on each of {job.machines.nodes} machines; PORT is free on the first.",
            head,
            *lines,
        ]
    return bash(*lines)
