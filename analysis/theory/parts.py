"""The excess risk of a network, split into what its centroid and what the disagreement of its agents contribute."""

from dataclasses import dataclass

__all__ = ["RiskParts"]


@dataclass(frozen=True)
class RiskParts:
    """The mean excess risk of the agents, Σ_k π_k E J(x_k) − J(x*), on a quadratic J, as a sum of four parts.

    With the centroid x̄ = Σ_k π_k x_k, each of the two bold terms splits into that of the mean and that of the
    fluctuations around it: Σ_k π_k E J(x_k) − J(x*) = **E J(x̄) − J(x*)** + **½ Σ_k π_k E (x_k − x̄)ᵀ H (x_k − x̄)**.

    Attributes:
        centroid_bias: Of the mean centroid: 0 once it has settled, unless the agents pull in unequal proportions.
        centroid_noise: Of the fluctuations of the centroid.
        disagreement_bias: Of the agents' lasting differences, which their different data cause.
        disagreement_noise: Of the fluctuations of the agents around their centroid.
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
        """What the agents' loss exceeds the centroid's by: ½ Tr(H Ξ) with the diversity matrix Ξ.

        Taken where gradients are evaluated, it is what the implicit regularisation adds to the centroid's loss (Zhu et
        al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023, arXiv:2306.02913);
        of a run, `basinet.analysis.measures.disagreement.implicit_regularization` measures it.
        """
        return self.disagreement_bias + self.disagreement_noise

    @property
    def total(self) -> float:
        """Mean excess risk of the agents."""
        return self.centroid + self.disagreement
