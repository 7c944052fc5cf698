"""The study of flatness and optimization in distributed learning."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.studies.flatness_tradeoff.claims import FULL, Sizes, part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import PAIRED
from basinet.analysis.studies.flatness_tradeoff.departures import departure_claims
from basinet.analysis.studies.flatness_tradeoff.escapes import escape_claims
from basinet.analysis.studies.flatness_tradeoff.exit_scaling import scaling_claims
from basinet.analysis.studies.flatness_tradeoff.minima import excess_risk_claims, rest_claims
from basinet.analysis.studies.flatness_tradeoff.presets import CIFAR10, CIFAR100, CIFAR100_WRN, DIGITS
from basinet.analysis.studies.flatness_tradeoff.settings import Setting
from basinet.analysis.studies.flatness_tradeoff.starts import family_claims, variant_claims
from basinet.analysis.studies.flatness_tradeoff.wells import wells_claims
from basinet.analysis.studies.study import Check, Findings, Progress

__all__ = ["find_out", "flatness_tradeoff"]

Found = tuple[list[Check], list[Drawing]]

_LANDSCAPES: tuple[tuple[float, Callable[[Progress, Sizes], Found]], ...] = (
    (0.08, excess_risk_claims),
    (0.26, escape_claims),
    (0.1, scaling_claims),
    (0.13, wells_claims),
    (0.1, rest_claims),
)
"""The parts on landscapes, with their relative durations."""

_SETTINGS = {"small": DIGITS, "cifar10": CIFAR10, "cifar100": CIFAR100, "cifar100_wrn": CIFAR100_WRN}


def flatness_tradeoff(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "cifar10", "cifar100", "cifar100_wrn"] = "small",
    **changes: Any,
) -> Findings:
    """Decentralised training leaves sharp minima sooner and ends flatter, with an effect on accuracy.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for landscapes and digits; otherwise photographs, for hours or days on GPUs.
        **changes: Values that override those of the `Setting`.

    Returns:
        The findings.
    """
    return find_out(progress, folder, _SETTINGS[scale].changed(changes), FULL if scale == "small" else None)


def find_out(progress: Progress, folder: Path, setting: Setting, sizes: Sizes | None) -> Findings:
    """Test the claims.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        setting: The task and the model.
        sizes: The size of the study on landscapes; None to leave them out.

    Returns:
        The findings.
    """
    parts: list[tuple[float, Callable[[Progress], Found]]] = []
    if sizes is not None:
        parts += [(share, partial(part, sizes=sizes)) for share, part in _LANDSCAPES]  # type: ignore[call-arg]
    for departure in setting.departures:
        parts.append((0.1, partial(departure_claims, folder=folder, setting=setting, departure=departure)))
    for family in setting.families:
        share = 0.1 * len(family.factors) * len(family.topologies)
        parts.append((share, partial(family_claims, folder=folder, setting=setting, family=family)))
    parts.append((0.1, lambda progress: (variant_claims(progress, folder, setting), [])))
    checks: list[Check] = []
    drawings: list[Drawing] = []
    done, total = 0.0, sum(share for share, _ in parts)
    for share, part in parts:
        more, figures = part(part_of(progress, done, share / total))
        checks += more
        drawings += figures
        done += share / total
    paired = sum(check.rule == PAIRED for check in checks)
    return Findings(
        title="Flatness and optimization in distributed learning",
        about=[
            "Claims of the paper, numbered: 1, decentralised strategies leave a sharp minimum sooner than "
            "centralised training, consensus before diffusion; 1b, the more so the larger the batch; 2, they end in "
            "flatter minima; 3, diffusion has a smaller excess risk than consensus; 4, decentralised strategies are "
            "more accurate, from random starts diffusion most; 5, accuracy follows from flatness and optimization "
            "together; 6, consensus cannot rest at a minimum that is too sharp for its graph.",
            *(["They are tested on landscapes, where theory has closed forms, and on a network."] if sizes else []),
            setting.about,
            "Controls compare with centralised trainings at the same training loss, and compare strategies at the step "
            "sizes with which each fits best, chosen for each replica by the training losses of the others. Strategies "
            f"share initial values and samples, replica by replica. There are {setting.replicas} replicas, under seed "
            f"{setting.seed} (settings were tuned under seed 0); a replica is the unit of every interval, except in "
            "claim 5 where whole conditions are predicted. A comparison is reversed if its interval lies on the other "
            "side of zero, and not shown if it covers zero.",
            f"{paired} rows are paired comparisons, each with its own 95 % interval: if there were no differences at "
            f"all, about {paired / 40:.1f} would agree by chance, and as many would be reversed. The cells of a phase "
            "diagram are counted after Holm's correction: without differences, one diagram in twenty would show any.",
        ],
        checks=checks,
        drawings=drawings,
        sources=[
            "Cao, Wu, Yuan, Sayed: On the trade-off between flatness and optimization in distributed learning, IEEE "
            "TPAMI, 2025, arXiv:2406.20006, doi:10.1109/TPAMI.2025.3583104.",
        ],
    )
