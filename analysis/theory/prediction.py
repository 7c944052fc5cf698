"""What theory predicts of a finished run at the minimum that it has found, beside what is measured there."""

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
from basinet.analysis.measures.risk import ExcessRisk, excess_risk, newton_decrement
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
from basinet.sim.agents.state import load_checkpoint, load_vector
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.run.records import FINISHED
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks.landscape import Landscape

__all__ = ["Prediction", "predict_run"]

Array = NDArray[np.float64]
Place = Literal["minimum", "centroid"]


@dataclass(frozen=True)
class Prediction:
    """Theory and measurement at the end of a run, replica by replica.

    Attributes:
        replicas: Which replicas.
        at: Where Hessian, noise and heterogeneity were measured. What is predicted at the centroid is the disagreement
            around it alone: the centroid is not at rest there.
        predicted: Parts of the excess risk that theory gives.
        centroid: Measured excess risk of the centroid, J(x̄) − J(x*).
        disagreement: What the agents' mean loss was measured above it, Σ_k π_k J(x_k) − J(x̄).
        newton: Newton decrement at the centroid.
        top_eigenvalue: λ_max there.
        lr: The largest learning rate of the run.
        stability_limit: The learning rate from which the minimum cannot be kept, in each replica.
        method: How Hessian and noise were measured.
        assumptions: What theory leaves out.
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
        """Lay prediction and measurement side by side.

        Returns:
            A row a part: `part`, `predicted`, `measured` (means over the replicas; the smallest of the limits of
            stability) and `error`, the standard error of the mean difference.
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

    From the centroid of each replica a descent finds the minimum of its basin. Hessian, gradient noise and
    heterogeneity there make a quadratic, on which the run is followed from the minimum through all of its steps, with
    its own learning rates. Where the minimum is far, as that of a cross-entropy on separable data, take them at the
    centroid: the agents' disagreement follows it much faster than it moves.

    Args:
        folder: Folder of the run.
        at: Where Hessian, noise and heterogeneity are measured: "minimum" or "centroid".
        replicas: How many replicas to look at; None takes all.

    Returns:
        Theory and measurement.

    Raises:
        ExperimentError: If the run is not finished, has diverged in all replicas, or is none that theory can follow.
    """
    run = load_run(folder)
    if run.status["state"] not in FINISHED:
        raise ExperimentError(f"{folder}: the run is not finished, but {run.status['state']}")
    setup = build_setup(Config.parse({**run.config, "analysis": []}))
    _check(setup)
    state = load_checkpoint(RunFolder(folder).checkpoint)
    chosen = [r for r in range(setup.config.replicas) if r not in state["diverged"]][:replicas]
    if not chosen:
        raise ExperimentError(f"{folder}: no replica is left, all have diverged")
    device = runtime_of(setup.config.runtime).device()
    task = setup.task.to(device, torch.float64)
    found: dict[str, list[Any]] = defaultdict(list)
    product = _limit(setup, 1.0)  # of learning rate and curvature
    for replica in chosen:
        model = setup.template().to(device, torch.float64).eval()
        rows = slice(replica * setup.num_agents, (replica + 1) * setup.num_agents)
        x = state["rows"]["parameters"][rows].to(device, torch.float64)
        if state["rows"]["buffers"]:
            raise ExperimentError("model: it has buffers (running statistics), which move the minimum as they change")
        pi = torch.from_numpy(setup.centroid_weights).to(x)
        load_vector(model, x[0] + pi @ (x - x[0]), {})
        here = HessianOperator(model, task.loss, task.train, chunk=CHUNK)
        risk = excess_risk(model, task.loss, task.train, chunk=CHUNK)
        losses = np.array([here.at(point.cpu().numpy()).loss() for point in x])
        found["centroid"].append(risk.value)
        found["risk"].append(risk)
        found["disagreement"].append(float(setup.centroid_weights @ losses) - risk.loss)
        found["newton"].append(newton_decrement(here))
        if at == "minimum":
            load_vector(model, torch.from_numpy(risk.point).to(x), {})
        holdings = setup.holdings[replica] if setup.holdings else []
        local = local_quadratic(
            model, task, holdings, setup.weights.toarray(), agents=setup.num_agents, seed=setup.config.seed
        )
        held = [len(places) for places in holdings]
        found["parts"].append(_predict(setup, local, at, held))
        found["spread"].append(0.0 if _count_alike(setup, held) else local.spread)
        top = float(local.curvature.max())
        found["top"].append(top)
        found["limit"].append(product / top)
    assumptions = [f"each replica is taken to have been around its {at} for the whole run, and the loss as quadratic"]
    if len(setup.sequence) > 1:
        assumptions.append("the graph changes from step to step")
    if setup.config.sampling == "epochs" and holdings:
        assumptions.append(
            "samples are taken as drawn with replacement, where each was drawn once an epoch; agents whose batches are"
            " all of their samples have no noise"
        )
    if not isinstance(task, Landscape) or task.law.multiplicative:
        assumptions.append(f"the noise of the gradients is taken to be that at the {at}, wherever an agent is")
    if max(found["spread"]) > 0:
        one = "all agents are taken to have the Hessian of all samples"
        if local.own is not None:
            one = "the largest stable learning rate is that under the Hessian of all samples for all agents"
        assumptions.append(
            f"{one}, from which their own differ by {max(found['spread']):.2g} of its norm (root mean square)"
        )
    if local.probes is not None:
        assumptions.append(
            f"all agents are taken to have the mean noise, known from {local.probes} vectors: what comes of it has a"
            f" standard error of up to {np.sqrt(2 / local.probes):.0%}"
        )
    lr = _rates(setup).max()
    assumptions += _doubts(at, found["risk"], lr, found["limit"])
    return Prediction(
        chosen, at, found["parts"], found["centroid"], found["disagreement"], found["newton"], found["top"],
        lr, found["limit"], local.method, assumptions,
    )  # fmt: skip


def _doubts(at: Place, risks: Sequence[ExcessRisk], lr: float, limits: Sequence[float]) -> list[str]:
    """Name the replicas in which there is no minimum to rest at, or none was reached."""
    found = []
    count, norms = len(risks), [risk.gradient_norm for risk in risks if not risk.converged]
    if norms:
        what = (
            "there the prediction is of another place than the run's; --at centroid takes that"
            if at == "minimum"
            else "the measured excess risk is a lower bound"
        )
        found.append(
            f"in {len(norms)} of {count} replicas the descent reached no minimum, but ended at a gradient norm of up to"
            f" {max(norms):.2g}: {what}"
        )
    unstable = sum(lr >= limit for limit in limits)
    if unstable:
        found.append(
            f"in {unstable} of {count} replicas the learning rate {lr:.4g} is not below the largest stable one, so that"
            f" the {at} could not be kept"
        )
    return found


def _check(setup: Setup) -> None:
    """Raise if theory does not know what a run does."""
    settings = setup.config.optimizer.describe()
    if setup.attackers.any() or setup.config.personal:
        raise ExperimentError("attack, personal: theory knows agents who combine all of their parameters honestly")
    if setup.config.gradient_noise is not None:
        raise ExperimentError("gradient_noise: theory knows the noise of a batch of samples, and no other")
    if setup.task.ignores:
        raise ExperimentError("task: theory takes a batch for the mean of its samples, and some labels do not count")
    if settings.get("weight_decay"):
        raise ExperimentError("optimizer.weight_decay: it moves the minimum away from that of the training loss")


def _rates(setup: Setup) -> Array:
    """Return the learning rate of each step."""
    lr = float(setup.config.optimizer.describe()["lr"])
    return lr * np.array([setup.rate_factor(step) for step in range(setup.num_steps)])


def _plain_rule(setup: Setup) -> tuple[Any, Any] | None:
    """Return the rule and the weights of a run that has scalar recursions; None for others."""
    settings = setup.config.optimizer.describe()
    found = rule_of(setup.strategy())
    plain = setup.config.optimizer.target is optim.SGD and not settings.get("momentum")
    if found is None or not plain or len(setup.sequence) > 1 or abs(setup.weights - setup.weights.T).max() > 1e-8:
        return None
    rule, rounds = found
    return rule, np.linalg.matrix_power(setup.weights.toarray(), rounds)


def _count_alike(setup: Setup, held: Sequence[int]) -> bool:
    """Return whether agents' losses enter as their mean over all samples: they are at one point, and hold as many."""
    known = rule_of(setup.strategy())
    return known is not None and known[0] == "centralized" and len(set(held)) == 1


def _predict(setup: Setup, local: LocalQuadratic, at: Place, held: Sequence[int]) -> RiskParts:
    """Predict the excess risk after the last step on a local quadratic."""
    # A minimum bends down nowhere; what the descent has left is rounding, and adds no risk.
    curvature = np.maximum(local.curvature, 0) if at == "minimum" else local.curvature
    batch = setup.config.batch_size
    share = np.full(setup.num_agents, 1 / batch)
    if setup.config.sampling == "epochs" and held:
        share[batch % np.array(held) == 0] = 0
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
