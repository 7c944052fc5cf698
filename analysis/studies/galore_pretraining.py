"""GaLore and GoLore: pre-training of language models, by perplexity, memory and bytes exchanged."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from matplotlib.figure import Figure
from pydantic import Field

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.statistics.replica_values import all_finals, exchanged_per_step, moments
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import PAIRED, larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.training_points import draw_points
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.setup.build import build_setup

__all__ = ["SCALES", "Scale", "find_out", "galore_pretraining"]

_WHOLE = ["*embed_tokens*", "lm_head*"]
"""Matrices without a subspace, as in the published code."""

_RANDOM_SHARE = 0.2
"""Share of the last steps in which the hybrid draws its subspaces at random."""

_ALPHA = 0.25
"""Scale of the steps in subspaces, as published."""

_Keys = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """The size of the study.

    Attributes:
        about: A description in a sentence.
        task: The text.
        model: The model.
        agents: Number of agents on a ring.
        batch: Sequences per agent and step; the single model takes as many as all agents together.
        steps: Number of steps.
        rates: Learning rates of which each method takes the better one.
        rank: Rank of the subspaces.
        period: Steps between choices of the subspaces.
        replicas: Number of replicas.
        experiment: Further keys of all experiments.
    """

    about: str
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    agents: int
    batch: int
    steps: int
    rates: tuple[float, ...]
    rank: int
    period: int
    replicas: int
    experiment: Mapping[str, Any]

    def methods(self, rate: float) -> dict[str, _Keys]:
        """Return the optimizers by label, which differ in their subspaces alone.

        Args:
            rate: The learning rate; 1/α of it where all methods are whole, as published code has it for subspaces.

        Returns:
            Their settings.
        """
        above = rate / _ALPHA
        low: _Keys = {
            "lr": above, "base": "adamw", "rank": self.rank, "period": self.period, "scale": _ALPHA, "whole": _WHOLE
        }  # fmt: skip
        begun = round((1 - _RANDOM_SHARE) * self.steps)
        groups = [{"match": _WHOLE, "lr": above}]
        return {
            "AdamW": {"name": "adamw", "lr": rate, "weight_decay": 0.0, "groups": groups},
            "GaLore": {"name": "galore", **low},
            "GoLore": {"name": "golore", **low},
            f"GoLore@{_RANDOM_SHARE:.0%}": {"name": "golore", **low, "random_from": begun},
        }

    def networks(self) -> dict[str, tuple[str, str, _Keys]]:
        """Return strategy, method and further settings of its optimizer for the trainings on agents, by label."""
        return {
            "AdamW centralised": ("centralized", "AdamW", {}),
            "AdamW by diffusion": ("diffusion", "AdamW", {}),
            "GaLore by diffusion": ("diffusion", "GaLore", {}),
            "GoLore centralised": ("centralized", "GoLore", {"shared": True}),
            "GoLore's subspaces centralised": ("subspace_centralized", "GoLore", {"shared": True}),
            "GoLore's subspaces by diffusion": ("subspace_diffusion", "GoLore", {"shared": True}),
            f"GoLore@{_RANDOM_SHARE:.0%} by diffusion": ("diffusion", f"GoLore@{_RANDOM_SHARE:.0%}", {}),
        }

    def describe(self, agents: int, cases: Mapping[str, _Keys]) -> _Keys:
        """Describe an experiment whose steps take the same number of sequences, whatever the agents."""
        return {
            "task": dict(self.task),
            "model": dict(self.model),
            "topology": {"name": "ring", "agents": agents},
            "strategy": "isolated",
            "batch_size": self.batch * self.agents // agents,
            "sampling": "epochs",
            "schedule": {"name": "cosine", "warmup": max(1, self.steps // 10)},
            "steps": self.steps,
            "replicas": self.replicas,
            "seed": 1,
            "analysis": [],
            **self.experiment,
            "cases": dict(cases),
        }


SCALES = {
    "small": Scale(
        about="Bytes of Python's manual, a model of about 100,000 parameters, 64 bytes a sequence. About ten minutes on"
        " two processors.",
        task={"name": "language_model", "length": 64, "bytes": 100_000},
        model={"name": "llama", "size": "100k"},
        agents=4,
        batch=2,
        steps=200,
        rates=(0.002, 0.006),
        rank=12,
        period=20,
        replicas=3,
        experiment={"evaluate_every": 50, "clipping": {"norm": 1.0}, "runtime": {"device": "cpu"}},
    ),
    "60m": Scale(
        about="The setting of both papers: C4, 58 million parameters, rank 128 of 512, 10,000 steps of 512 sequences of"
        " 256 tokens, 1.3 billion tokens. A training takes some 4.6e17 operations, and its two evaluations two thirds"
        " as many: one to two hours on a GPU that does 120 to 240 Tflop/s in bfloat16, and all trainings of three"
        " replicas 45 to 90 hours, besides an hour to cut the text into tokens.",
        task={
            "name": "language_model", "dataset": "allenai/c4", "train_split": "train", "test_split": "validation",
            "data_files": {
                "train": "en/c4-train.0000[0-7]-of-01024.json.gz",
                "validation": "en/c4-validation.00000-of-00008.json.gz",
            },
            "cache": "c4",
            "tokens": "bpe", "vocabulary": 32_000, "length": 256,
        },
        model={"name": "llama", "size": "60m"},
        agents=4,
        batch=128,
        steps=10_000,
        rates=(0.001, 0.0025),
        rank=128,
        period=200,
        replicas=3,
        experiment={"evaluate_every": 10_000, "accumulate": 8, "runtime": {"autocast": "bfloat16"}},
    ),
}  # fmt: skip
"""The sizes by name."""

Steps = Annotated[int, Field(ge=1, le=10**9)]


def galore_pretraining(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "60m"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Low-rank optimizers pre-train a language model with less memory, and on agents with fewer bytes.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "60m" for the published setting, hours to days on a GPU.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps, by default that of the scale.

    Returns:
        The findings.
    """
    chosen = SCALES[scale]
    return find_out(
        progress, folder, replace(chosen, replicas=replicas or chosen.replicas, steps=steps or chosen.steps)
    )


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Train by all methods, on one model and on agents.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    cases = {
        f"{label}, rate {rate:g}": {"optimizer": optimizer}
        for rate in scale.rates
        for label, optimizer in scale.methods(rate).items()
    }
    count = len(cases) + len(scale.networks())
    alone = carry_out(folder, "one_model", scale.describe(1, cases), part_of(progress, 0.0, len(cases) / count))
    of_case = by_case(alone)
    best, rates = {}, {}
    for label in scale.methods(1.0):
        rates[label] = min(scale.rates, key=lambda rate: _badness(of_case[f"{label}, rate {rate:g}"]))
        best[label] = of_case[f"{label}, rate {rates[label]:g}"]
    networks = {
        label: {"strategy": strategy, "optimizer": scale.methods(rates[method])[method] | more}
        for label, (strategy, method, more) in scale.networks().items()
    }
    of_agents = carry_out(
        folder,
        "agents",
        scale.describe(scale.agents, networks),
        part_of(progress, len(cases) / count, 1 - len(cases) / count),
    )
    together = by_case(of_agents)
    memory = {label: once("memory", partial(_memory, scale, label), method=label, scale=str(scale)) for label in best}
    baselines = next(iter(best.values())).status["baselines"]
    rows = [
        {"training": label, **_perplexities(run), "rate": rates[label], **memory[label]} for label, run in best.items()
    ]
    sent = [
        {"training": label, **_perplexities(run), "bytes": exchanged_per_step(run)} for label, run in together.items()
    ]
    return Findings(
        title="Pre-training in subspaces: perplexity, memory and bytes",
        about=[
            scale.about,
            f"AdamW with all parameters; GaLore and GoLore with rank {scale.rank} and new subspaces every"
            f" {scale.period} steps, scale α = {_ALPHA:g}, embedding and last layer whole; GoLore@{_RANDOM_SHARE:.0%}"
            f" is GaLore whose last {_RANDOM_SHARE:.0%} of {scale.steps} steps draw subspaces at random. The learning"
            f" rate with the smaller test loss, of {_listed(scale.rates)}, under a cosine schedule:"
            f" {', '.join(f'{label} {rate:g}' for label, rate in rates.items())}. Embedding and last layer take 1/α of"
            " it, in AdamW, too, which learns more slowly without: methods differ in their subspaces alone."
            f" {scale.replicas} replicas under seed 1, which share their initial values and samples.",
            f"Agents: {scale.agents} on a ring, each with its share of the text and of the batch. Centralised: the"
            " gradients are averaged. Diffusion: the models are mixed with the neighbours'. In subspaces, agents that"
            " draw the same ones exchange coordinates only, and by diffusion each period ends with an average.",
            "What the papers say (60 million parameters, C4, perplexity): 34.06 by AdamW and 34.88 by GaLore (GaLore,"
            " Table 2); about 37.5, 44 and, by GoLore@20%, 43 (GoLore, Figure 3, read off the picture). They have no"
            " figures for subspaces that are random from the start, and none on a network.",
            "For comparison, perplexity of n-grams on the same test text: "
            + ", ".join(f"{name} {values['test_perplexity']:.3g}" for name, values in baselines.items())
            + ".",
        ],
        checks=[
            *_memory_checks(memory),
            *_perplexity_checks(best),
            *_network_checks(together, memory),
        ],
        drawings=[
            Drawing(
                "perplexity",
                "Perplexity during training",
                "Test perplexity of one model, each method at its better learning rate; mean over the replicas.",
                _draw_curves(best),
                [
                    {"training": label, "step": row["step"], "replica": row["replica"], "perplexity": row[_METRIC]}
                    for label, run in best.items()
                    for row in _evaluations(run)
                ],
            ),
            Drawing(
                "memory",
                "Perplexity against memory",
                "Test perplexity at the end against the bytes that the optimizer keeps between steps, per parameter;"
                " bars: standard errors.",
                draw_points(
                    rows,
                    "bytes per parameter",
                    "perplexity",
                    labels=("state of the optimizer, bytes per parameter", "test perplexity"),
                ),
                rows,
            ),
            Drawing(
                "bytes",
                "Perplexity against bytes exchanged",
                f"Test perplexity of the centroid of {scale.agents} agents at the end, against the bytes that an agent"
                " sends to its neighbours, or sends to a server and gets from it, per step; bars: standard errors.",
                draw_points(
                    sent, "bytes", "perplexity", labels=("bytes exchanged per agent and step", "test perplexity")
                ),
                sent,
            ),
        ],
        sources=[
            "Zhao et al.: GaLore: memory-efficient LLM training by gradient low-rank projection, ICML 2024,"
            " arXiv:2403.03507.",
            "He, Li, Hu, Chen, Yuan: Subspace optimization for large language models with convergence guarantees, ICML"
            " 2025, arXiv:2410.11289.",
        ],
    )


_METRIC = "test_perplexity"


def _listed(rates: Sequence[float]) -> str:
    return " and ".join(f"{rate:g}" for rate in rates)


def _losses(run: Run) -> list[float]:
    return all_finals(run, "test_loss")


def _badness(run: Run) -> float:
    losses = _losses(run)
    return math.inf if any(map(math.isnan, losses)) else sum(losses)


def _perplexity(run: Run) -> float:
    return math.exp(sum(_losses(run)) / run.config["replicas"])


def _perplexities(run: Run) -> Row:
    """Return the perplexity at the end and its standard error, by that of the loss."""
    _, error, _ = moments(_losses(run))
    mean = _perplexity(run)
    return {"perplexity": mean, "standard error": None if error is None else mean * error}


def _evaluations(run: Run) -> list[Row]:
    return [row for row in run.metrics if _METRIC in row and "agent" not in row]


def _memory(scale: Scale, label: str) -> dict[str, float]:
    """Count the bytes that an optimizer keeps, and compute how many it should: numbers of AdamW, and of projections."""
    cases = {"optimizer": scale.methods(scale.rates[0])[label]}
    description = scale.describe(1, {}) | cases | {"replicas": 1, "runtime": {"device": "cpu"}}
    del description["cases"]
    setup = build_setup(Config.parse(description))
    full = numbers = coordinates = 0
    for name, parameter in setup.template().named_parameters():
        full += parameter.numel()
        short = min(parameter.shape) if parameter.ndim == 2 else 0
        if short > scale.rank and not any(fnmatch.fnmatchcase(name, pattern) for pattern in _WHOLE):
            size = parameter.numel() // short * scale.rank
            coordinates += size
            numbers += short * scale.rank + 2 * size
        else:
            coordinates += parameter.numel()
            numbers += 2 * parameter.numel()
    return {
        "kept": float(setup.remembered),
        "expected": 4.0 * (2 * full if label == "AdamW" else numbers),
        "share sent": coordinates / full,
        "bytes per parameter": setup.remembered / full,
    }


def _memory_checks(memory: Mapping[str, Mapping[str, float]]) -> list[Check]:
    checks = []
    for label, found in memory.items():  # besides counters of steps
        claim = f"bytes that {label} keeps between steps"
        checks.append(Check.near(claim, found["expected"], found["kept"], within=0.01 * found["expected"]))
    return checks


def _perplexity_checks(best: Mapping[str, Run]) -> list[Check]:
    adamw, galore, golore, hybrid = best
    losses = {label: _losses(run) for label, run in best.items()}
    why = "log ratio of perplexities, one model"
    checks = [
        larger(f"the perplexity of {worse} is above that of {better} ({why})", losses[worse], losses[better])
        for worse, better in ((galore, adamw), (galore, hybrid), (golore, galore))
    ]
    ratios = {label: _perplexity(best[label]) / _perplexity(best[adamw]) for label in (galore, hybrid)}
    return [
        *(replace(check, predicted=text) for check, text in zip(checks, _PUBLISHED, strict=True)),
        *(
            Check(
                f"the perplexity of {label} is near that of {adamw} (ratio, one model)", said, ratios[label],
                "at most 1.2", ratios[label] <= 1.2,
            )
            for label, said in ((galore, "1.02 (GaLore), 1.17 (GoLore)"), (hybrid, "1.15 (GoLore)"))
        ),
    ]  # fmt: skip


_PUBLISHED = ("0.024 (GaLore), 0.16 (GoLore)", "0.023 (GoLore)", "not published")
"""Log ratios of published perplexities."""


def _network_checks(together: Mapping[str, Run], memory: Mapping[str, Mapping[str, float]]) -> list[Check]:
    whole = exchanged_per_step(together["AdamW centralised"])
    checks = []
    for label in ("GoLore's subspaces centralised", "GoLore's subspaces by diffusion"):
        share = exchanged_per_step(together[label]) / whole
        claim = f"bytes exchanged by {label}, over those of whole models"
        checks.append(Check.near(claim, memory["GoLore"]["share sent"], share, within=1e-6))
    own, whole_gradients = (
        _losses(together[label]) for label in ("GoLore's subspaces centralised", "GoLore centralised")
    )
    apart = max(abs(a - b) for a, b in zip(own, whole_gradients, strict=True))
    checks.append(
        Check.near("their coordinates do as well as whole gradients (log ratio of perplexities, centralised)",
                   0.0, apart, within=0.01)
    )  # fmt: skip
    for method, few, many in (
        ("AdamW", "AdamW by diffusion", "AdamW centralised"),
        ("GoLore", "GoLore's subspaces by diffusion", "GoLore's subspaces centralised"),
    ):
        check = larger(
            f"diffusion costs perplexity, {method} (log ratio, diffusion over centralised)",
            _losses(together[few]),
            _losses(together[many]),
        )
        checks.append(replace(check, predicted="not published", rule=PAIRED))
    return checks


def _draw_curves(runs: Mapping[str, Run]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for (label, run), look in zip(runs.items(), styles(runs).values(), strict=True):
        points: dict[int, list[float]] = {}
        for row in _evaluations(run):
            if row["step"]:
                points.setdefault(row["step"], []).append(math.log(row[_METRIC]))
        means = [math.exp(sum(values) / len(values)) for values in points.values()]
        ax.plot(list(points), means, label=label, color=look.color, linestyle=look.line, marker=look.marker)
    ax.set_xlabel("step")
    ax.set_ylabel("test perplexity")
    outside_legend(ax)
    return figure
