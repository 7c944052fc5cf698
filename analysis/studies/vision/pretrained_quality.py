"""Pre-training for quality: what predicting masked units of degraded photos is worth when images are rated."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from scipy.stats import spearmanr

from basinet.analysis.report.vision.reconstructed import pretraining_drawings
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.scale import IID, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import ALONE, CONSENSUS, DIFFUSION, LOCAL, NO_AGENTS
from basinet.analysis.studies.vision.transfer_figures import transfer_drawings
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.tasks import image_quality
from basinet.sim.vision.photo_regions import DISTINCT

__all__ = ["SCALES", "Size", "find_out", "quality_pretraining"]

_METRIC, _RIDGE = "test_srocc", "ridge on scene statistics"

_FLATNESS = {"hessian_top_eigenvalue": "λ_max", "hessian_trace": "trace"}

_PERIOD = 8
"""Steps of an agent between averages, in local SGD."""

_METHODS = [NO_AGENTS, "consensus", "diffusion", {"name": "local_sgd", "period": _PERIOD}, ALONE]

_SCRATCH, _FROZEN, _RANDOM = "from scratch", "frozen", "frozen, random"
_L1, _SCRATCH_L1 = "centralized, l1", "from scratch, l1"

_CLEAN = "clean"
_CROPS: dict[str, dict[str, Any]] = {_CLEAN: {"task.degradations": ["blur"], "task.strength": 0.0}}
"""Crops of another kind to pre-train on: as they are."""


@dataclass(frozen=True)
class Size:
    """The size of the study.

    Attributes:
        about: A description in a sentence.
        pretraining: Of pre-training.
        rating: Of fine-tuning.
    """

    about: str
    pretraining: Scale
    rating: Scale


_SMALL = {"width": 16, "depths": [1, 1, 1], "contrast": True, "locality": 1.0}

_EVERY = {"schedule": {"name": "one_cycle", "rise": 0.2}}

SCALES = {
    "small": Size(
        about="A HiViT of 16, 32 and 64 features and one block in each stage, which sees local contrast beside pixels,"
        " and whose attention begins at neighbours. Some thirteen processor minutes.",
        pretraining=Scale(
            about="pre-training",
            task={
                "name": "quality_pretraining",
                "degradations": ["blur", "noise", "jpeg"],
                "masked": 0.5,
                "normalised": "channels",
                "crops": 100,
            },
            apart="degradation",
            model={"name": "masked_hivit", **_SMALL, "decoder_depth": 2},
            agents=3,
            batch=10,
            rate=0.004,
            steps=400,
            replicas=3,
            of_agents=0,
            experiment={**_EVERY, "evaluate_every": 200, "evaluate_samples": 120, "analysis_samples": 30},
        ),
        rating=Scale(
            about="fine-tuning",
            task={"name": "image_quality", "distortions": ["blur", "noise", "jpeg"], "folds": 4, "loss": "plcc"},
            apart="distortion",
            model={"name": "hivit", **_SMALL},
            agents=1,
            batch=32,
            rate=0.004,
            steps=300,
            replicas=3,
            of_agents=0,
            experiment={**_EVERY, "evaluate_every": 100, "analysis": []},
        ),
    ),
    "large": Size(
        about="The published HiViT-T of 18.8 million parameters on crops and patches of 224 × 224 pixels. Days on a"
        " GPU; this size has never been run, and its settings are not tuned.",
        pretraining=Scale(
            about="pre-training",
            task={
                "name": "quality_pretraining",
                "degradations": ["blur", "noise", "jpeg", "colour"],
                "size": 224,
                "crops": 256,
            },
            apart="degradation",
            model={"name": "masked_hivit", "width": 96, "depths": [2, 2, 10], "heads": 6, "expansions": [3, 3, 4]},
            agents=4,
            batch=64,
            rate=0.0006,
            steps=50_000,
            replicas=5,
            of_agents=0,
            experiment={**_EVERY, "evaluate_every": 5000, "analysis_samples": 64, "runtime": {}},
        ),
        rating=Scale(
            about="fine-tuning",
            task={"name": "image_quality", "size": 256, "patch": 224, "contents": 20, "folds": 4},
            apart="distortion",
            model={"name": "hivit", "width": 96, "depths": [2, 2, 10], "heads": 6, "expansions": [3, 3, 4]},
            agents=1,
            batch=64,
            rate=0.0005,
            steps=4000,
            replicas=5,
            of_agents=0,
            experiment={**_EVERY, "evaluate_every": 500, "analysis": [], "runtime": {}},
        ),
    ),
}
"""The sizes by name."""


def quality_pretraining(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "large"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Pre-training on masked units of degraded photos, by networks of agents, and what it is worth for rating images.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "large" for the published network, days on a GPU.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps of pre-training, by default that of the scale.

    Returns:
        The findings.
    """
    chosen = SCALES[scale]
    before, after = chosen.pretraining.with_length(replicas, steps), chosen.rating.with_length(replicas)
    return find_out(progress, folder, replace(chosen, pretraining=before, rating=after))


def find_out(progress: Progress, folder: Path, size: Size) -> Findings:
    """Pre-train by all methods and on all kinds of crops, fine-tune, and compare.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        size: The size of the study.

    Returns:
        The findings.
    """
    rating, seen = size.rating, _photos(size.rating.task)
    pretraining = replace(size.pretraining, task={**size.pretraining.task, **seen})
    apart = {pretraining.apart_name: pretraining.conditions()[pretraining.apart_name]}
    described = pretraining.describe(apart, strategy=_METHODS, analysis=list(_FLATNESS))
    runs = carry_out(folder, "methods", described, part_of(progress, 0.0, 0.4))
    methods = {strategy_label(run.config): run for run in runs}
    crops = {name: {**own, "task.partition": IID} for name, own in _CROPS.items()}
    described = pretraining.describe(crops, strategy=NO_AGENTS, analysis=[])
    kinds = by_case(carry_out(folder, "crops", described, part_of(progress, 0.4, 0.2)))
    frozen, l1 = {"trained": ["head.*"]}, {"task.loss": "l1"}
    cases: dict[str, dict[str, Any]] = {
        _SCRATCH: {},
        **{label: _start(run) for label, run in {**methods, **kinds}.items()},
        _FROZEN: {**_start(methods[NO_AGENTS]), **frozen},
        _RANDOM: frozen,
        _SCRATCH_L1: l1,
        _L1: {**_start(methods[NO_AGENTS]), **l1},
    }
    described = rating.describe(cases, strategy=NO_AGENTS)
    rated = by_case(carry_out(folder, "ratings", described, part_of(progress, 0.6, 0.4)))
    scores = {label: np.array(all_finals(run, _METRIC)) for label, run in rated.items()}
    first = rated[_SCRATCH]
    trivial = {name: values.get(_METRIC) for name, values in first.status["baselines"].items()}
    flat = _flat(methods, scores)
    ridge = trivial[_RIDGE]
    means = ", ".join(f"{label} {fmean(found):.3f}" for label, found in scores.items())
    return Findings(
        title="Pre-training for quality, by networks of agents",
        about=[
            size.about,
            f"Pre-training: {pretraining.agents} agents on a ring, each with crops of one degradation"
            f" ({', '.join(pretraining.task['degradations'])}) and a batch of {pretraining.batch}, take"
            f" {pretraining.steps} steps of Adam under a rate that rises to {pretraining.rate:g} and falls to 0. What"
            " is predicted (degraded units), how many are masked and how strongly they are degraded is our reading of"
            " QPT V2, whose text and tables were not available: nothing here is compared with published numbers.",
            f"Fine-tuning: {rating.steps} steps of one model with batches of {rating.batch} images at the rate"
            f" {rating.rate:g}, from the encoder that pre-training found and a new head; of {ALONE} agents, from that"
            f" of the first, which has seen one degradation. Local SGD averages every {_PERIOD} steps. Frozen: only the"
            f" head is trained. {rating.replicas} replicas under seed 1, paired: they share heads and samples, and each"
            " begins with the pre-training of the same number.",
            f"The score is the SROCC on test images of other photos ({', '.join(seen['test_photos'])}), which neither"
            " pre-training nor fine-tuning has seen. These are one fold: intervals are about seeds, not about photos."
            f" Means: {means}. Without a network: {_RIDGE} {ridge:.3f}; the mean score orders nothing.",
            "The squared error of masked units is a mean over crops, so that the gradients of agents add up to that of"
            " one model. The loss plcc of scores is a statistic of a batch, which a single model may have; it does not"
            " stay at the mean score for long, as the absolute error (l1) does, which is a mean over images. `basinet"
            " reproduce video-quality` shows what local batches make of plcc.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=[*_checks(methods[NO_AGENTS], scores, ridge), *_flatter(flat)],
        drawings=[
            *transfer_drawings(rated, flat, {_RIDGE: ridge}, _METRIC, list(_FLATNESS)),
            *pretraining_drawings([*methods.values(), *kinds.values()]),
        ],
        sources=[
            "Q. Xie et al.: QPT V2: Masked image modeling advances visual scoring, 2024, arXiv:2407.16541.",
            "K. He, X. Chen, S. Xie, Y. Li, P. Dollár, R. Girshick: Masked autoencoders are scalable vision learners,"
            " CVPR 2022, arXiv:2111.06377.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _photos(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the photos for pre-training, which are those of fine-tuning, and the others for tests."""
    task = image_quality(**{name: value for name, value in settings.items() if name != "name"})
    trained = set(task.columns["photo"].tolist())
    return {
        "train_photos": [name for name in DISTINCT if name in trained],
        "test_photos": [name for name in DISTINCT if name not in trained],
    }


def _start(run: Run) -> dict[str, Any]:
    """Return the key of a training that starts from the encoder of another."""
    point = {"point": 0} if strategy_label(run.config) == ALONE else {}
    return {"start": {"run": str(run.path), **point, "reinitialize": ["head.*"], "strict": False}}


def _checks(central: Run, scores: Mapping[str, Any], ridge: float) -> Iterator[Check]:
    trivial = central.status["baselines"]["mean of the visible units"]["test_loss"]
    losses = all_finals(central, "test_loss")
    claim = "pre-training predicts masked units better than the mean of the visible ones does (loss saved, centralised)"
    yield larger(claim, [trivial] * len(losses), losses)
    for claim, a, b in (
        ("pre-training and fine-tuning beat as much fine-tuning from scratch", NO_AGENTS, _SCRATCH),
        ("they do also under the absolute error", _L1, _SCRATCH_L1),
        ("frozen, the pre-trained encoder rates better than a random one", _FROZEN, _RANDOM),
        ("pre-training on crops with a degradation each helps more than on clean ones", NO_AGENTS, _CLEAN),
        ("pre-training by diffusion and fine-tuning beat as much fine-tuning from scratch", DIFFUSION, _SCRATCH),
        ("centralised pre-training transfers better than that by diffusion", NO_AGENTS, DIFFUSION),
        ("pre-training by diffusion transfers better than that by consensus", DIFFUSION, CONSENSUS),
        ("pre-training by diffusion transfers better than that by local SGD", DIFFUSION, LOCAL),
        ("pre-training by diffusion transfers better than that of one agent alone", DIFFUSION, ALONE),
    ):
        yield larger(f"{claim} (difference in SROCC)", scores[a], scores[b])
    for label in (NO_AGENTS, _SCRATCH):
        claim = f"the network beats the {_RIDGE} (difference in SROCC, {_named(label)})"
        yield larger(claim, scores[label], [ridge] * len(scores[label]))
    yield larger(
        "the network orders images, as the mean score does not (SROCC, pre-trained)", scores[NO_AGENTS],
        [0.0] * len(scores[NO_AGENTS]),
    )  # fmt: skip


def _named(label: str) -> str:
    return "pre-trained centrally" if label == NO_AGENTS else label


def _flat(methods: Mapping[str, Run], scores: Mapping[str, Any]) -> list[Row]:
    """Return how flat the loss of pre-training is at each centroid, and what fine-tuning from there scores."""
    rows: list[Row] = []
    centroids = {label: run for label, run in methods.items() if label != ALONE}
    for label, run in centroids.items():
        measured = {name: all_finals(run, name) for name in _FLATNESS}
        for replica, score in enumerate(scores[label].tolist()):
            found = {name: values[replica] for name, values in measured.items()}
            rows.append({"strategy": label, "replica": replica, "score": score, **found})
    return rows


def _flatter(rows: Sequence[Row]) -> Iterator[Check]:
    """Check whether methods whose pre-training ends where it is flatter transfer better."""
    for name, symbol in _FLATNESS.items():
        orders = []
        for replica in sorted({row["replica"] for row in rows}):
            own = [row for row in rows if row["replica"] == replica]
            both = np.array([[row[name] or np.nan, row["score"]] for row in own], dtype=float).T
            is_known = np.isfinite(both).all() and (np.ptp(both, 1) > 0).all()
            orders.append(-float(spearmanr(*both).statistic) if is_known else np.nan)
        claim = f"flatter pre-training transfers better (rank correlation of −{symbol} with SROCC over methods)"
        yield larger(claim, orders, [0.0] * len(orders))
