"""A manifest by which KubeRay runs an experiment on Kubernetes: a cluster for one job, gone when this has ended."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from basinet.launch.clusters.machines import Job, SameMachines
from basinet.sim.experiment.component import ExperimentError, own_modules

__all__ = ["kuberay_manifest"]

_FILES = "/experiment"
"""Where containers see the experiment and the modules beside it."""

_MOST_BYTES = 900_000
"""Most bytes of these files, which a ConfigMap has to hold."""

_TRIES = 3
"""How often a job that has failed is tried again, on a new cluster."""


def kuberay_manifest(job: Job) -> str:
    """Write the manifest.

    Args:
        job: The experiment and the machines.

    Returns:
        Documents of YAML for `kubectl apply`: the files of the experiment, and a RayJob.

    Raises:
        ExperimentError: The image or the volume is not given, or the files are too large.
    """
    claim, colon, mount = (job.volume or "").partition(":")
    if not job.image:
        raise ExperimentError("--image: none is given; kuberay needs the image of containers that have basinet and ray")
    if not (claim and colon and mount.startswith("/")):
        raise ExperimentError(f"--volume: got {job.volume}; kuberay needs CLAIM:PATH, as in results:/results")
    out = Path(mount) / job.out
    if not PurePosixPath(out).is_relative_to(mount):
        raise ExperimentError(f"--out: got {job.out}; allowed are folders in {mount}, where the volume is seen")
    name = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")[:40] or "experiment"
    name = name if name[0].isalpha() else f"e-{name}"
    volumes = {mount: {"persistentVolumeClaim": {"claimName": claim}}}
    if files := _files(job):
        volumes[_FILES] = {"configMap": {"name": name}}
    documents = [_meta("v1", "ConfigMap", name) | {"data": files}] if files else []
    cluster = {
        "rayVersion": version("ray"),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},  # for the experiment's own process
            "template": _pod(job, {"cpu": "1"}, volumes),
        },
        "workerGroupSpecs": [_workers(job, group, volumes) for group in job.machines.groups],
    }
    spec = {
        "entrypoint": f"basinet {job.command(f'{_FILES}/{job.file.name}', out)}",
        "shutdownAfterJobFinishes": True,
        "activeDeadlineSeconds": _seconds(job.time),
        "backoffLimit": _TRIES,
        **({"runtimeEnvYAML": yaml.safe_dump(dict(job.env), sort_keys=False)} if job.env else {}),
        "rayClusterSpec": cluster,
    }
    documents.append(_meta("ray.io/v1", "RayJob", name) | {"spec": spec})
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and everything in full."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return whether a value is written again where it occurs again."""
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _meta(version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _files(job: Job) -> dict[str, str]:
    """Read the experiment, and the modules beside it."""
    if job.is_built_in:
        return {}
    found = [job.file, *(module for module in own_modules() if module.parent == job.file.resolve().parent)]
    if packages := [file.name for file in found if file.is_dir()]:
        raise ExperimentError(f"{job.file}: it uses the package {packages[0]}, a folder; put that into the image")
    if sum(file.stat().st_size for file in found) > _MOST_BYTES:
        raise ExperimentError(
            f"{job.file}: with the modules beside it, it has more than the {_MOST_BYTES:,} bytes that fit into a"
            " manifest; put the modules into the image, and the experiment into a folder of its own"
        )
    return {file.name: file.read_text(encoding="utf-8") for file in found}


def _workers(job: Job, group: SameMachines, volumes: Mapping[str, Any]) -> dict[str, Any]:
    has = {"cpu": str(group.workers * job.machines.cpus)}
    if job.machines.memory:
        has["memory"] = f"{job.machines.memory}i"
    if group.gpus:
        has["nvidia.com/gpu"] = str(group.gpus)
    count = {key: group.nodes for key in ("replicas", "minReplicas", "maxReplicas")}
    name = re.sub(r"[^a-z0-9]+", "-", f"workers-{group.gpu}".lower()).strip("-")
    only = {"nvidia.com/gpu.product": group.gpu} if group.gpu else None
    return {"groupName": name, **count, "rayStartParams": {}, "template": _pod(job, has, volumes, only)}


def _pod(
    job: Job, has: Mapping[str, str], volumes: Mapping[str, Any], only: Mapping[str, str] | None = None
) -> dict[str, Any]:
    names = {path: f"volume-{number}" for number, path in enumerate(volumes)}
    container = {
        "name": "ray",
        "image": job.image,
        "resources": {"requests": dict(has), "limits": dict(has)},
        "volumeMounts": [{"name": name, "mountPath": path} for path, name in names.items()],
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": names[path], **volume} for path, volume in volumes.items()],
    }
    return {"spec": {**spec, **({"nodeSelector": dict(only)} if only else {})}}


def _seconds(time: str) -> int:
    """Read a time limit, D-HH:MM:SS."""
    days, _, clock = time.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
