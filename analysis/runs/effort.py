"""How much work goes into the measures."""

from dataclasses import dataclass

__all__ = ["FULL", "LEAST", "Effort"]


@dataclass(frozen=True)
class Effort:
    """How many products and evaluations each measure takes.

    Attributes:
        lanczos_steps: Steps of a Krylov run, at least and at most; memory may hold fewer.
        probes: Probes of a round, and probes after which no round is begun.
        pairs: Pairs of perturbations of the average sharpness.
        ascent_steps: Steps of each ascent of the worst sharpness.
        sigma: Pairs of perturbations, and bisections, of `pac_bayes_sigma`.
        descent_products: Products of the descent to the minimum, at most.
        decrement_steps: Steps of the Newton decrement.
        tail_samples: Samples that the tail index is estimated from, at most.
        positions: Points of a slice, of a side of a plane, and of the way to an agent.
    """

    lanczos_steps: tuple[int, int] = (30, 100)
    probes: tuple[int, int] = (10, 30)
    pairs: int = 10
    ascent_steps: int = 10
    sigma: tuple[int, int] = (8, 13)
    descent_products: int = 300
    decrement_steps: int = 30
    tail_samples: int = 2000
    positions: tuple[int, int, int] = (41, 21, 11)


FULL = Effort()

LEAST = Effort(
    lanczos_steps=(1, 1),
    probes=(2, 2),
    pairs=2,
    ascent_steps=1,
    sigma=(1, 1),
    descent_products=1,
    decrement_steps=1,
    tail_samples=3,
    positions=(2, 2, 3),
)
"""What tells whether a measure can be had."""
