"""What theory predicts of a finished run at the minimum that it has found, beside what is measured there."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.func import functional_call, grad, vmap

from basinet.analysis.hessian import HessianOperator, hessian_matrix
from basinet.analysis.measure import CHUNK
from basinet.analysis.quadrature import quadratic_form
from basinet.analysis.risk import ExcessRisk, excess_risk, newton_decrement
from basinet.analysis.summary import moments
from basinet.analysis.theory import (
    Quadratics,
    RiskParts,
    excess_risk_after,
    probe,
    probed_stability_limit,
    rule_of,
    stability_limit,
)
from basinet.sim.component import ExperimentError
from basinet.sim.config import Config
from basinet.sim.folder import FINISHED, RunFolder, load_run
from basinet.sim.setup import Setup
from basinet.sim.state import load_checkpoint, load_vector
from basinet.sim.tasks import Task
from basinet.sim.tasks.landscape import Landscape
from basinet.sim.worker import pick_device

__all__ = ["DENSE_PARAMETERS", "LocalQuadratic", "Prediction", "local_quadratic", "predict_run"]

Array = NDArray[np.float64]
Place = Literal["minimum", "centroid"]

DENSE_PARAMETERS = 3000
"""Up to so many parameters the Hessian is taken apart into all of its eigenvectors."""

_PROBES = 24
"""Vectors that stand for the noise where the Hessian is too large for that."""

_BATCH = 512
"""Samples whose gradients are held at a time."""


@dataclass(frozen=True, eq=False)
class LocalQuadratic:
    """A loss around its minimum, along directions in which the Hessian is diagonal.

    Attributes:
        curvature: Eigenvalues of H, or nodes that stand for them, [J].
        noise: Variance of a single sample's gradient along each direction, agent by agent, [K, J].
        shifts: What each agent's gradient is at the minimum, [K, J].
        method: How they were found, in words.
    """

    curvature: Array
    noise: Array
    shifts: Array
    method: str


def local_quadratic(
    model: nn.Module, task: Task, holdings: list[NDArray[Any]], W: Array, *, agents: int, seed: int = 0
) -> LocalQuadratic:
    """Measure Hessian, gradient noise and heterogeneity at a minimum, as far as the excess risk depends on them.

    Up to 3000 parameters by all eigenvectors of H. Beyond, by quadrature: the noise enters as Tr φ(H) Σ = E uᵀ φ(H) u
    with vectors u of covariance Σ, which are sums of the samples' centred gradients with random signs, the same for all
    agents; the heterogeneity as b̂ᵀ ψ(H) b̂ for each mode of W; and each such form has nodes and weights.

    Args:
        model: The minimum, in evaluation mode and float64.
        task: Gives loss and data, on the same device.
        holdings: Indices of each agent's samples; empty for a landscape, which knows its noise.
        W: Symmetric mixing matrix [K, K], whose modes the shifts are measured for where the Hessian is large.
        agents: K.
        seed: Seed of the random signs.

    Returns:
        The quadratic.

    Raises:
        ExperimentError: The task generates samples whose noise nobody knows.
    """
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if isinstance(task, Landscape):
        gradients: _Gradients = _Known(task, agents)
    elif holdings:
        gradients = _Sampled(model, task, holdings)
    else:
        raise ExperimentError("task: it generates its samples, and theory needs to know the noise of their gradients")
    if size <= DENSE_PARAMETERS:
        curvature, vectors = np.linalg.eigh(hessian_matrix(model, task.loss, task.train, chunk=CHUNK))
        noise, shifts = gradients.along(vectors)
        return LocalQuadratic(curvature, noise, shifts, f"all {size} eigenvectors of the Hessian")
    operator = HessianOperator(model, task.loss, task.train, chunk=CHUNK)
    rng = np.random.default_rng(seed)
    nodes, noises, shifts_at = [], [], []
    for gradient in gradients.draw(_PROBES, rng):
        h, weights = quadratic_form(operator, gradient)
        nodes.append(h)
        noises.append(np.tile(weights / _PROBES, (agents, 1)))
        shifts_at.append(np.zeros((agents, len(h))))
    _, modes = np.linalg.eigh(W)
    for mode in modes.T[:-1]:
        h, weights = quadratic_form(operator, mode @ gradients.means())
        nodes.append(h)
        noises.append(np.zeros((agents, len(h))))
        shifts_at.append(np.outer(mode, np.sqrt(weights)))
    arrays = (np.concatenate(nodes), np.concatenate(noises, axis=1), np.concatenate(shifts_at, axis=1))
    return LocalQuadratic(*arrays, f"quadrature from {_PROBES} vectors of noise and {agents - 1} modes of W")


class _Gradients(ABC):
    """The distribution of each agent's sample gradients at a point."""

    @abstractmethod
    def along(self, vectors: Array) -> tuple[Array, Array]:
        """Return variance and mean along vectors [P, J] for each agent, [K, J] each."""

    @abstractmethod
    def means(self) -> Array:
        """Return each agent's mean gradient, [K, P]."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Return random vectors whose covariance is the agents' mean noise covariance, [count, P]."""


class _Known(_Gradients):
    def __init__(self, task: Landscape, agents: int) -> None:
        self.covariance = task.noise_covariance.double().cpu().numpy()
        self.shifts = task.shifts.double().cpu().numpy()
        self.agents = agents

    def along(self, vectors: Array) -> tuple[Array, Array]:
        variance = np.einsum("pj,pq,qj->j", vectors, self.covariance, vectors)
        return np.tile(variance, (self.agents, 1)), self.shifts @ vectors

    def means(self) -> Array:
        return self.shifts

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        return rng.multivariate_normal(np.zeros(len(self.covariance)), self.covariance, size=count)


class _Sampled(_Gradients):
    def __init__(self, model: nn.Module, task: Task, holdings: list[NDArray[Any]]) -> None:
        self.model, self.task, self.holdings = model, task, holdings
        self.parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self.frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
        self.frozen |= dict(model.named_buffers())

    def _of(self, samples: NDArray[Any]) -> Array:
        """Compute the gradients of some samples, [n, P]."""

        def loss(parameters: dict[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
            single = tuple(t[None] for t in batch)
            return self.task.loss(lambda x: functional_call(self.model, {**parameters, **self.frozen}, (x,)), single)

        places = torch.from_numpy(samples).to(self.task.train[0].device)
        batch = tuple(t[places] for t in self.task.train)
        found = vmap(grad(loss), in_dims=(None, 0))(self.parameters, batch)
        array: Array = torch.cat([g.flatten(1) for g in found.values()], dim=1).double().cpu().numpy()
        return array

    def along(self, vectors: Array) -> tuple[Array, Array]:
        sums, squares = np.zeros((2, len(self.holdings), vectors.shape[1]))
        for agent, held in enumerate(self.holdings):
            for start in range(0, len(held), _BATCH):
                projected = self._of(held[start : start + _BATCH]) @ vectors
                sums[agent] += projected.sum(axis=0) / len(held)
                squares[agent] += (projected**2).sum(axis=0) / len(held)
        return np.maximum(squares - sums**2, 0), sums

    def means(self) -> Array:
        return np.stack([
            sum(self._of(held[start : start + _BATCH]).sum(axis=0) for start in range(0, len(held), _BATCH)) / len(held)
            for held in self.holdings
        ])  # fmt: skip

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        probes = np.zeros((count, sum(p.numel() for p in self.parameters.values())))
        means = self.means()
        for agent, held in enumerate(self.holdings):
            share = 1 / np.sqrt(len(held) * len(self.holdings))
            for start in range(0, len(held), _BATCH):
                centred = self._of(held[start : start + _BATCH]) - means[agent]
                probes += share * rng.choice([-1.0, 1.0], size=(count, len(centred))) @ centred
        return probes


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
        ExperimentError: The run is not finished, has diverged in all replicas, or is none that theory can follow.
    """
    run = load_run(folder)
    if run.status["state"] not in FINISHED:
        raise ExperimentError(f"{folder}: the run is not finished, but {run.status['state']}")
    setup = Setup.build(Config.parse(run.config))
    _check(setup)
    state = load_checkpoint(RunFolder(folder).checkpoint)
    chosen = [r for r in range(setup.config.replicas) if r not in state["diverged"]][:replicas]
    if not chosen:
        raise ExperimentError(f"{folder}: no replica is left, all have diverged")
    device = pick_device(setup.config.runtime)
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
        found["parts"].append(_predict(setup, local, at))
        top = float(local.curvature.max())
        found["top"].append(top)
        found["limit"].append(product / top)
    assumptions = [f"each replica is taken to have been around its {at} for the whole run, and the loss as quadratic"]
    if len(setup.sequence) > 1:
        assumptions.append("the graph changes from step to step")
    if setup.config.sampling == "epochs":
        assumptions.append("samples are taken as drawn with replacement, where each was drawn once an epoch")
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
    """Return the rule and the weights of a run that has scalar recursions, else None."""
    settings = setup.config.optimizer.describe()
    found = rule_of(setup.strategy())
    plain = setup.config.optimizer.target is optim.SGD and not settings.get("momentum")
    if found is None or not plain or len(setup.sequence) > 1 or abs(setup.weights - setup.weights.T).max() > 1e-8:
        return None
    rule, rounds = found
    return rule, np.linalg.matrix_power(setup.weights.toarray(), rounds)


def _predict(setup: Setup, local: LocalQuadratic, at: Place) -> RiskParts:
    # A minimum bends down nowhere; what the descent has left is rounding, and adds no risk.
    curvature = np.maximum(local.curvature, 0) if at == "minimum" else local.curvature
    noise, shifts = local.noise / setup.config.batch_size, local.shifts
    if at == "centroid":
        shifts = shifts - setup.centroid_weights @ shifts
    known = _plain_rule(setup)
    rates = _rates(setup)
    if known is not None:
        rule, W = known
        return excess_risk_after(rule, W, rates=rates, curvature=curvature, noise=noise, shifts=shifts)
    if (rates != rates[0]).any():
        raise ExperimentError(
            f"schedule: {setup.config.strategy.name} with {setup.config.optimizer.name} is followed at a constant"
            " learning rate only"
        )
    recursion = probe(setup, Quadratics.of(curvature, noise, shifts, agents=setup.num_agents))
    return recursion.excess_risk(recursion.after(setup.num_steps // recursion.steps))


def _limit(setup: Setup, top: float) -> float:
    known = _plain_rule(setup)
    return probed_stability_limit(setup, top) if known is None else stability_limit(*known, top)
