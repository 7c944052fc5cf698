"""The excess risk of a network, split into contributions of its centroid and of its agents' disagreement."""

from dataclasses import dataclass

__all__ = ["RiskParts"]


@dataclass(frozen=True)
class RiskParts:
    """The mean excess risk of the agents, Σ_k π_k E J(x_k) − J(x*), on a quadratic J, as a sum of four parts.

    With the centroid x̄ = Σ_k π_k x_k, each of the two bold terms splits into a contribution of the mean and one of the
    fluctuations around it: Σ_k π_k E J(x_k) − J(x*) = **E J(x̄) − J(x*)** + **½ Σ_k π_k E (x_k − x̄)ᵀ H (x_k − x̄)**.

    Attributes:
        centroid_bias: From the mean centroid: 0 in the steady state, unless the agents have unequal weights.
        centroid_noise: From the fluctuations of the centroid.
        disagreement_bias: From the agents' lasting differences, caused by their different data.
        disagreement_noise: From the fluctuations of the agents around their centroid.
    """

    centroid_bias: float
    centroid_noise: float
    disagreement_bias: float
    disagreement_noise: float

    @property
    def centroid(self) -> float:
        """Excess risk of the centroid."""
        return self.centroid_bias + self.centroid_noise

    @property
    def disagreement(self) -> float:
        """The agents' loss above the centroid's: ½ Tr(H Ξ) with the diversity matrix Ξ.

        Where gradients are evaluated, it is the implicit regularisation of the centroid's loss (Zhu et al.:
        Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023, arXiv:2306.02913);
        `basinet.analysis.measures.disagreement.implicit_regularization` measures it on a run.
        """
        return self.disagreement_bias + self.disagreement_noise

    @property
    def total(self) -> float:
        """Mean excess risk of the agents."""
        return self.centroid + self.disagreement
