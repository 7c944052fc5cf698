"""Runs of MLflow."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basinet.sim.experiment.digest import flat
from basinet.sim.loggers.logger import LOGGERS

__all__ = ["MLflow"]

_TAG = "basinet"
_LONGEST = 6000
"""Longest value of a parameter that MLflow takes."""

_MOST = 100
"""Most parameters that it takes at a time."""


@LOGGERS.register("mlflow")
class MLflow:
    """Runs of MLflow, by default in a local database: `mlflow ui --backend-store-uri sqlite:///runs/NAME/mlflow.db`.

    Args:
        run: Name of the run.
        folder: Its folder.
        identity: What the run is found by when it is resumed.
        config: The resolved experiment, which becomes parameters.
        uri: Where runs are stored; by default, `mlflow.db` in the experiment's folder.
        experiment: Name of the experiment; by default, that of its folder.
    """

    package = "mlflow"

    def __init__(
        self,
        run: str,
        folder: Path,
        identity: str,
        config: Mapping[str, Any],
        uri: str | None = None,
        experiment: str | None = None,
    ) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        home = folder.resolve().parent
        self._client: Any = MlflowClient(uri or f"sqlite:///{home / 'mlflow.db'}")
        name = experiment or home.name
        known = self._client.get_experiment_by_name(name)
        place = known.experiment_id if known else self._client.create_experiment(name)
        found = self._client.search_runs([place], f"tags.{_TAG} = '{identity}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(place, run_name=run, tags={_TAG: identity}).info.run_id
        settings = [Param(key, str(value)[:_LONGEST]) for key, value in flat(config).items()]
        for first in range(0, len(settings), _MOST):
            self._client.log_batch(self._run, params=settings[first : first + _MOST])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive what was measured at a step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, [Metric(name, value, now, step) for name, value in metrics.items()])

    def close(self) -> None:
        """Receive nothing more."""
        self._client.set_terminated(self._run)
