"""Events of TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basinet.sim.loggers.logger import LOGGERS

__all__ = ["TensorBoard"]


@LOGGERS.register("tensorboard")
class TensorBoard:
    """Event files of TensorBoard, which `tensorboard --logdir DIR` shows.

    Args:
        folder: Folder of the run.
        config: The resolved experiment.
        directory: Folder of the event files within that of the run.
    """

    package = "tensorboard"

    def __init__(self, folder: Path, config: Mapping[str, Any], directory: str = "tensorboard") -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / directory
        is_new = not place.exists()
        self._writer: Any = SummaryWriter(str(place))
        if is_new:
            self._writer.add_text("experiment", f"```json\n{json.dumps(config, indent=1, default=str)}\n```", 0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive what was measured at a step."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # what was logged is not logged again, should the process die

    def close(self) -> None:
        """Receive nothing more."""
        self._writer.close()
