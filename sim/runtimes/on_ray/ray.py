"""The Ray runtime: the agents of a run in actors, one block each, on one machine or a cluster."""

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from basinet.sim.engines import EngineName
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import EnvPart, RuntimePart
from basinet.sim.runtimes.on_ray.run_packing import Needs, seated, spread
from basinet.sim.runtimes.runtime import Runtime, Seat
from basinet.sim.runtimes.team import Team
from basinet.sim.setup.setup import Setup

__all__ = ["Ray"]


class Ray(Runtime):
    """Actors that Ray starts and places; Ray itself is only imported then."""

    def team(self, setup: Setup, engine: EngineName, stop: threading.Event, waiting: Callable[[str], None]) -> Team:
        """Start actors, and wait until the cluster has placed them."""
        from basinet.sim.runtimes.on_ray.ray_team import RayTeam

        return RayTeam(setup, _needs(self.part), engine, stop, waiting)

    @property
    def workers(self) -> int:
        """Number of actors that share the agents of a run."""
        return self.part.actors

    @property
    def workers_here(self) -> None:
        """Unknown, until Ray has placed the actors."""
        return None

    def device(self) -> torch.device:
        """Return the device of an actor: the configured one, or for "auto" a GPU if Ray has reserved one for it."""
        reserved = self.part.gpus_per_actor > 0 and torch.cuda.is_available()
        return torch.device(("cuda" if reserved else "cpu") if self.part.device == "auto" else self.part.device)

    def threads(self) -> int:
        """Return how many threads an actor may use: the configured number, or the processors reserved for it."""
        return self.part.threads or max(1, int(self.part.cpus_per_actor))

    def check(self, setup: Setup) -> None:
        """Check that Ray can reserve what an actor needs, and that what it sends to actors is here."""
        if self.part.gpus_per_actor > 1 and self.part.gpus_per_actor % 1:
            raise ExperimentError(
                f"runtime.gpus_per_actor: got {self.part.gpus_per_actor:g}; allowed are fractions of one GPU, and whole"
                " numbers of GPUs"
            )
        env = self.part.env or EnvPart()
        for key, paths in ("working_dir", [env.working_dir or "."]), ("py_modules", env.py_modules or []):
            for path in paths:
                if "://" not in path and not Path(path).exists():
                    raise ExperimentError(f"runtime.env.{key}: {path} does not exist here, from where Ray sends it")

    def seats(self) -> list[Seat]:
        """Say where actors would be if nothing else used the cluster."""
        from basinet.sim.runtimes.on_ray.ray_cluster import check_room, nodes_ahead

        needs, there = _needs(self.part), nodes_ahead()
        check_room(needs, there)
        gpu = needs.gpus > 0 and self.part.device in ("auto", "cuda")
        device = "cuda" if gpu else "cpu" if self.part.device == "auto" else self.part.device
        memory = {node.name: math.inf if device.startswith("cuda") else node.memory for node in there}
        return [Seat(node.name, device, self.threads(), memory[node.name]) for node in seated(needs, there)]

    def check_env(self) -> None:
        """Do nothing: Ray sets up what it is asked for."""

    @staticmethod
    def carry_out(work: Sequence[Callable[[], None]], parts: Sequence[RuntimePart]) -> None:
        """Execute runs in parallel, as many as fit on the cluster; actors are kept for the next run."""
        from basinet.sim.runtimes.on_ray.ray_cluster import check_room, cluster, nodes
        from basinet.sim.runtimes.on_ray.ray_crews import kept_crews

        needs = [_needs(part) for part in parts]
        with cluster(_env(parts)):
            there = nodes()
            for need in dict.fromkeys(needs):
                check_room(need, there)
            with kept_crews():
                spread(work, needs, nodes)


def _env(parts: Sequence[RuntimePart]) -> dict[str, Any]:
    """Return what Ray sets up for all actors of an experiment."""
    first, *others = [{} if part.env is None else part.env.given() for part in parts]
    if any(env != first for env in others):
        raise ExperimentError("runtime.env: it differs among the runs; allowed is one environment for all of them")
    return first


def _needs(part: RuntimePart) -> Needs:
    return Needs(part.actors, part.cpus_per_actor, part.gpus_per_actor)
