"""Video quality by networks of agents: strategies and data, and losses of a whole batch on local batches."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference, larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.local_batches import LocalBatches, draw_batches, draw_objective, other_batches
from basinet.analysis.studies.vision.scale import IID, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import NO_AGENTS, Compared, at_least
from basinet.sim.run.records import Row

__all__ = ["SCALES", "Scale", "find_out", "video_quality"]

_METRIC, _RIDGE = "test_challenge_score", "ridge on scene statistics"

_SAME = 0.05
"""Scores that differ by less count as the same."""

_SMALL = (2,)
"""Sizes of smaller local batches than those of the agents."""

_LOSSES = ("l1", "plcc")
"""The loss of single videos, which is the control, and that of the correlation over a batch."""


_EXPERIMENT = {
    "schedule": {"name": "cosine", "final": 0.2},
    "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 20}],
    "analysis_samples": 72,
}

SCALES = {
    "small": Scale(
        about="Clips of 80 contents, of which statistics of frames and of motion are rated by a perceptron of 11,137"
        " parameters. Some ten minutes on two processors.",
        task={"name": "video_quality", "inputs": "features"},
        apart="distortion",
        model={"name": "quality_perceptron", "hidden": 64},
        agents=9,
        batch=8,
        rate=0.002,
        steps=400,
        replicas=8,
        of_agents=3,
        experiment=_EXPERIMENT | {"evaluate_every": 100},
    ),
    "large": Scale(
        about="Clips of 80 contents, of which patches of all frames at their native resolution are rated by a"
        " three-dimensional network of 76,501 parameters. Some days on a processor; hours on a GPU.",
        task={"name": "video_quality", "inputs": "fragments"},
        apart="distortion",
        model={"name": "fragment_network"},
        agents=9,
        batch=4,
        rate=0.001,
        steps=3000,
        replicas=5,
        of_agents=5,
        experiment=_EXPERIMENT | {"evaluate_every": 500, "analysis_samples": 64, "runtime": {}},
    ),
}
"""The sizes by name."""


def video_quality(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "large"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Networks of agents rate videos: strategies, one distortion per agent, and what local batches do to PLCC.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "large" for a network of the pixels, hours on a GPU.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps, by default that of the scale.

    Returns:
        The findings.
    """
    return find_out(progress, folder, SCALES[scale].with_length(replicas, steps))


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Train by all strategies under both losses, on data of one kind and on one distortion per agent.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    compared = {}
    for place, loss in enumerate(_LOSSES):
        described, own = scale.describe(scale.conditions(loss=loss)), part_of(progress, 0.45 * place, 0.45)
        runs = carry_out(folder, f"strategies_{loss}", described, own)
        compared[loss] = Compared(runs, _METRIC, scale.of_agents, loss)
    cases = {name: keys for loss in _LOSSES for name, keys in other_batches(scale, loss, _SMALL, loss=loss).items()}
    described = scale.describe(cases, strategy=NO_AGENTS, analysis=[])
    others = by_case(carry_out(folder, "batches", described, part_of(progress, 0.9, 0.1)))
    usual = {loss: found.outcomes.run(NO_AGENTS, IID) for loss, found in compared.items()}
    trained = {loss: LocalBatches(scale, _METRIC, run, others, loss, _SMALL) for loss, run in usual.items()}
    baselines = compared["l1"].baselines
    trivial = ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    whole = scale.agents * scale.batch
    gaps = {loss: found.gaps() for loss, found in trained.items()}
    return Findings(
        title="Video quality by networks of agents",
        about=[
            scale.about,
            f"{scale.agents} agents on a ring, each with a batch of {scale.batch}, take {scale.steps} steps of Adam"
            f" under a rate that falls from {scale.rate:g} to a fifth; the corrections of exact diffusion and of"
            f" gradient tracking are derived for plain gradients. {IID}: the training videos are dealt out at random."
            f" {scale.apart_name.capitalize()}: an agent sees videos of one {scale.apart} only, or of none."
            f" Centralised training averages the gradients of the same agents. {scale.replicas} replicas under seed 1,"
            " which share initial values and samples.",
            "The score is that of the challenge NTIRE 2024, 0.45 SROCC + 0.45 PLCC + 0.05 + 0.05 of the fractions of"
            f" right pairs, on test videos of other contents. Without a network: {trivial}.",
            f"l1 is a mean over videos; plcc is a loss of the correlation within a batch. The gradient of the latter on"
            f" {scale.agents} local batches of {scale.batch}, averaged, is not that on the {whole} videos together:"
            " agents minimise another objective than a single model does. It ignores the scale of predictions, on which"
            " λ_max depends: flatness compares trainings under plcc with caution.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=[*_checks(compared, scale), *_batch_checks(trained, gaps)],
        drawings=[
            *(drawing for found in compared.values() for drawing in found.drawings()),
            draw_objective([*gaps.values()]),
            draw_batches([*trained.values()], "challenge score", trivial),
        ],
        sources=[
            "X. Li et al.: NTIRE 2024 challenge on short-form UGC video quality assessment, CVPRW 2024,"
            " arXiv:2404.11313.",
            "Y. Lu et al.: KVQ: Kwai video quality assessment for short-form videos, CVPR 2024, arXiv:2402.07220.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _checks(compared: Mapping[str, Compared], scale: Scale) -> Iterator[Check]:
    for loss, found in compared.items():
        central, ridge = found.score(NO_AGENTS, IID), found.baselines[_RIDGE]
        claim = f"the network beats the {_RIDGE} (difference, centralised, {IID}, {loss})"
        yield at_least(claim, central, [ridge] * len(central), 0.0)
    for found in compared.values():
        for case in (IID, scale.apart_name):
            yield found.better(case)
            yield from found.flatter(case)
        yield from found.mended(IID, scale.apart_name)
        yield found.ordered()


def _batch_checks(trained: Mapping[str, LocalBatches], gaps: Mapping[str, Sequence[Row]]) -> Iterator[Check]:
    for loss, found in trained.items():
        yield found.another(gaps[loss], expected=loss == "plcc")
    for loss, found in trained.items():
        (_, whole), *smaller = found.runs
        one = found.scores(1, whole)
        for agents, batch in smaller:
            scores = found.scores(agents, batch)
            what = f"{agents} local ones of {batch} (difference, centralised, {loss})"
            if loss == "plcc":
                yield larger(f"a batch of {whole} scores above {what}", one, scores)
            else:
                difference, rule = Difference(one, scores), f"the paired 95 % interval lies within ±{_SAME:g}"
                same = max(-difference.low, difference.high) < _SAME
                no = "not shown" if difference.pairs > 1 else "too few pairs"
                yield Check(f"a batch of {whole} scores as high as {what}", 0.0, str(difference), rule, same, no)
