"""The machines that an experiment runs on, and the job that starts it there."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basinet.launch.cli.built_in import BUILT_IN
from basinet.sim.experiment.component import ExperimentError

__all__ = ["Job", "Machines", "SameMachines", "bash"]


@dataclass(frozen=True)
class SameMachines:
    """Machines that are alike.

    Attributes:
        nodes: Number of machines.
        workers: Workers per machine, which share the agents.
        gpus: GPUs per machine.
        gpu: Kind of GPU, as the cluster calls it; any if empty.
    """

    nodes: int = 1
    workers: int = 1
    gpus: int = 0
    gpu: str = ""


@dataclass(frozen=True)
class Machines:
    """The machines that an experiment runs on.

    Attributes:
        groups: Those that are alike; most often all.
        cpus: Processors per worker.
        memory: Memory per machine, such as 16G; None for what there is.
    """

    groups: tuple[SameMachines, ...] = (SameMachines(),)
    cpus: int = 1
    memory: str | None = None

    @classmethod
    def parse(cls, nodes: int, workers: int | None, cpus: int, gpus: str | None, memory: str | None) -> "Machines":
        """Read how many machines there are, and what they have.

        Args:
            nodes: Machines, of each kind if there are several.
            workers: Workers per machine; None for one per GPU, or one.
            cpus: Processors per worker.
            gpus: GPUs per machine: N, KIND:N, or several of these with commas for several kinds of machines.
            memory: Memory per machine.

        Returns:
            The machines.

        Raises:
            ExperimentError: Something is not allowed.
        """
        if memory is not None and not re.fullmatch(r"[1-9]\d{0,6}[MGT]", memory):
            raise ExperimentError(f"--memory: got {memory}; allowed are such as 900M, 16G and 1T")
        groups = []
        for text in [] if gpus is None else gpus.split(","):
            found = re.fullmatch(r"(?:([\w.-]{1,60}):)?([1-9]\d{0,3})", text, flags=re.ASCII)
            if found is None:
                raise ExperimentError(f"--gpus: got {gpus}; allowed are N, KIND:N such as a100:4, and a100:4,v100:2")
            groups.append(SameMachines(nodes, workers or int(found[2]), int(found[2]), found[1] or ""))
        kinds = [group.gpu for group in groups]
        if len(groups) > 1 and (not all(kinds) or len({*kinds}) < len(kinds) or workers is not None):
            raise ExperimentError(
                f"--gpus: got {gpus}; several kinds of machines need a KIND:N each, all different, and have one worker"
                " per GPU, without --workers"
            )
        return cls(tuple(groups) or (SameMachines(nodes, workers or 1),), cpus, memory)

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return sum(group.nodes for group in self.groups)

    @property
    def total(self) -> int:
        """Number of workers on all machines."""
        return sum(group.nodes * group.workers for group in self.groups)

    @property
    def only(self) -> SameMachines:
        """The machines of a script that needs all to be alike.

        Raises:
            ExperimentError: They are not.
        """
        if len(self.groups) > 1:
            kinds = " and ".join(group.gpu for group in self.groups)
            raise ExperimentError(f"--gpus: got {kinds}; allowed is one kind (slurm and kuberay take several)")
        return self.groups[0]


@dataclass(frozen=True)
class Job:
    """An experiment that is to run on some machines.

    Attributes:
        file: The experiment.
        words: Overrides, `key=value`.
        out: The experiment's folder, which all machines see.
        machines: The machines.
        env: What Ray sets up for the experiment.
        time: Time limit, HH:MM:SS or D-HH:MM:SS.
        array: Number of jobs to which the runs of a grid are dealt out; None for one that executes all.
        requeue: How often at most the job queues itself again when its time is over.
        slurm: Further options of Slurm, by name.
        image: The image of containers.
        volume: CLAIM:PATH, a volume that all containers see, and where.
    """

    file: Path
    words: tuple[str, ...]
    out: Path
    machines: Machines = field(default_factory=Machines)
    env: Mapping[str, Any] = field(default_factory=dict)
    time: str = "01:00:00"
    array: int | None = None
    requeue: int = 20
    slurm: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    volume: str | None = None

    @property
    def name(self) -> str:
        """The experiment's name, without what a line of Slurm may not hold."""
        return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in self.file.stem)

    @property
    def is_built_in(self) -> bool:
        """Whether the experiment is where Basinet is installed."""
        return self.file in BUILT_IN.values()

    def command(self, file: str | None = None, out: Path | None = None) -> str:
        """Write the arguments of `basinet`.

        Args:
            file: The experiment, as it is called where the job runs; as here if None.
            out: The experiment's folder there; as here if None.

        Returns:
            Words for a shell.
        """
        name = self.file.stem if self.is_built_in else file or str(self.file)
        return shlex.join(["run", name, *self.words, "--out", str(out or self.out)])


def bash(*lines: str) -> str:
    """Write a script.

    Args:
        *lines: Its lines after the first.

    Returns:
        The script.
    """
    return "\n".join(["#!/bin/bash", *lines]) + "\n"
