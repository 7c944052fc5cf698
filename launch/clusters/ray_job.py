"""A script that submits an experiment to a Ray cluster that is running already."""

import json
import shlex
from pathlib import Path

from basinet.launch.clusters.machines import Job, bash
from basinet.sim.experiment.component import ExperimentError

__all__ = ["ray_job"]


def ray_job(job: Job) -> str:
    """Write the script.

    Args:
        job: The experiment and the machines.

    Returns:
        It: what is beside the experiment goes to the cluster, apart from results.

    Raises:
        ExperimentError: The experiment is not in the folder that goes to the cluster.
    """
    env = dict(job.env)
    out, file = job.out.resolve(), job.file.resolve()
    words = []
    if not job.is_built_in or "working_dir" in env:
        home = Path(env.pop("working_dir", file.parent)).resolve()
        if not job.is_built_in and not file.is_relative_to(home):
            raise ExperimentError(f"runtime.env.working_dir: got {home}; allowed are folders that {file} is in")
        words = ["--working-dir", str(home)]
        left_out = [str(out.relative_to(home))] if out.is_relative_to(home) and out != home else []
        env["excludes"] = [*dict.fromkeys([".git", "runs", *left_out])]
        file = file.relative_to(home) if not job.is_built_in else file
    if env:
        words += ["--runtime-env-json", json.dumps(env)]
    return bash(
        "# Submits the experiment to the Ray cluster with this dashboard, follows it, and ends as it does. Again,",
        f"# it goes on where it stopped. All machines have to see {out}.",
        ': "${RAY_API_SERVER_ADDRESS:?name the dashboard of the cluster, such as http://node1:8265}"',
        f"exec ray job submit {shlex.join(words)} -- basinet {job.command(str(file), out)}",
    )
