"""LOZO and MeZO: fine-tuning of a language model without gradients, by accuracy, memory, evaluations and scalars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from matplotlib.figure import Figure
from pydantic import Field

from basinet.analysis.drawing.axes import label_log_axes
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legends import outside_legend
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import styles
from basinet.analysis.statistics.replica_values import all_finals, exchanged_per_step, finals, moments
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.journal import once
from basinet.analysis.studies.optimizer_memory import draw_memory, memory_of_step
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.training_points import draw_points
from basinet.sim.data.rows import take
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared

__all__ = ["SCALES", "Method", "Scale", "find_out", "lozo_finetuning"]

_GRADIENT, _DIFFERENCE = 3, 2
"""Evaluations of a step: a backward pass costs about two forward passes."""

_Keys = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A method of fine-tuning.

    Attributes:
        optimizer: Its optimizer without the learning rate.
        rates: Learning rates, of which it takes the better one.
        keys: Further keys, which choose the parameters.
        cost: Evaluations per step.
    """

    optimizer: _Keys
    rates: tuple[float, ...]
    keys: _Keys = field(default_factory=dict)
    cost: int = _DIFFERENCE


@dataclass(frozen=True)
class Scale:
    """The size of the study.

    Attributes:
        about: A description in a sentence.
        model: The model.
        pretraining: Keys of the pre-training.
        task: The task of fine-tuning.
        methods: The methods by label.
        agents: Number of agents on a ring.
        batch: Samples of a step, of all agents together.
        steps: Steps without gradients; those with gradients are a quarter as many.
        replicas: Number of replicas.
        experiment: Further keys of all experiments.
    """

    about: str
    model: _Keys
    pretraining: _Keys
    task: _Keys
    methods: Mapping[str, Method]
    agents: int
    batch: int
    steps: int
    replicas: int
    experiment: _Keys

    def steps_of(self, method: Method) -> int:
        """Return the number of steps of a method."""
        return self.steps if method.cost == _DIFFERENCE else max(1, self.steps // 4)

    def case(self, method: Method, rate: float, **more: Any) -> _Keys:
        """Return the keys of a training."""
        steps = self.steps_of(method)
        optimizer = {**method.optimizer, "lr": rate, **more.pop("optimizer", {})}
        return {
            **method.keys,
            "optimizer": optimizer,
            "steps": steps,
            "evaluate_every": max(1, steps // 10),
            **more,
        }

    def describe(self, agents: int, cases: Mapping[str, _Keys], start: Path) -> _Keys:
        """Describe an experiment of fine-tuning."""
        return {
            "task": dict(self.task),
            "model": dict(self.model),
            "start": {"run": str(start), "replica": 0},
            "topology": {"name": "ring", "agents": agents},
            "strategy": "isolated",
            "batch_size": self.batch // agents,
            "replicas": self.replicas,
            "seed": 1,
            "analysis": [],
            **self.experiment,
            "cases": dict(cases),
        }


def _methods(first: tuple[float, ...], part: tuple[float, ...], without: tuple[float, ...], period: int) -> Any:
    adam: _Keys = {"name": "adam"}
    return {
        "Adam": Method(adam, first, cost=_GRADIENT),
        "Adam (last layer)": Method(adam, part, {"trained": ["lm_head*"]}, _GRADIENT),
        "Adam (LoRA)": Method(adam, part, {"adapters": {"name": "lora", "rank": 4}}, _GRADIENT),
        "MeZO": Method({"name": "mezo"}, without),
        "LOZO": Method({"name": "lozo", "rank": 2, "period": period}, without),
        "LOZO-M": Method({"name": "lozo_m", "rank": 2, "period": period}, without),
    }


SCALES = {
    "small": Scale(
        about="A model of about 100,000 parameters, pre-trained on bytes of the standard library's sources, tells"
        " docstrings from code: 32 passages of 64 bytes of each. About ten minutes on two processors.",
        model={"name": "llama", "size": "100k"},
        pretraining={
            "task": {"name": "language_model", "source": "standard_library", "bytes": 400_000, "length": 64},
            "optimizer": {"name": "adamw", "lr": 0.005},
            "schedule": "cosine",
            "clipping": {"norm": 1.0},
            "batch_size": 16,
            "steps": 300,
            "evaluate_every": 300,
        },
        task={"name": "prompt_classification", "length": 64, "shots": 32, "test_shots": 100},
        methods=_methods((3e-4, 1e-3), (1e-3, 3e-3), (1e-3, 3e-3), period=50),
        agents=4,
        batch=16,
        steps=400,
        replicas=3,
        experiment={"runtime": {"device": "cpu"}},
    ),
    "20m": Scale(
        about="A model of about 20 million parameters, pre-trained on the sources of the standard library, tells four"
        " of its packages apart: 64 passages of 256 bytes of each, 20,000 steps. Some 1e18 operations in all: about ten"
        " hours on a GPU that does 30 Tflop/s in float32.",
        model={"name": "llama", "size": "20m"},
        pretraining={
            "task": {"name": "language_model", "source": "standard_library", "length": 256},
            "optimizer": {"name": "adamw", "lr": 0.001},
            "schedule": {"name": "cosine", "warmup": 500},
            "batch_size": 64,
            "steps": 5000,
        },
        task={
            "name": "prompt_classification",
            "classes": "packages",
            "length": 256,
            "shots": 64,
            "test_shots": 100,
        },
        methods=_methods((1e-5, 1e-4), (1e-4, 1e-3), (1e-6, 1e-5, 1e-4), period=100),
        agents=4,
        batch=64,
        steps=20_000,
        replicas=3,
        experiment={},
    ),
}
"""The sizes by name."""

Steps = Annotated[int, Field(ge=1, le=10**9)]


def lozo_finetuning(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "20m"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Fine-tuning without gradients needs less memory, and of agents two numbers per step.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "20m" for a larger model, hours on a GPU.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps without gradients, by default that of the scale.

    Returns:
        The findings.
    """
    chosen = SCALES[scale]
    return find_out(
        progress, folder, replace(chosen, replicas=replicas or chosen.replicas, steps=steps or chosen.steps)
    )


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Pre-train, and fine-tune by all methods.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    pretraining = {
        "model": dict(scale.model), "topology": {"name": "ring", "agents": 1}, "strategy": "isolated", "replicas": 1,
        "seed": 1, "analysis": [], **scale.experiment, **scale.pretraining,
    }  # fmt: skip
    (pretrained,) = carry_out(folder, "pretraining", pretraining, part_of(progress, 0.0, 0.1))
    cases = {
        f"{label}, rate {rate:g}": scale.case(method, rate)
        for label, method in scale.methods.items()
        for rate in method.rates
    }
    description = scale.describe(1, cases, pretrained.path)
    of_case = by_case(carry_out(folder, "one_model", description, part_of(progress, 0.1, 0.65)))
    best, rates = {}, {}
    for label, method in scale.methods.items():
        rates[label] = min(method.rates, key=lambda rate: _badness(of_case[f"{label}, rate {rate:g}"]))
        best[label] = of_case[f"{label}, rate {rates[label]:g}"]
    networks = {
        f"{label} {name}": scale.case(scale.methods[label], rates[label], strategy=strategy, optimizer=more)
        for label, more in (("Adam", {}), ("LOZO", {"shared": True}))
        for name, strategy in (("centralised", "centralized"), ("by diffusion", "diffusion"))
    }
    description = scale.describe(scale.agents, networks, pretrained.path)
    together = by_case(carry_out(folder, "agents", description, part_of(progress, 0.75, 0.25)))
    shared = Shared()
    memory = [
        once("memory", partial(_memory, scale, label, shared), method=label, scale=str(scale))
        for label in scale.methods
    ]
    costs = {label: method.cost for label, method in scale.methods.items()}
    curves = [row for label, run in best.items() for row in _curve(label, run, costs[label])]
    sent = [
        {
            "training": label,
            "accuracy": _mean(_accuracies(run)),
            "standard error": moments(_accuracies(run))[1],
            "scalars per agent and step": _scalars(run),
        }
        for label, run in together.items()
    ]
    chosen = ", ".join(f"{label} {rate:g}" for label, rate in rates.items())
    return Findings(
        title="Fine-tuning without gradients: accuracy, memory, evaluations and scalars",
        about=[
            scale.about,
            f"Batches of {scale.batch}; {scale.steps} steps of two evaluations without gradients, a quarter as many"
            f" with gradients, each of which counts as {_GRADIENT} evaluations. Learning rates with the smaller"
            f" training loss at the end: {chosen}. {scale.replicas} replicas under seed 1 from the same pre-trained"
            " model.",
            f"Agents: {scale.agents} on a ring, each with its share of the passages and of the batch. With shared"
            " directions the centralised step exchanges one number each way; all else exchanges models.",
            "Memory: of the second step in float32, tensor by tensor: the state kept between steps, and the peak of all"
            " else besides the parameters.",
            "What the paper says (RoBERTa-large, 16 passages a class, accuracy in %): SNLI 68.5 by MeZO, 73.4 by LOZO,"
            " 74.0 by LOZO-M; MNLI 56.7, 61.6, 62.7; RTE 58.6, 61.2, 60.2 (read off its pictures). Memory: 2.84 GB by"
            " LOZO, 2.86 by LOZO-M, 3.0 by MeZO and 7.42 by MeZO with Adam. It has no figures on a network.",
        ],
        checks=[*_accuracy_checks(best), *_memory_checks(memory), *_network_checks(together)],
        drawings=[
            Drawing(
                "accuracy",
                "Accuracy against evaluations",
                "Test accuracy, mean over the replicas, each method at its better learning rate.",
                _draw_curves(curves),
                curves,
            ),
            Drawing("memory", "Memory of a step", "Memory held besides the parameters.", draw_memory(memory), memory),
            Drawing(
                "scalars",
                "Accuracy against numbers exchanged",
                f"Test accuracy of the centroid of {scale.agents} agents at the end; bars: standard errors.",
                draw_points(
                    sent,
                    "scalars per agent and step",
                    "accuracy",
                    labels=("numbers exchanged per agent and step", "test accuracy"),
                    log=True,
                ),
                sent,
            ),
        ],
        sources=[
            "Chen, Zhang, Cao, Yuan, Wen: Enhancing zeroth-order fine-tuning for language models with low-rank"
            " structures, ICLR 2025, arXiv:2410.07698.",
            "Malladi et al.: Fine-tuning language models with just forward passes, NeurIPS 2023, arXiv:2305.17333.",
        ],
    )


def _memory(scale: Scale, label: str, shared: Shared) -> Row:
    """Count the bytes of a step on the plain model; all methods share the task."""
    method = scale.methods[label]
    description = scale.describe(1, {}, Path()) | scale.case(method, method.rates[0])
    del description["cases"], description["start"]
    setup = build_setup(Config.parse(description | {"replicas": 1, "runtime": {"device": "cpu"}}), shared)
    model, batch = setup.plain_model(), take(setup.task.train, slice(0, scale.batch))
    optimizer = setup.config.optimizer
    trained = [p for p in model.parameters() if p.requires_grad]
    found = memory_of_step(optimizer.target(trained, **optimizer.settings), lambda: setup.task.objective(model, batch))
    return {"method": label, **found}


def _accuracies(run: Run) -> list[float]:
    return all_finals(run, "test_accuracy")


def _badness(run: Run) -> float:
    found = finals(run, "train_loss")
    return sum(found.values()) if len(found) == run.config["replicas"] else math.inf


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scalars(run: Run) -> float:
    """Return how many float32 an agent sends to its neighbours, or sends to a server and gets from it, per step."""
    return exchanged_per_step(run) / 4


def _curve(label: str, run: Run, cost: int) -> list[Row]:
    rows = [row for row in run.metrics if "test_accuracy" in row and "agent" not in row]
    return [
        {
            "method": label, "evaluations": cost * row["step"], "replica": row["replica"],
            "accuracy": row["test_accuracy"],
        }
        for row in rows
    ]  # fmt: skip


def _accuracy_checks(best: Mapping[str, Run]) -> list[Check]:
    ends = {label: _accuracies(run) for label, run in best.items()}
    first = [row["accuracy"] for row in _curve("", best["MeZO"], 1) if row["evaluations"] == 0]
    checks = []
    for claim, a, b, said in (
        ("MeZO raises the accuracy of the pre-trained model", ends["MeZO"], first, "above 0"),
        ("LOZO raises the accuracy of the pre-trained model", ends["LOZO"], first, "above 0"),
        ("LOZO is more accurate than MeZO", ends["LOZO"], ends["MeZO"], "0.049 (SNLI)"),
        ("LOZO-M is more accurate than LOZO", ends["LOZO-M"], ends["LOZO"], "0.006 (SNLI)"),
        ("Adam is more accurate than LOZO", ends["Adam"], ends["LOZO"], "above 0"),
        ("Adam is more accurate than Adam on the last layer", ends["Adam"], ends["Adam (last layer)"], "above 0"),
    ):
        checks.append(replace(larger(f"{claim} (difference)", a, b), predicted=said))
    return checks


def _memory_checks(memory: Sequence[Row]) -> list[Check]:
    rows = {row["method"]: row for row in memory}
    checks = [
        Check.near(f"bytes that {label} keeps between steps", expected, rows[label]["kept"], within=0)
        for label, expected in {
            "Adam": 2 * rows["Adam"]["parameters"],
            "MeZO": 0,
            "LOZO": 0,
            "LOZO-M": rows["LOZO-M"]["momentum of low rank"],
        }.items()
    ]
    whole = rows["Adam"]["kept"] + rows["Adam"]["transient"]
    for label, said in (("MeZO", "3.0 / 7.42 GB with the model"), ("LOZO", "2.84 / 7.42 GB with the model")):
        ratio = (rows[label]["kept"] + rows[label]["transient"]) / whole
        checks.append(Check(f"bytes held for a step, {label} over Adam", said, ratio, "below 1", ratio < 1))
    return checks


def _network_checks(together: Mapping[str, Run]) -> list[Check]:
    few, many = together["LOZO centralised"], together["Adam centralised"]
    ratio = _scalars(many) / _scalars(few)
    apart = max(finals(few, "consensus_distance").values(), default=math.nan)
    return [
        Check.near(
            "numbers that an agent and the server exchange per step, LOZO with shared directions",
            2,
            _scalars(few),
            within=0,
        ),
        Check.near("distance of the agents afterwards", 0, apart, within=0),
        Check(
            "numbers that Adam exchanges per step, over those of LOZO",
            "as many as parameters",
            ratio,
            "above 1000",
            ratio > 1000,
        ),
    ]


def _draw_curves(rows: Sequence[Row]) -> Figure:
    figure, (ax,) = grid(1, share_x=False, share_y=False)
    for label, look in styles(row["method"] for row in rows).items():
        points: dict[int, list[float]] = {}
        for row in rows:
            if row["method"] == label and row["evaluations"]:
                points.setdefault(row["evaluations"], []).append(row["accuracy"])
        means = [_mean(values) for values in points.values()]
        ax.plot(list(points), means, label=label, color=look.color, linestyle=look.line)
    ax.set_xscale("log")
    ax.set_xlabel(f"evaluations (a gradient counts as {_GRADIENT})")
    ax.set_ylabel("test accuracy")
    outside_legend(ax)
    label_log_axes(ax)
    return figure
