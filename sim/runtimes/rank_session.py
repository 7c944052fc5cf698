"""The part of a rank in a run: its worker, its log, and the process group over which rows travel."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.engines import EngineName
from basinet.sim.run.records import Row
from basinet.sim.runtimes.ranks import Ranks
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.team import TIMEOUT, Analysis
from basinet.sim.runtimes.worker_log import WorkerLog
from basinet.sim.setup.setup import Setup

__all__ = ["RankSession"]


class RankSession:
    """One rank's part in a run, whose methods the first rank calls.

    Args:
        ranks: This rank among the others.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.threads = torch.get_num_threads()
        self.worker: Worker | None = None
        self.log: WorkerLog | None = None

    def take(self, setup: Setup) -> tuple[str, str]:
        """Take the parts of a run; return the machine and the device."""
        self.setup = setup
        self.device = runtime_of(setup.config.runtime).device()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        return socket.gethostname(), str(self.device)

    def meet(self, backend: str, meeting: int, placement: Placement) -> None:
        """Join the process group over which rows travel."""
        self.placement = replace(placement, rank=self.ranks.rank)
        dist.init_process_group(
            backend,
            store=PrefixStore(f"meeting {meeting}", self.ranks.store),
            rank=self.ranks.rank,
            world_size=self.ranks.size,
            timeout=TIMEOUT,
            # NCCL then connects all ranks at once; a first message between only two would not find the others.
            device_id=self.device if backend == "nccl" else None,
        )

    def host(self, engine: EngineName) -> None:
        """Build the block."""
        worker = self.worker = Worker(self.setup, self.placement, engine)
        self.ranks.step = lambda: worker.block.step

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker; without a block this rank can still `analyze`."""
        try:
            return getattr(self.worker or self, method)(*arguments)
        except Exception:
            if self.log is not None:
                self.log.failed()
                self.log.close()  # what this rank says of it is for the user
            raise

    def log_to(self, folder: Path) -> bool:
        """Write what this process prints into a file; return whether that has to be collected."""
        self.log = WorkerLog(folder, self.ranks.rank, leads=self.ranks.rank == 0)
        return self.log.is_far

    def collected(self) -> str:
        """Return what has been printed since the last call, if it has to be collected."""
        return "" if self.log is None else self.log.collected()

    def analyze(self, analysis: Analysis, state: dict[str, Any], replica: int) -> list[Row]:
        """Analyse a replica together with the other ranks, as a worker does."""
        return analysis(self.setup, state, replica, self.placement.rank, self.placement.workers)

    def leave(self) -> None:
        """Release the block and leave the process group."""
        if self.log is not None:
            self.log.close()
        if self.worker is not None:
            self.worker.close()
        self.worker = None
        self.ranks.step = lambda: None
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(self.threads)
