"""Flatness and optimization in distributed learning: who leaves sharp minima, where they end, how accurate it is."""

from basinet.analysis.studies.landscapes import FULL, Sizes, landscape_claims
from basinet.analysis.studies.study import Findings, Progress

__all__ = ["flatness_tradeoff"]


def flatness_tradeoff(progress: Progress, sizes: Sizes = FULL) -> Findings:
    """Decentralised training leaves sharp minima sooner and ends flatter: on landscapes with closed forms.

    Args:
        progress: Is told how far the study is.
        sizes: How much is done.

    Returns:
        The findings.
    """
    checks, drawings = landscape_claims(progress, sizes)
    return Findings(
        title="Flatness and optimization in distributed learning",
        about=[
            "Claims of the paper, numbered: 1, decentralised strategies leave a sharp minimum sooner than "
            "centralised training, consensus before diffusion; 1b, the more so the larger the batch; 2, they end in "
            "flatter minima; 3, diffusion has a smaller excess risk than consensus; 6, consensus cannot rest at a "
            "minimum that is too sharp for its graph.",
        ],
        checks=checks,
        drawings=drawings,
        sources=[
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed "
            "learning, IEEE TPAMI (2025), arXiv:2406.20006, doi:10.1109/TPAMI.2025.3583104.",
        ],
    )
