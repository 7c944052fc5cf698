"""The trajectory of a run: the centroids and, optionally, the agents at each evaluation.

RUN/trajectory.bin   a JSON line that describes the contents, padded to a fixed length; then one frame per evaluation,
                     the numbers [replicas, points, parameters] in native byte order
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.run.files import Damaged, GrowingFile, Vouched, check_vouched, checksum, plain_file
from basinet.sim.run.records import load_status

__all__ = ["FILE", "Trajectory", "TrajectoryWriter", "load_trajectory", "trajectory_bytes"]

FILE = "trajectory.bin"

_HEADER = 256


def trajectory_bytes(*, evaluations: int, replicas: int, points: int, parameters: int, itemsize: int) -> int:
    """Compute the final length of the file.

    Args:
        evaluations: Number of evaluations of the run, including its start.
        replicas: R.
        points: Points per replica: 1, or 1 + K with the agents.
        parameters: P.
        itemsize: Bytes of a number.

    Returns:
        The length in bytes.
    """
    return _HEADER + evaluations * replicas * points * parameters * itemsize


@dataclass(frozen=True)
class Trajectory:
    """The recorded trajectory of a run.

    Attributes:
        steps: The steps, [F].
        points: The centroid of each replica, followed by the agents if they were recorded, [F, R, 1 or 1 + K, P];
            memory-mapped.
    """

    steps: NDArray[np.int64]
    points: NDArray[Any]


class TrajectoryWriter(GrowingFile):
    """Writes the trajectory of a run; frames cut short by a crash are written again.

    Args:
        folder: The run's folder.
        every: Steps between two evaluations.
        num_steps: Number of steps; the last one is evaluated, too.
    """

    def __init__(self, folder: Path, every: int, num_steps: int) -> None:
        super().__init__(folder / FILE)
        self.every = every
        self.num_steps = num_steps

    def add(self, centroids: Tensor, agents: Tensor) -> None:
        """Add a frame.

        Args:
            centroids: [R, P], on the CPU.
            agents: [R·K, P] in the order of rows, or [0, P].
        """
        replicas, size = centroids.shape
        frame = torch.cat([centroids[:, None], agents.view(replicas, -1, size)], 1).numpy()
        if not self.length:
            header = {"dtype": frame.dtype.str, "shape": frame.shape, "every": self.every, "steps": self.num_steps}
            self.append(json.dumps(header).encode().ljust(_HEADER - 1) + b"\n")
        self.append(frame.tobytes())

    def until(self, step: int) -> Vouched:
        """Return the record of the file up to a step.

        Args:
            step: The step of a checkpoint that does not contain the record itself.

        Returns:
            Length and checksum of this part.

        Raises:
            Damaged: Frames are missing.
        """
        frames = step // self.every + 1 + (step == self.num_steps and step % self.every > 0)
        content = self.path.read_bytes() if self.path.exists() else b""
        length = _HEADER + frames * _frame_bytes(_header(self.path, content))
        if len(content) < length:
            raise Damaged(self.path, f"{length - len(content)} bytes before step {step} are missing")
        return {"bytes": length, "crc32": checksum(content[:length])}


def _header(path: Path, content: bytes) -> dict[str, Any]:
    """Read the first line, which must describe plain numbers."""
    try:
        found = json.loads(content[:_HEADER])
        whole = [*found["shape"], found["every"], found["steps"]]
        if not re.fullmatch(r"[<>]f[248]", found["dtype"]) or len(found["shape"]) != 3:
            raise ValueError("it does not hold numbers [replicas, points, parameters]")
        if not all(type(number) is int and number > 0 for number in whole):
            raise ValueError("shape, every and steps must be positive whole numbers")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Damaged(path, f"line 1: {error}") from error
    described: dict[str, Any] = found
    return described


def _frame_bytes(header: dict[str, Any]) -> int:
    return int(math.prod(header["shape"]) * np.dtype(header["dtype"]).itemsize)


def load_trajectory(folder: Path) -> Trajectory | None:
    """Read the trajectory of a run, finished or not.

    Args:
        folder: The run's folder.

    Returns:
        The trajectory; None if none was recorded.

    Raises:
        Damaged: The file does not hold what was written.
    """
    path = folder / FILE
    vouched = load_status(folder).get("files", {}).get(FILE)
    if vouched:
        check_vouched(path, vouched)
    if not plain_file(path).exists() or path.stat().st_size < _HEADER:
        return None
    with open(path, "rb") as file:
        header = _header(path, file.read(_HEADER))
    frames = ((vouched or {"bytes": path.stat().st_size})["bytes"] - _HEADER) // _frame_bytes(header)
    if frames < 1:
        return None
    points = np.memmap(path, header["dtype"], "r", _HEADER, (frames, *header["shape"]))
    return Trajectory(np.minimum(np.arange(frames) * header["every"], header["steps"]), points)
