"""Noise on what agents receive."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from basinet.sim.faults.fault import FAULTS, Fault

__all__ = ["LinkNoise"]


@FAULTS.register("link_noise")
@dataclass(frozen=True, kw_only=True)
class LinkNoise(Fault):
    """Each number that an agent receives has noise of its own, x_l + σ n with n ~ N(0, 1).

    With a constant step size μ and the curvature h, it adds about σ² Σ_{k≠l} w_kl² / (2 μ h K²) to the mean squared
    deviation of diffusion, which grows as μ gets smaller. What follows the parameters, such as optimizer state that is
    mixed, has no noise.

    Args:
        size: σ.

    References:
        X. Zhao, S.-Y. Tu, A. H. Sayed: Diffusion adaptation over networks under imperfect information exchange and
        non-stationary data, IEEE TSP 60 (2012), doi:10.1109/TSP.2012.2192928.
    """

    size: Annotated[float, Field(ge=0)]
