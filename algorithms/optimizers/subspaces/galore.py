"""GaLore and GoLore: gradients projected to low rank, by their singular vectors or at random."""

from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS
from basinet.algorithms.optimizers.subspaces.subspace_steps import SubspaceOptimizer

__all__ = ["GaLore", "GoLore"]


@OPTIMIZERS.register("galore")
class GaLore(SubspaceOptimizer):
    """Step inside the subspaces that keep most of the gradient.

    P are the first r left singular vectors of the stochastic gradient at every τ-th step; the settings are those of
    `SubspaceOptimizer`. Where the noise of that gradient outweighs the signal it follows the noise, and need not
    converge, unless that step has a larger batch, `refresh_batch`. Among directions with equal singular values, as when
    a gradient's rank is below r, rounding chooses. On a plain model `step_in_backward` holds no more than a layer's
    gradient at a time.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = GaLore([x], lr=1.0, rank=1)
        >>> x.grad = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
        >>> optimizer.step()
        >>> x.detach().abs().round(decimals=4).tolist()
        [[3.0, 0.0], [0.0, 0.0]]

    References:
        J. Zhao et al.: GaLore: memory-efficient LLM training by gradient low-rank projection, ICML 2024,
        arXiv:2403.03507. The sparse variant: W. Song et al.: Sparse is enough in fine-tuning pre-trained large language
        models, ICML 2024, arXiv:2312.11875.
    """


@OPTIMIZERS.register("golore")
class GoLore(SubspaceOptimizer):
    """Step inside random subspaces: GaLore without its bias towards noise.

    P is drawn uniformly from the Stiefel manifold at every τ-th step, or from the step `random_from` on, and before
    that it is GaLore's; the settings are those of `SubspaceOptimizer`.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.zeros(64, 64))
        >>> optimizer = GoLore([x], lr=1.0, rank=16)
        >>> x.grad = torch.eye(64)
        >>> optimizer.step()
        >>> round(x.norm().item(), 4)
        4.0

    References:
        Y. He, P. Li, Y. Hu, C. Chen, K. Yuan: Subspace optimization for large language models with convergence
        guarantees, ICML 2025, arXiv:2410.11289.
    """

    always_random = True
