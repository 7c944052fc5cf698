"""Runs of Weights & Biases."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from basinet.sim.loggers.logger import LOGGERS

__all__ = ["WandB"]

_FINISHED = "finished"
"""File in the folder of an offline run that was closed: until then, most of it is in memory."""


@LOGGERS.register("wandb")
class WandB:
    """Runs of Weights & Biases, by default offline: `wandb sync --append runs/NAME/wandb/offline-run-*` sends them.

    Args:
        run: Name of the run.
        folder: Its folder.
        identity: What the run is found by when it is resumed.
        config: The resolved experiment.
        project: Name of the project; by default, that of the experiment's folder.
        mode: Whether runs are sent; the key of the account is read from the environment, never from an experiment.
    """

    package = "wandb"

    def __init__(
        self,
        run: str,
        folder: Path,
        identity: str,
        config: Mapping[str, Any],
        project: str | None = None,
        mode: Literal["offline", "online"] = "offline",
    ) -> None:
        import wandb

        home = folder.resolve().parent
        self.keeps_late = mode == "offline"
        if self.keeps_late:
            _discard_unfinished(home / "wandb", identity)
        self._run: Any = wandb.init(
            project=project or home.name,
            name=run,
            id=identity,
            config=dict(config),
            dir=str(home),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
        )
        # What is measured of kept checkpoints comes after the last step.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive what was measured at a step."""
        self._run.log({**metrics, "step": step})

    def close(self) -> None:
        """Receive nothing more."""
        self._run.finish()
        if self.keeps_late:
            (Path(self._run.dir).parent / _FINISHED).touch()


def _discard_unfinished(home: Path, identity: str) -> None:
    """Remove what a process that died has left of a run, whose metrics are received again."""
    for part in home.glob(f"offline-run-*-{identity}"):
        if not (part / _FINISHED).exists():
            shutil.rmtree(part)
