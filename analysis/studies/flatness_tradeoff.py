"""Flatness and optimization in distributed learning: who leaves sharp minima, where they end, how accurate it is."""

from collections.abc import Callable

from basinet.analysis.plots.gallery import Drawing
from basinet.analysis.studies.claims import FULL, Sizes, part_of
from basinet.analysis.studies.digits import digits_claims
from basinet.analysis.studies.escapes import escape_claims, wells_claims
from basinet.analysis.studies.exit_scaling import scaling_claims
from basinet.analysis.studies.minima import excess_risk_claims, rest_claims
from basinet.analysis.studies.study import Check, Findings, Progress

__all__ = ["flatness_tradeoff"]


_PARTS: tuple[tuple[float, Callable[[Progress, Sizes], tuple[list[Check], list[Drawing]]]], ...] = (
    (0.08, excess_risk_claims),
    (0.24, escape_claims),
    (0.1, scaling_claims),
    (0.12, wells_claims),
    (0.08, rest_claims),
    (0.38, digits_claims),
)
"""The parts of the study, and how much of its time each takes."""


def flatness_tradeoff(progress: Progress, sizes: Sizes = FULL) -> Findings:
    """Decentralised training leaves sharp minima sooner, ends flatter, and is more or less accurate for it.

    Args:
        progress: Is told how far the study is.
        sizes: How much is done.

    Returns:
        The findings.
    """
    checks: list[Check] = []
    drawings: list[Drawing] = []
    done = 0.0
    for share, part in _PARTS:
        more, figures = part(part_of(progress, done, share), sizes)
        checks += more
        drawings += figures
        done += share
    return Findings(
        title="Flatness and optimization in distributed learning",
        about=[
            "Claims of the paper, numbered: 1, decentralised strategies leave a sharp minimum sooner than "
            "centralised training, consensus before diffusion; 1b, the more so the larger the batch; 2, they end in "
            "flatter minima; 3, diffusion has a smaller excess risk than consensus; 4, decentralised strategies are "
            "the more accurate, diffusion before consensus from random starts; 5, accuracy follows from flatness and "
            "optimization together; 6, consensus cannot rest at a minimum that is too sharp for its graph.",
            "They are tested on landscapes, where theory has closed forms, and on digits: a network of 1810 "
            "parameters, 448 training samples of whose labels a fifth are wrong, 16 agents on a ring who all see all "
            "of them. Controls compare with shorter centralised trainings that end at the same training loss. "
            "Strategies share initial values and samples, replica by replica.",
        ],
        checks=checks,
        drawings=drawings,
        sources=[
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed "
            "learning, IEEE TPAMI (2025), arXiv:2406.20006, doi:10.1109/TPAMI.2025.3583104.",
        ],
    )
