"""What a finished run says of its problem: noise and heterogeneity of the agents' gradients."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.runs.measure_replica import CHUNK
from basinet.analysis.theory.local_quadratic import gradients_at
from basinet.analysis.theory.sample_noise import check_samples, shares_of_noise
from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.run.records import FINISHED
from basinet.sim.setup.build import build_setup

__all__ = ["Calibration", "calibrated"]

_APART = ("network", "compute", "faults", "loggers")
"""Keys of a run that say nothing of its problem."""


class Calibration(NamedTuple):
    """What was measured; see `basinet.analysis.theory.rounds_to_accuracy.Problem`.

    Attributes:
        noise: Variance of an agent's gradient, relative to the squared gradient at the start.
        heterogeneity: Mean square of the agents' own gradients, less their mean, likewise.
        replicas: How many replicas it is the mean of.
    """

    noise: float
    heterogeneity: float
    replicas: int


def calibrated(folder: Path) -> Calibration:
    r"""Measure noise and heterogeneity at the end of a finished run, relative to its start.

    $$
    ν = \frac{1}{B} \frac{\mathrm{mean}_k \mathrm{Tr} Σ_k(x̄)}{‖∇J(x_0)‖²}, \qquad
    z = \frac{\mathrm{mean}_k ‖∇J_k(x̄) - \mathrm{mean}_l ∇J_l(x̄)‖²}{‖∇J(x_0)‖²}
    $$

    with the covariance Σ_k of the gradients of agent k's samples, batches of B samples, the start x₀ and the centroid x̄
    after the last step; numerators and denominators are means over the replicas.

    Args:
        folder: Folder of the run.

    Returns:
        What was measured.

    Raises:
        ExperimentError: The run is not finished, all of its replicas have diverged, or its gradients are not means of
            those of independent samples.
    """
    run = load_run(folder)
    if run.status["state"] not in FINISHED:
        raise ExperimentError(f"the run is not finished, but {run.status['state']}")
    described = {key: value for key, value in run.config.items() if key not in _APART}
    setup = build_setup(Config.parse({**described, "analysis": []})).with_frozen(run.path)
    if setup.attackers.any() or setup.config.personal:
        raise ExperimentError("attack, personal: not all of its agents learn the same")
    check_samples(setup)
    state = load_checkpoint(RunFolder(folder).checkpoint)
    if state["rows"]["buffers"]:
        raise ExperimentError("model: its buffers (running statistics) change its gradients")
    task, layout = setup.task.to("cpu", torch.float64), setup.layout(setup.template())
    found = []
    for replica in range(setup.config.replicas):
        if replica in state["diverged"]:
            continue
        start = setup.start(replica, layout).double().eval()
        first = HessianOperator(start, task.objective, task.train, chunk=CHUNK).gradient()
        rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
        x = state["rows"]["parameters"][rows].double()
        model = load_vector(setup.template().double().eval(), torch.from_numpy(setup.centroid_weights) @ x, {})
        holdings = setup.holdings[replica] if setup.holdings else []
        gradients = gradients_at(model, task, holdings, agents=setup.num_agents)
        means = gradients.means()
        noise = gradients.variances() * shares_of_noise(setup, [len(places) for places in holdings])
        found.append((noise.mean(), ((means - means.mean(0)) ** 2).sum(1).mean(), (first**2).sum()))
    if not found:
        raise ExperimentError("all of its replicas have diverged")
    noise, heterogeneity, square = np.mean(found, axis=0)
    if not square > 0:
        raise ExperimentError("it started where the loss has no gradient")
    return Calibration(float(noise / square), float(heterogeneity / square), len(found))
