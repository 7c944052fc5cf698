"""S³Attention against other attention: accuracy, processor time and memory, by the length of sequences."""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import torch
from joblib import Parallel, delayed
from pydantic import Field
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.studies.journal import kept, record
from basinet.analysis.studies.peak_memory import PeakMemory
from basinet.analysis.studies.sequences.length_figures import draw_accuracy, draw_costs
from basinet.analysis.studies.sequences.length_presets import ARENA, SMALL, Course, Preset
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import load_vector
from basinet.sim.evaluation.measuring import measure
from basinet.sim.experiment.config import Config
from basinet.sim.models.attention.s3attention import S3Classifier
from basinet.sim.models.attention.transformer import Transformer
from basinet.sim.models.model import MODELS
from basinet.sim.models.modules import copy_model
from basinet.sim.run.records import Row
from basinet.sim.setup.build import build_setup

__all__ = ["find_out", "s3attention"]

_S3, _SOFTMAX = "S³Attention", "softmax attention"

_NAMES = {
    "s3attention": _S3,
    "transformer": _SOFTMAX,
    "linformer": "Linformer",
    "performer": "Performer",
    "tokenwise": "no mixing",
}
"""What the models are called, by their names as components."""

_EXPLICIT = "softmax attention, explicit"
"""The same without a fused kernel: the matrix of all weights is computed and kept, as in the paper's comparison."""


_PRESETS = {"small": SMALL, "arena": ARENA}


class _Job(NamedTuple):
    """A part of the study: its kind, its settings in plain values, and about how long it takes compared to others."""

    kind: Literal["cost", "training"]
    settings: dict[str, Any]
    weight: float


def s3attention(
    progress: Progress,
    *,
    preset: Literal["small", "arena"] = "small",
    seeds: Count = 3,
    agents: Annotated[int, Field(ge=3, le=1000)] = 4,
    processes: Count | None = None,
) -> Findings:
    """Compare S³Attention with other attention: accuracy, time and memory, on one model and on agents.

    Args:
        progress: Called with the fraction done and a description.
        preset: "small", minutes on two processors, or "arena", the paper's sizes, some 500 processor hours.
        seeds: Independent trainings of each model: of data, samples, initial values and sampled sets.
        agents: Agents on a ring in decentralised training.
        processes: Number of processes; by default the number of processors.

    Returns:
        The findings.
    """
    return find_out(progress, _PRESETS[preset], seeds=seeds, agents=agents, processes=processes)


def find_out(progress: Progress, preset: Preset, *, seeds: int, agents: int, processes: int | None = None) -> Findings:
    """Compare the models at some sizes.

    Args:
        progress: Called with the fraction done and a description.
        preset: The sizes.
        seeds: Independent trainings of each model.
        agents: Agents on a ring in decentralised training.
        processes: Number of processes; by default the number of processors.

    Returns:
        The findings.
    """
    plan = [*_costs(preset), *_trainings(preset, seeds, agents)]
    done, total = 0.0, sum(job.weight for job in plan)
    found: dict[int, Row] = {}
    progress(0.0, f"0 of {len(plan)} parts")
    for place, row in _run_all(plan, processes or len(os.sched_getaffinity(0))):
        found[place] = row
        done += plan[place].weight
        progress(min(done / total, 1.0), f"{len(found)} of {len(plan)} parts")
    rows = [found[place] for place in range(len(plan))]
    costs = [row for job, row in zip(plan, rows, strict=True) if job.kind == "cost"]
    trained = [row for job, row in zip(plan, rows, strict=True) if job.kind == "training"]
    return Findings(
        title="S³Attention: accuracy, time and memory by the length of sequences",
        about=_about(preset, seeds, agents),
        checks=[*_cost_checks(costs, preset.lengths), *_accuracy_checks(trained, preset)],
        drawings=[
            Drawing(
                "costs",
                "Time and memory of a training step",
                f"Left: processor time of a step on {_BATCH} sequences, one thread. Right: most bytes held during a"
                " step on one sequence, besides the parameters. Dotted: proportional to the length, and to its square.",
                draw_costs(costs, list(_NAMES.values()), _EXPLICIT),
                costs,
            ),
            Drawing(
                "accuracy",
                "Accuracy on test data",
                "Each mark is a training, each line the mean over the seeds. Dotted: the best class for the root"
                " operator of a list, and the most frequent class.",
                draw_accuracy(trained, list(_NAMES.values()), [preset.listops.title, preset.pixels.title]),
                trained,
            ),
        ],
        sources=[
            "Wang, Zhou, Zhu, Liu, Yuan, Yao, Yin, Jin, Cai: S³Attention: improving long sequence attention with"
            " smoothed skeleton sketching, 2024, arXiv:2408.08567.",
            "Tay et al.: Long range arena: a benchmark for efficient transformers, ICLR 2021, arXiv:2011.04006.",
            "Wang, Li, Khabsa, Fang, Ma: Linformer: self-attention with linear complexity, 2020, arXiv:2006.04768.",
            "Choromanski et al.: Rethinking attention with performers, ICLR 2021, arXiv:2009.14794.",
        ],
    )


def _about(preset: Preset, seeds: int, agents: int) -> list[str]:
    return [
        "The paper trains encoders of two layers on the Long Range Arena. Accuracies in percent, of softmax attention"
        " and of S³Attention with 8 segments, 8 sampled tokens and 8 sampled features: ListOps 36.37 and 38.30, Text"
        " 64.27 and 69.27, Retrieval 57.46 and 83.26, Image 42.44 and 53.90, Pathfinder 71.40 and 75.82. On a GPU, at"
        " 3,000 tokens, it takes 15.9 steps a second against 3.9, and 2.8 GB against 22.1.",
        f"{preset.about} {_course(preset.listops)} {_course(preset.pixels)} All models of a task have the same sizes,"
        f" steps and learning rates (AdamW, one cycle). {seeds} seeds, each with data, initial values and sampled sets"
        " of its own. So few steps favour what learns quickly, and are no limit of what a model can learn. S³Attention"
        " here normalises over the channels of a token instead of over a batch.",
        f"In decentralised training, {agents} agents on a ring share the data and the batch, take steps of AdamW, and"
        " average with their neighbours after each (diffusion). What is measured is the mean of their parameters. All"
        " agents sample the same tokens and features: otherwise a mean of parameters would be one of unlike functions.",
        "Time and memory are those of a training step of two layers of width 64 on a processor. Its softmax attention"
        " is a fused kernel, which does not keep the matrix of weights; the paper's does, as the explicit one here.",
        f"The paper's sizes, with `preset=arena`: {ARENA.about}",
    ]


def _course(course: Course) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in course.task.items() if key != "name")
    return (
        f"{course.title.capitalize()}: the task {course.task['name']} ({settings}); {course.steps} steps of"
        f" {course.batch} samples, learning rate {course.lr:g}."
    )


def _run_all(plan: Sequence[_Job], processes: int) -> Iterator[tuple[int, Row]]:
    """Run a plan in several processes; yield the place and row of each part as soon as it is done."""
    known = {place: row for place, job in enumerate(plan) for row in kept(job.kind, **job.settings)}
    yield from known.items()
    longest_first = sorted(set(range(len(plan))) - set(known), key=lambda place: (-plan[place].weight, place))
    if not longest_first:
        return
    pool = Parallel(min(processes, len(longest_first)), return_as="generator_unordered", batch_size=1)
    for place, row in pool(delayed(_run_at)(place, plan[place]) for place in longest_first):
        yield place, record(plan[place].kind, row, **plan[place].settings)


def _run_at(place: int, job: _Job) -> tuple[int, Row]:
    with _one_thread():
        return place, (_cost if job.kind == "cost" else _train)(**job.settings)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_BATCH, _WORDS, _CLASSES = 4, 16, 10


def _costs(preset: Preset) -> Iterator[_Job]:
    for length in preset.lengths:
        for model in (*_NAMES, _EXPLICIT):
            yield _Job("cost", {"model": model, "length": length}, weight=length / 1000)


def _cost(model: str, length: int) -> Row:
    """Measure a training step: processor seconds for a batch, unless it is explicit, and bytes for one sequence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _net(model, length)
        tokens, classes = torch.randint(_WORDS, (_BATCH, length)), torch.arange(_BATCH) % _CLASSES

    def step(count: int) -> None:
        net.zero_grad()
        nn.functional.cross_entropy(net(tokens[:count]), classes[:count]).backward()  # type: ignore[no-untyped-call]

    explicit = model == _EXPLICIT
    with sdpa_kernel([SDPBackend.MATH] if explicit else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        with PeakMemory() as memory:
            step(1)
        seconds = [] if explicit else [_seconds(partial(step, _BATCH)) for _ in range(4)]
    label = model if explicit else _NAMES[model]
    return {"model": label, "length": length, "seconds": min(seconds[1:], default=None), "bytes": memory.peak}


def _net(model: str, length: int) -> nn.Module:
    if model == "s3attention":
        return S3Classifier((length,), _CLASSES, _WORDS, None, 0)
    if model in ("transformer", _EXPLICIT):
        return Transformer((length,), _CLASSES, _WORDS, None)
    seed = {"seed": 0} if model == "performer" else {}
    return MODELS[model]((length,), _CLASSES, _WORDS, None, **seed)


def _seconds(step: partial[None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _trainings(preset: Preset, seeds: int, agents: int) -> Iterator[_Job]:
    compared = ("s3attention", "transformer", "tokenwise")
    for course in (preset.listops, preset.pixels):
        for seed in range(seeds):
            for model in _NAMES:
                yield _training(course, {}, model, 1, seed)
            for model in compared[:2]:
                yield _training(course, {}, model, agents, seed)
            for length, settings in course.lengths.items():
                for model in compared:
                    yield _training(course, settings, model, 1, seed, length)


def _training(
    course: Course, settings: Mapping[str, Any], model: str, agents: int, seed: int, length: int | None = None
) -> _Job:
    task = {**course.task, **settings}
    if length is None:
        length = task.get("max_length") or task["size"] ** 2
    told = {
        "title": course.title,
        "task": task,
        "length": length,
        "model": {"name": model, **course.model},
        "lr": course.lr,
        "weight_decay": course.weight_decay,
        "steps": course.steps,
        "batch": course.batch,
        "agents": agents,
        "seed": seed,
    }
    tokens = course.steps * course.batch * length * course.model["width"]
    return _Job("training", told, weight=5e-7 * tokens * (0.5 + (model == "s3attention")))


def _train(
    title: str,
    task: dict[str, Any],
    length: int,
    model: dict[str, Any],
    lr: float,
    weight_decay: float,
    steps: int,
    batch: int,
    agents: int,
    seed: int,
) -> Row:
    """Train a model, by one agent or by several on a ring, and measure the accuracy of their mean on test data."""
    config = {
        "task": task,
        "model": model,
        "topology": {"name": "ring" if agents > 1 else "complete", "agents": agents},
        "strategy": "diffusion" if agents > 1 else "isolated",
        "optimizer": {"name": "adamw", "lr": lr, "weight_decay": weight_decay},
        "schedule": {"name": "one_cycle", "rise": 0.1, "anneal": "linear"},
        "batch_size": batch // agents,
        "steps": steps,
        "replicas": 1,
        "seed": seed,
        "runtime": {"device": "cpu"},
    }
    setup = build_setup(Config.parse(config))
    block = Block(setup, Placement.split(1, agents), torch.device("cpu"))
    start = time.process_time()
    block.advance(steps)
    seconds = time.process_time() - start
    x, buffers = block.channel.centroid()
    mean = load_vector(copy_model(block.template), x[0], {name: b[0] for name, b in buffers.items()}).eval()
    found = measure(block.task, "test", partial(block.task.outputs, mean), model=mean)
    trivial = {name: values["test_accuracy"] for name, values in block.task.baselines().items()}
    return {
        "task": title,
        "length": length,
        "model": _NAMES[model["name"]],
        "training": "diffusion" if agents > 1 else "centralised",
        "seed": seed,
        "accuracy": found["test_accuracy"],
        "loss": found["test_loss"],
        "parameters": x.shape[1],
        "seconds": seconds,
        **trivial,
    }


def _cost_checks(costs: Sequence[Row], lengths: Sequence[int]) -> Iterator[Check]:
    found = {(row["model"], row["length"]): row for row in costs}
    first, last, middle = lengths[0], lengths[-1], min(lengths, key=lambda n: abs(n - 3000))
    times = last / first
    growth = {name: found[name, last]["seconds"] / found[name, first]["seconds"] for name in (_S3, _SOFTMAX)}
    claim = f"processor time of a step, {last} tokens over {first}"
    bound = times * 25 / 16
    yield Check(f"{claim}, {_S3}", times, growth[_S3], f"at most {bound:.3g}", growth[_S3] <= bound)
    bound = times * 60 / 16
    yield Check(f"{claim}, {_SOFTMAX}", times**2, growth[_SOFTMAX], f"at least {bound:.3g}", growth[_SOFTMAX] > bound)
    faster = found[_SOFTMAX, middle]["seconds"] / found[_S3, middle]["seconds"]
    yield Check(f"{_SOFTMAX} over {_S3}, time at {middle} tokens", 15.9 / 3.9, faster, "at least 4", faster >= 4)
    for name in (_EXPLICIT, _SOFTMAX):
        ratio = found[name, middle]["bytes"] / found[_S3, middle]["bytes"]
        claim = f"{name} over {_S3}, memory at {middle} tokens"
        yield Check(claim, 22.1 / 2.8, ratio, "at least 4", ratio >= 4)


def _accuracy_checks(trained: Sequence[Row], preset: Preset) -> Iterator[Check]:
    listops, pixels = preset.listops.title, preset.pixels.title

    def by_seed(title: str, model: str, training: str = "centralised") -> list[Row]:
        usual = max(row["length"] for row in trained if row["task"] == title and row["training"] == "diffusion")
        chosen = {"task": title, "model": model, "training": training, "length": usual}
        return [row for row in trained if chosen.items() <= row.items()]

    def above(claim: str, predicted: float | str, ours: Sequence[Row], others: Sequence[float]) -> Check:
        gaps = [row["accuracy"] - other for row, other in zip(ours, others, strict=True)]
        return Check(claim, predicted, statistics.mean(gaps), "above 0 for each seed", min(gaps) > 0)

    for training in ("centralised", "diffusion"):
        s3, root = by_seed(listops, _S3, training), "root operator"
        yield above(f"accuracy of {_S3} minus that of the {root}, {listops}, {training}", "above 0", s3, _of(s3, root))
    for title in (listops, pixels):
        alone = _of(by_seed(title, _NAMES["tokenwise"]), "accuracy")
        claim = f"accuracy of {_S3} minus that of no mixing, {title}, centralised"
        yield above(claim, "above 0", by_seed(title, _S3), alone)
    for title, gap in ((listops, 0.3830 - 0.3637), (pixels, 0.5390 - 0.4244)):
        for training in ("centralised", "diffusion"):
            others = _of(by_seed(title, _SOFTMAX, training), "accuracy")
            claim = f"accuracy of {_S3} minus that of {_SOFTMAX}, {title}, {training}"
            yield above(claim, gap, by_seed(title, _S3, training), others)
    for title in (listops, pixels):
        pairs = zip(*(by_seed(title, _S3, training) for training in ("diffusion", "centralised")), strict=True)
        gaps = [together["accuracy"] - central["accuracy"] for together, central in pairs]
        claim = f"accuracy of {_S3}, {title}, by diffusion minus centralised"
        mean = statistics.mean(gaps)
        yield Check(claim, "nothing is published", mean, "not below −0.05", mean >= -0.05, "differs")


def _of(rows: Sequence[Row], key: str) -> list[float]:
    return [row[key] for row in rows]
