"""Super-resolution by networks of agents: what strategies and data cost, and whether flatness tells."""

from pathlib import Path
from typing import Literal

from basinet.analysis.studies.flatness_tradeoff.trainings import carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.scale import IID, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import NO_AGENTS, Compared, at_least

__all__ = ["SCALES", "Scale", "find_out", "super_resolution"]

_METRIC, _GAP = "test_psnr_y", 0.7


_EXPERIMENT = {
    "schedule": {"name": "one_cycle", "rise": 0.2, "final": 0.1},
    "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 30}],
    "analysis_samples": 32,
}

SCALES = {
    "small": Scale(
        about="Eight photos to train on, patches of 12 × 12 pixels, and a residual network of 16,688 parameters. Some"
        " ten minutes on two processors.",
        task={"name": "super_resolution", "patch": 12, "stride": 60},
        apart="photo",
        model={"name": "residual_upscaler", "features": 16, "blocks": 2},
        agents=8,
        batch=3,
        rate=0.006,
        steps=390,
        replicas=3,
        of_agents=1,
        experiment=_EXPERIMENT | {"evaluate_every": 130},
    ),
    "large": Scale(
        about="Eight photos to train on, patches of 24 × 24 pixels, and a residual network of 88,752 parameters. Some"
        " six processor hours.",
        task={"name": "super_resolution"},
        apart="photo",
        model={"name": "residual_upscaler"},
        agents=8,
        batch=4,
        rate=0.002,
        steps=1200,
        replicas=5,
        of_agents=5,
        experiment=_EXPERIMENT | {"evaluate_every": 200},
    ),
}
"""The sizes by name."""


def super_resolution(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "large"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Networks of agents enlarge photos: strategies, one photo per agent, flatness and bytes against PSNR.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "large" for the default network, hours.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps, by default that of the scale.

    Returns:
        The findings.
    """
    return find_out(progress, folder, SCALES[scale].with_length(replicas, steps))


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Train by all strategies, on data of one kind and on a photo per agent.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    found = Compared(
        carry_out(folder, "strategies", scale.describe(scale.conditions()), progress), _METRIC, scale.of_agents
    )
    (bicubic,) = found.baselines.values()
    return Findings(
        title="Super-resolution by networks of agents",
        about=[
            scale.about,
            f"{scale.agents} agents on a ring, each with a batch of {scale.batch}, take {scale.steps} steps of Adam"
            f" under a rate that rises to {scale.rate:g} and falls to a tenth; the corrections of exact diffusion and"
            f" of gradient tracking are derived for plain gradients. {IID}: patches of all photos are dealt out at"
            f" random. {scale.apart_name.capitalize()}: an agent knows its photo only. Centralised training averages"
            f" the gradients of the same agents. {scale.replicas} replicas under seed 1, which share initial values and"
            " samples.",
            f"The score is the mean PSNR of the luma on whole photos of other scenes, as the challenge NTIRE 2024"
            f" computes it: 8 bits, borders of 4 pixels left out. Bicubic interpolation, with which all networks begin,"
            f" reaches {bicubic:.2f} dB.",
            "Each row is a test of its own: of twenty claims without any truth, one would show by chance.",
        ],
        checks=_checks(found, bicubic, scale),
        drawings=found.drawings(),
        sources=[
            "Z. Chen et al.: NTIRE 2024 challenge on image super-resolution (×4): methods and results, CVPRW 2024,"
            " arXiv:2404.09790.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )


def _checks(found: Compared, bicubic: float, scale: Scale) -> list[Check]:
    checks, cases = [], (IID, scale.apart_name)
    for case in cases:
        central = found.score(NO_AGENTS, case)
        claim = f"the network beats bicubic interpolation (dB, centralised, {case})"
        checks.append(at_least(claim, central, [bicubic] * len(central), _GAP))
    for case in cases:
        checks += [found.better(case), *found.flatter(case)]
    return [*checks, *found.mended(*cases), found.ordered()]
