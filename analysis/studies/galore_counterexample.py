"""A quadratic on which GaLore stops short of the minimum, and two remedies: random subspaces and larger batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor, nn, optim

from basinet.algorithms import draws
from basinet.algorithms.optimizers import GaLore, GoLore
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import GREY, styles
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Findings, Progress

__all__ = ["Counterexample", "descend", "galore_counterexample"]

_SIZE = 10
_RANK = 4
_SIGNAL = _SIZE - _RANK

_SEEDS = (42, 0, 1, 2)
_RATE, _PERIOD, _STEPS = 5e-3, 20, 6000
_PUBLISHED_PERIOD, _PUBLISHED_TRAVEL = 100, 6.0
_SMALL = 5e-3


@dataclass(frozen=True)
class Counterexample:
    """J(X) = ½ ‖A X‖² + ⟨B, X⟩ with gradient noise orthogonal to the signal; one instance per seed.

    A = [I 0] selects the first 6 of 10 rows, B = diag(D, 0) with a Gaussian D [6, 6]. The gradient of a sample is
    ∇J(X) + ξ σ diag(0, I₄) with ξ = ±1 and σ = 1: four singular values are σ for every sample. The start has σ/2 on the
    diagonal of its first rows, and Gaussian entries in the others.

    Attributes:
        signal: D, [N, 6, 6].
        start: X₀, [N, 10, 10].
        keys: Keys of the samples, int64 [N].
    """

    signal: Tensor
    start: Tensor
    keys: Tensor

    @classmethod
    def draw(cls, seeds: Sequence[int]) -> "Counterexample":
        """Draw instances; seed 42 gives that of the paper's experiment.

        Args:
            seeds: One per instance.

        Returns:
            The instances.
        """
        signals, starts = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            signals.append(torch.randn(_SIGNAL, _SIGNAL, generator=generator).double())
            noisy = torch.randn(_RANK, _SIZE, generator=generator).double()
            starts.append(torch.cat([torch.eye(_SIGNAL, _SIZE, dtype=torch.float64) / 2, noisy]))
        keys = torch.tensor([draws.key(seed, "counterexample") for seed in seeds])
        return cls(torch.stack(signals), torch.stack(starts), keys)

    def gap(self, x: Tensor) -> Tensor:
        """Compute J(X) − min J.

        Args:
            x: [N, 10, 10].

        Returns:
            [N].
        """
        return 0.5 * self._signal_gradient(x).square().sum((1, 2))

    def gradient(self, x: Tensor, noise: Tensor) -> Tensor:
        """Compute the gradient for samples.

        Args:
            x: [N, 10, 10].
            noise: ξ of one sample, or the mean of ξ over a batch, [N].

        Returns:
            [N, 10, 10].
        """
        g = torch.zeros_like(x)
        g[:, :_SIGNAL] = self._signal_gradient(x)
        g[:, _SIGNAL:, _SIGNAL:].diagonal(dim1=1, dim2=2).copy_(noise.unsqueeze(1).expand(-1, _RANK))
        return g

    def _signal_gradient(self, x: Tensor) -> Tensor:
        return x[:, :_SIGNAL] + nn.functional.pad(self.signal, (0, _RANK))

    def noise(self, step: Tensor | int, batch: int = 1) -> Tensor:
        """Draw ξ.

        Args:
            step: Index of the step, or indices [T].
            batch: Number of samples averaged.

        Returns:
            [N], or [N, T].
        """
        keys = draws.fold(self.keys.unsqueeze(1) if isinstance(step, Tensor) else self.keys, step)
        return (2.0 * draws.integers(keys, 2, (batch,)) - 1).mean(-1)

    def stall(self, rate: float = 0.0, period: int = 1, batch: int = 1) -> Tensor:
        """Predict the gap at which GaLore with plain SGD stops.

        The singular values of the signal's gradient start as those of D + I σ/2, with fixed singular vectors. Those
        above the noise's are selected and shrink by (1 − μ)^τ per period; once they are below it, the noise is selected
        forever. For an odd batch B at a refresh, the noise's singular values are σ / B at the smallest, repeatedly.

        Args:
            rate: μ; by default the limit of small μ τ.
            period: τ.
            batch: B, odd.

        Returns:
            ½ Σ s² over the final singular values, [N]: min(s, σ / B) in the limit.
        """
        s = batch * torch.linalg.svdvals(self.signal + torch.eye(_SIGNAL, dtype=torch.float64) / 2)
        if rate:
            shrink = period * math.log1p(-rate)
            s = s * torch.exp(shrink * (s.log() / -shrink).ceil().clamp_min(0))
        gap: Tensor = 0.5 * (s.clamp_max(1) / batch).square().sum(1)
        return gap


def descend(
    problem: Counterexample,
    make: Callable[[list[nn.Parameter]], optim.Optimizer],
    steps: int,
    *,
    every: int | None = None,
) -> Tensor:
    """Run an optimizer.

    Args:
        problem: The instances, which are the optimizer's agents.
        make: Constructs the optimizer.
        steps: Number of steps, of one sample each unless the optimizer requests more.
        every: Steps between evaluations of the gap; by default it is evaluated once, at the end.

    Returns:
        The gaps, [evaluations, N].
    """
    x = nn.Parameter(problem.start.clone())
    optimizer = make([x])
    noise, gaps = problem.noise(torch.arange(steps)), []
    for step in range(steps):
        batch = getattr(optimizer, "next_batch_size", None)
        x.grad = problem.gradient(x.detach(), problem.noise(step, batch) if batch else noise[:, step])
        optimizer.step()
        if (step + 1) % (every or steps) == 0:
            gaps.append(problem.gap(x.detach()))
    return torch.stack(gaps)


def galore_counterexample(progress: Progress, *, steps: Annotated[int, Field(ge=200, le=10**8)] = 200_000) -> Findings:
    """Reproduce how GaLore fails on a quadratic with structured noise, and how GoLore does not.

    Args:
        progress: Called with the fraction done and a description.
        steps: Steps of the runs with the published settings; their learning rate is 6 / steps.

    Returns:
        The findings.
    """
    published, curves, rate = Counterexample.draw(_SEEDS[:1]), [], _PUBLISHED_TRAVEL / steps
    for done, (method, make) in enumerate(_methods(rate, _PUBLISHED_PERIOD, steps, agents=1).items()):
        progress(0.2 * done, f"{method}, published settings")
        gaps = once(
            "published settings",
            lambda make=make: descend(published, make, steps, every=steps // 200)[:, 0].tolist(),  # type: ignore[misc]
            method=method,
            steps=steps,
        )
        curves += [{"method": method, "step": (i + 1) * (steps // 200), "gap": gap} for i, gap in enumerate(gaps)]
    progress(0.8, "four instances")
    problem = Counterexample.draw(_SEEDS)
    finals = {
        method: torch.tensor(
            once("four instances", lambda make=make: descend(problem, make, _STEPS)[-1].tolist(), method=method),  # type: ignore[misc]
            dtype=torch.float64,
        )
        for method, make in _methods(_RATE, _PERIOD, _STEPS, agents=len(_SEEDS)).items()
    }
    progress(0.9, "larger batches at a refresh")
    batches = _batches(problem)
    last = {row["method"]: row["gap"] for row in curves}
    first = published.gap(published.start).item()
    stall, limit = published.stall(rate, _PUBLISHED_PERIOD).item(), published.stall().item()
    return Findings(
        title="Where GaLore stops, and how random subspaces go on",
        about=[
            "J(X) = ½ ‖A X‖² + ⟨B, X⟩ over 10 × 10 matrices. The signal lies in the first six rows, and the gradient"
            " noise, four singular values of size 1 in every sample, in the others. Once all singular values of the"
            " signal are below 1, the subspace of rank 4 that keeps most of a gradient is that of the noise, at every"
            " refresh: GaLore stops there, at J − min J = ½ Σ min(s_i(D + I/2), 1)² if the learning rate times the"
            " period is small, and otherwise at another exactly known value.",
            f"The published settings are plain SGD with learning rate {rate:g}, rank 4, a refresh every"
            f" {_PUBLISHED_PERIOD} steps and {steps} steps; the others are {_RATE:g}, {_PERIOD} and {_STEPS}, on four"
            " instances. GoLore@75% draws its subspaces at random in the last three quarters.",
        ],
        checks=[
            Check.near("GaLore, published settings: where it stops", stall, last["GaLore"], within=1e-6),
            Check.near("SGD, published settings: gap", first * (1 - rate) ** (2 * steps), last["SGD"], within=1e-9),
            _random_walk(first, last["GoLore"], rate, steps),
            Check(
                "GoLore@75%, published settings: gap",
                "on its way to 0",
                last["GoLore@75%"],
                "a fifth of GaLore's at most",
                agrees=last["GoLore@75%"] <= stall / 5,
            ),
            *(
                Check.near(f"GaLore, instance {seed}: where it stops", predicted, measured, within=1e-6)
                for seed, predicted, measured in zip(
                    _SEEDS, problem.stall(_RATE, _PERIOD).tolist(), finals["GaLore"].tolist(), strict=True
                )
            ),
            *(
                _small(f"{method}: gap, the largest of four instances", float(gaps.max()), _SMALL)
                for method, gaps in finals.items()
                if method != "GaLore"
            ),
            *(
                Check.near(f"GaLore with B = {row['batch']} at a refresh: gap", row["predicted"], row["gap"], 1e-6)
                for row in batches
                if row["batch"] % 2
            ),
            *(
                _small(f"GaLore with B = {row['batch']} at a refresh: gap", row["gap"], _SMALL)
                for row in batches
                if row["batch"] % 2 == 0
            ),
        ],
        drawings=[
            Drawing(
                "gap",
                "J − min J against the step",
                "Published settings. The dashed line is where GaLore stops in the limit of a small learning rate.",
                _draw_curves(curves, limit),
                curves,
            ),
            Drawing(
                "refresh_batch",
                "Where GaLore stops, against the batch at a refresh",
                "Instance 42. Lines: theory for odd batches, exact and in the limit of a small learning rate. With an"
                " even batch the noise of a refresh can cancel, and GaLore converges.",
                _draw_batches(batches),
                batches,
            ),
        ],
        sources=[
            "He, Li, Hu, Chen, Yuan: Subspace optimization for large language models with convergence guarantees, ICML"
            " 2025, arXiv:2410.11289.",
            "Zhao et al.: GaLore: memory-efficient LLM training by gradient low-rank projection, ICML 2024,"
            " arXiv:2403.03507.",
        ],
    )


def _methods(rate: float, period: int, steps: int, *, agents: int) -> dict[str, Callable[..., optim.Optimizer]]:
    """Return constructors of the optimizers by name."""
    golore = partial(GoLore, lr=rate, rank=_RANK, period=period, agents=agents)
    return {
        "SGD": partial(optim.SGD, lr=rate),
        "GaLore": partial(GaLore, lr=rate, rank=_RANK, period=period, agents=agents),
        "GoLore": golore,
        "GoLore@75%": partial(golore, random_from=steps // 4),
    }


def _batches(problem: Counterexample) -> list[dict[str, Any]]:
    """Run GaLore with larger batches at a refresh."""
    make = _methods(_RATE, _PERIOD, _STEPS, agents=len(_SEEDS))["GaLore"]
    return [
        {
            "batch": batch,
            "gap": once(
                "refresh",
                lambda batch=batch: descend(problem, partial(make, refresh_batch=batch), _STEPS)[-1, 0].item(),  # type: ignore[misc]
                batch=batch,
            ),
            "predicted": problem.stall(_RATE, _PERIOD, batch)[0].item() if batch % 2 else 0.0,
            "limit": problem.stall(batch=batch)[0].item() if batch % 2 else 0.0,
        }
        for batch in (1, 2, 3, 4, 5, 9, 25)
    ]


def _small(claim: str, measured: float, bound: float) -> Check:
    """Check that a gap has closed, up to what the noise leaves at a constant learning rate."""
    return Check(claim, 0.0, measured, f"below {bound:g}", measured < bound)


def _random_walk(first: float, measured: float, rate: float, steps: int) -> Check:
    """Check the progress of GoLore: a period leaves 1 − (1 − (1 − μ)^2τ) r / n of the gap on average.

    The fraction of a direction's squared norm in a random subspace is Beta(r / 2, (n − r) / 2) distributed, which gives
    the standard deviation of the logarithm of the gap.

    Returns:
        The check.
    """
    periods, share = steps // _PUBLISHED_PERIOD, _RANK / _SIZE
    predicted = first * (1 - share * (1 - (1 - rate) ** (2 * _PUBLISHED_PERIOD))) ** periods
    deviation = math.sqrt(share * (1 - share) / (_SIZE / 2 + 1)) * 2 * rate * _PUBLISHED_PERIOD * math.sqrt(periods)
    rule = f"within {4 * deviation:.0%}, four standard deviations"
    agrees = abs(measured / predicted - 1) <= 4 * deviation
    return Check("GoLore, published settings: gap", predicted, measured, rule, agrees)


def _draw_curves(rows: Sequence[dict[str, Any]], limit: float) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for method, style in styles(dict.fromkeys(row["method"] for row in rows)).items():
        chosen = [row for row in rows if row["method"] == method]
        _line(ax, [row["step"] for row in chosen], [row["gap"] for row in chosen], method, style.color, style.line)
    ax.axhline(limit, color=GREY, linestyle="--", linewidth=1, label="GaLore's limit")
    ax.set(xlabel="step", ylabel="J − min J", ylim=(1e-3, None), yscale="log")
    outside_legend(ax)
    return figure


def _draw_batches(rows: Sequence[dict[str, Any]]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    odd = [row for row in rows if row["batch"] % 2]
    batches = [row["batch"] for row in odd]
    _line(ax, batches, [row["predicted"] for row in odd], "theory", "#0072B2", "-")
    _line(ax, batches, [row["limit"] for row in odd], "theory, small learning rate", GREY, "--")
    ax.plot(batches, [row["gap"] for row in odd], "o", color="#D55E00", label="measured, odd batch")
    even = [row for row in rows if row["batch"] % 2 == 0]
    ax.plot([row["batch"] for row in even], [row["gap"] for row in even], "v", color="#009E73", label="even batch")
    ax.set(xlabel="batch at a refresh", ylabel="J − min J at the end", xscale="log", yscale="log")
    outside_legend(ax)
    return figure


def _line(ax: Axes, x: Sequence[float], y: Sequence[float], label: str, color: str, dashes: Any) -> None:
    ax.plot(x, y, color=color, linestyle=dashes, label=label)
