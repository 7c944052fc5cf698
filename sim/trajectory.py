"""The way that a run takes: where its centroids, and its agents if asked, are at each evaluation.

RUN/trajectory.bin   a line of JSON that says what follows, padded to a fixed length; then a frame an evaluation, of the
                     numbers [replicas, points, parameters] as they lie in memory
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.component import ExperimentError

__all__ = ["FILE", "Trajectory", "TrajectoryWriter", "load_trajectory", "trajectory_bytes"]

FILE = "trajectory.bin"

_HEADER = 256


def trajectory_bytes(*, evaluations: int, replicas: int, points: int, parameters: int, itemsize: int) -> int:
    """Compute how long the file is going to be.

    Args:
        evaluations: Evaluations of the run, its start among them.
        replicas: R.
        points: Points of a replica: 1, or 1 + K with the agents.
        parameters: P.
        itemsize: Bytes of a number.

    Returns:
        Bytes.
    """
    return _HEADER + evaluations * replicas * points * parameters * itemsize


@dataclass(frozen=True)
class Trajectory:
    """Where a run has been.

    Attributes:
        steps: The steps, [F].
        points: The centroid of each replica, and after it the agents if they were recorded, [F, R, 1 or 1 + K, P]; read
            from the file as it is used.
    """

    steps: NDArray[np.int64]
    points: NDArray[Any]


class TrajectoryWriter:
    """Writes the file of a run; what a crash has cut short is written again.

    Args:
        folder: The run's folder.
        every: Steps between two evaluations.
        num_steps: Steps of the run, the last of which is evaluated too.
    """

    def __init__(self, folder: Path, every: int, num_steps: int) -> None:
        self.path = folder / FILE
        self.every = every
        self.num_steps = num_steps

    def append(self, centroids: Tensor, agents: Tensor) -> None:
        """Add a frame.

        Args:
            centroids: [R, P], on the CPU.
            agents: [R·K, P] in the order of rows, or [0, P].
        """
        replicas, size = centroids.shape
        frame = torch.cat([centroids[:, None], agents.view(replicas, -1, size)], 1).numpy()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            if not file.tell():
                header = {"dtype": frame.dtype.str, "shape": frame.shape, "every": self.every, "steps": self.num_steps}
                file.write(json.dumps(header).encode().ljust(_HEADER - 1) + b"\n")
            file.write(frame.data)
            file.flush()
            os.fsync(file.fileno())  # before a checkpoint may count on it

    def forget_after(self, step: int) -> None:
        """Drop frames later than a step: a run that resumes from there writes them again.

        Args:
            step: The step of the checkpoint; -1 drops everything.

        Raises:
            ExperimentError: Frames that the checkpoint counts on are missing.
        """
        if step < 0:
            self.path.unlink(missing_ok=True)
            return
        frames = step // self.every + 1 + (step == self.num_steps and step % self.every > 0)
        size = self.path.stat().st_size if self.path.exists() else 0
        length = _HEADER + frames * _frame_bytes(_header(self.path)) if size >= _HEADER else _HEADER + 1
        if size < length:
            raise ExperimentError(f"{self.path}: the file is damaged; --fresh starts the run again")
        os.truncate(self.path, length)


def _header(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found: dict[str, Any] = json.loads(file.read(_HEADER))
    except ValueError as error:
        raise ExperimentError(f"{path}: the file is damaged; --fresh starts the run again") from error
    return found


def _frame_bytes(header: dict[str, Any]) -> int:
    return int(math.prod(header["shape"]) * np.dtype(header["dtype"]).itemsize)


def load_trajectory(folder: Path) -> Trajectory | None:
    """Read where a run has been, finished or not.

    Args:
        folder: The run's folder.

    Returns:
        The trajectory; None if none was recorded.

    Raises:
        ExperimentError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists() or path.stat().st_size < _HEADER:
        return None
    header = _header(path)
    frames = (path.stat().st_size - _HEADER) // _frame_bytes(header)
    if not frames:
        return None
    points = np.memmap(path, header["dtype"], "r", _HEADER, (frames, *header["shape"]))
    return Trajectory(np.minimum(np.arange(frames) * header["every"], header["steps"]), points)
