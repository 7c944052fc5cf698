"""Predicted and measured excess risk of a finished run at its minimum."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import optim

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.measures.risk import ExcessRisk, descend, newton_decrement
from basinet.analysis.runs.measure_replica import CHUNK
from basinet.analysis.statistics.replica_values import moments
from basinet.analysis.theory import (
    Quadratics,
    RiskParts,
    excess_risk_after,
    probed_excess_risk,
    probed_stability_limit,
    rule_of,
    stability_limit,
)
from basinet.analysis.theory.local_quadratic import LocalQuadratic, local_quadratic
from basinet.analysis.theory.sample_noise import check_samples, shares_of_noise
from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.run.records import FINISHED
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks.landscapes.landscape import Landscape

__all__ = ["Prediction", "predict_run"]

Array = NDArray[np.float64]
Place = Literal["minimum", "centroid"]


@dataclass(frozen=True)
class Prediction:
    """Theory and measurement at the end of a run, replica by replica.

    Attributes:
        replicas: Indices of the replicas.
        at: Where Hessian, noise and heterogeneity were measured. At the centroid only the disagreement is predicted, as
            the centroid is not at rest there.
        predicted: Predicted parts of the excess risk.
        centroid: Measured excess risk of the centroid, J(x̄) − J(x*).
        disagreement: Measured mean loss of the agents above the centroid's, Σ_k π_k J(x_k) − J(x̄).
        newton: Newton decrement at the centroid.
        top_eigenvalue: λ_max at the place `at`.
        lr: The largest learning rate of the run.
        stability_limit: The learning rate at and above which the minimum is unstable, in each replica.
        method: How Hessian and noise were measured.
        assumptions: The approximations of the theory.
    """

    replicas: list[int]
    at: Place
    predicted: list[RiskParts]
    centroid: list[float]
    disagreement: list[float]
    newton: list[float]
    top_eigenvalue: list[float]
    lr: float
    stability_limit: list[float]
    method: str
    assumptions: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Tabulate prediction and measurement.

        Returns:
            One row per part: `part`, `predicted`, `measured` (means over the replicas; the smallest stability limit)
            and `error`, the standard error of the mean difference.
        """
        total = [a + b for a, b in zip(self.centroid, self.disagreement, strict=True)]
        at_rest = self.at == "minimum"
        lines = [
            ("excess risk of the agents", [p.total for p in self.predicted] if at_rest else None, total),
            ("excess risk of the centroid", [p.centroid for p in self.predicted] if at_rest else None, self.centroid),
            ("cost of disagreement", [p.disagreement for p in self.predicted], self.disagreement),
            ("  of it, by different data", [p.disagreement_bias for p in self.predicted], None),
            ("  of it, by gradient noise", [p.disagreement_noise for p in self.predicted], None),
            (
                "Newton decrement of the centroid",
                [p.centroid for p in self.predicted] if at_rest else None,
                self.newton,
            ),
            (f"λ_max at the {self.at}", None, self.top_eigenvalue),
            ("largest stable learning rate", [min(self.stability_limit)], None),
        ]
        rows = []
        for part, predicted, measured in lines:
            row: dict[str, Any] = {"part": part}
            row["predicted"] = None if predicted is None else moments(predicted)[0]
            row["measured"] = None if measured is None else moments(measured)[0]
            both = predicted is not None and measured is not None
            pairs = zip(measured or [], predicted or [], strict=True) if both else []
            row["error"] = moments([m - p for m, p in pairs])[1]
            rows.append(row)
        return rows


def predict_run(folder: Path, *, at: Place = "minimum", replicas: int | None = None) -> Prediction:
    """Predict the excess risk at the end of a finished run, and measure it.

    A descent from the centroid of each replica finds the minimum of its basin. Hessian, gradient noise and
    heterogeneity there define a quadratic, on which all steps of the run are followed from the minimum, with its own
    learning rates. If the minimum is far away, as for cross-entropy on separable data, measure them at the centroid:
    the agents' disagreement adapts much faster than the centroid moves.

    Args:
        folder: Folder of the run.
        at: Where Hessian, noise and heterogeneity are measured: "minimum" or "centroid".
        replicas: Number of replicas; None for all.

    Returns:
        Theory and measurement.

    Raises:
        ExperimentError: If the run is not finished, all of its replicas have diverged, or theory does not cover it.
    """
    run = load_run(folder)
    if run.status["state"] not in FINISHED:
        raise ExperimentError(f"{folder}: the run is not finished, but {run.status['state']}")
    setup = build_setup(Config.parse({**run.config, "analysis": []})).with_frozen(run.path)
    _check(setup)
    state = load_checkpoint(RunFolder(folder).checkpoint)
    chosen = [r for r in range(setup.config.replicas) if r not in state["diverged"]][:replicas]
    if not chosen:
        raise ExperimentError(f"{folder}: all replicas have diverged")
    device, products = runtime_of(setup.config.runtime).device(), setup.config.analysis_products
    task = setup.task.to(device, torch.float64)
    found: dict[str, list[Any]] = defaultdict(list)
    product = _limit(setup, 1.0)  # of learning rate and curvature
    for replica in chosen:
        model = setup.template().to(device, torch.float64).eval()
        rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
        x = state["rows"]["parameters"][rows].to(device, torch.float64)
        if state["rows"]["buffers"]:
            raise ExperimentError("model: its buffers (running statistics) move the minimum as they change")
        pi = torch.from_numpy(setup.centroid_weights).to(x)
        load_vector(model, x[0] + pi @ (x - x[0]), {})
        here = HessianOperator(model, task.objective, task.train, chunk=CHUNK, products=products)
        risk = descend(here)
        losses = np.array([here.at(point.cpu().numpy()).loss() for point in x])
        found["centroid"].append(risk.value)
        found["risk"].append(risk)
        found["disagreement"].append(float(setup.centroid_weights @ losses) - risk.loss)
        found["newton"].append(newton_decrement(here))
        if at == "minimum":
            load_vector(model, torch.from_numpy(risk.point).to(x), {})
        holdings = setup.holdings[replica] if setup.holdings else []
        local = local_quadratic(
            model,
            task,
            holdings,
            setup.weights.toarray(),
            agents=setup.num_agents,
            seed=setup.config.seed,
            products=products,
        )
        held = [len(places) for places in holdings]
        found["parts"].append(_predict(setup, local, at, held))
        found["spread"].append(0.0 if _count_alike(setup, held) else local.spread)
        top = float(local.curvature.max())
        found["top"].append(top)
        found["limit"].append(product / top)
    assumptions = [f"each replica is assumed to stay around its {at} for the whole run, and the loss to be quadratic"]
    if len(setup.sequence) > 1:
        assumptions.append("the graph changes from step to step")
    if setup.config.sampling == "epochs" and holdings:
        assumptions.append(
            "samples are assumed to be drawn with replacement, though each was drawn once per epoch; agents whose"
            " batches are all of their samples have no noise"
        )
    if not isinstance(task, Landscape) or task.law.multiplicative:
        assumptions.append(f"the gradient noise is assumed to be that at the {at}, wherever an agent is")
    if max(found["spread"]) > 0:
        one = "all agents are assumed to have the Hessian of all samples"
        if local.own is not None:
            one = "the largest stable learning rate assumes the Hessian of all samples for all agents"
        assumptions.append(
            f"{one}, from which their own differ by {max(found['spread']):.2g} of its norm (root mean square)"
        )
    if local.probes is not None:
        assumptions.append(
            f"all agents are assumed to have the mean noise, estimated from {local.probes} vectors, which adds a"
            f" standard error of up to {np.sqrt(2 / local.probes):.0%}"
        )
    lr = _rates(setup).max()
    assumptions += _doubts(at, found["risk"], lr, found["limit"])
    return Prediction(
        chosen, at, found["parts"], found["centroid"], found["disagreement"], found["newton"], found["top"],
        lr, found["limit"], local.method, assumptions,
    )  # fmt: skip


def _doubts(at: Place, risks: Sequence[ExcessRisk], lr: float, limits: Sequence[float]) -> list[str]:
    """Describe the replicas whose minimum was not reached or is not stable."""
    found = []
    count, norms = len(risks), [risk.gradient_norm for risk in risks if not risk.converged]
    if norms:
        what = (
            "there the prediction is for another place than the run's; use --at centroid"
            if at == "minimum"
            else "the measured excess risk is a lower bound"
        )
        found.append(
            f"in {len(norms)} of {count} replicas the descent reached no minimum and ended at a gradient norm of up to"
            f" {max(norms):.2g}: {what}"
        )
    unstable = sum(lr >= limit for limit in limits)
    if unstable:
        found.append(
            f"in {unstable} of {count} replicas the learning rate {lr:.4g} is not below the largest stable one, so the"
            f" {at} is unstable"
        )
    return found


def _check(setup: Setup) -> None:
    """Raise if theory does not cover a run."""
    settings = setup.config.optimizer.describe()
    if setup.attackers.any() or setup.config.personal:
        raise ExperimentError("attack, personal: theory covers only honest agents that combine all of their parameters")
    if setup.faults:
        raise ExperimentError("faults: theory covers only networks in which all messages arrive as they were sent")
    check_samples(setup)
    for key in ("averaging", "clipping", "stop_early"):
        if getattr(setup.config, key) is not None:
            raise ExperimentError(f"{key}: theory covers only plain steps, up to the last one")
    if setup.rates_depend_on_evaluations:
        raise ExperimentError(f"schedule: {setup.config.schedule.name} sets rates that are not known before the run")
    for key in ("groups", "layer_decay"):
        if settings.get(key):
            raise ExperimentError(f"optimizer.{key}: theory covers only one learning rate for all parameters")
    if settings.get("weight_decay"):
        raise ExperimentError("optimizer.weight_decay: it moves the minimum away from that of the training loss")


def _rates(setup: Setup) -> Array:
    """Return the learning rate of each step."""
    lr = float(setup.config.optimizer.describe()["lr"])
    return lr * np.array([setup.rate_factor(step) for step in range(setup.num_steps)])


def _plain_rule(setup: Setup) -> tuple[Any, Any] | None:
    """Return the rule and the weights of a run with scalar recursions, otherwise None."""
    settings = setup.config.optimizer.describe()
    found = rule_of(setup.strategy())
    plain = setup.config.optimizer.target is optim.SGD and not settings.get("momentum")
    if found is None or not plain or len(setup.sequence) > 1 or abs(setup.weights - setup.weights.T).max() > 1e-8:
        return None
    rule, rounds = found
    return rule, np.linalg.matrix_power(setup.weights.toarray(), rounds)


def _count_alike(setup: Setup, held: Sequence[int]) -> bool:
    """Return whether the agents' losses average to that of all samples: all at one point, with equally many samples."""
    known = rule_of(setup.strategy())
    return known is not None and known[0] == "centralized" and len(set(held)) == 1


def _predict(setup: Setup, local: LocalQuadratic, at: Place, held: Sequence[int]) -> RiskParts:
    """Predict the excess risk after the last step on a local quadratic."""
    # A minimum has no negative curvature; what remains after the descent is rounding and adds no risk.
    curvature = np.maximum(local.curvature, 0) if at == "minimum" else local.curvature
    share = shares_of_noise(setup, held)
    noise, shifts = local.noise * share[:, None], local.shifts
    if at == "centroid":
        shifts = shifts - setup.centroid_weights @ shifts
    known = _plain_rule(setup)
    if known is not None and local.own is None:
        rule, W = known
        return excess_risk_after(rule, W, rates=_rates(setup), curvature=curvature, noise=noise, shifts=shifts)
    quadratics = Quadratics.of(curvature, noise, shifts, agents=setup.num_agents)
    if local.own is not None:
        quadratics = dataclasses.replace(
            local.own,
            noise=local.own.noise * share[:, None, None, None],
            shifts=shifts[:, None],
            risk_hessian=np.diag(curvature)[None],
        )
    return probed_excess_risk(setup, quadratics, setup.num_steps)


def _limit(setup: Setup, top: float) -> float:
    known = _plain_rule(setup)
    return probed_stability_limit(setup, top) if known is None else stability_limit(*known, top)
