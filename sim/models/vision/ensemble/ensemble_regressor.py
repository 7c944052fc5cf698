"""A regressor of features of several frozen extractors, brought into one space."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.sim.experiment.mistakes import count_of
from basinet.sim.models.model import MODELS
from basinet.sim.models.vision.video.video_heads import score_layer

Weights = Literal["uniform", "davies_bouldin", "learnt"]


@MODELS.register("ensemble_regressor")
class EnsembleRegressor(nn.Module):
    r"""Maps the features of each extractor into one space, and rates their weighted sum.

    The features of extractor m are averaged over frames, and transformed by two times linear layer, LayerNorm, GELU:
    the embedding $z_m$. The sum $u = \sum_m w_m z_m$ is rated by a perceptron. Nothing else is trained. The paper's
    equations could not be verified, and this is our reading of its method.

    Args:
        input_shapes: (frames, length) of the features of each extractor; the simulator supplies them.
        num_outputs: Number of scores; the simulator supplies it.
        clusters: Number of clusters of quality that have a learnt centre; 0 for none; the simulator supplies it.
        davies_bouldin: Davies–Bouldin index of the features of each extractor; the simulator supplies it.
        width: Dimension of the common space.
        weights: The weights $w_m$ of the extractors, which sum to 1: all alike; in proportion to 1 / Davies–Bouldin
            index; or learnt, the softmax of parameters.

    Raises:
        ValueError: The inputs are not sequences of features, one for each index; or indices give no weights.

    References:
        K. Yuan et al.: PTM-VQA: Efficient video quality assessment leveraging diverse pretrained models from the wild,
        CVPR 2024, pp. 2835–2845.

    Example:
        >>> model = EnsembleRegressor([(2, 36), (1, 12)], 1, clusters=4, davies_bouldin=(5.0, 7.0))
        >>> [tuple(part.shape) for part in model(torch.zeros(5, 2, 36), torch.zeros(5, 1, 12))]
        [(5, 1), (5, 2, 64), (5, 64), (5, 4)]
    """

    def __init__(
        self,
        input_shapes: Sequence[tuple[int, ...]],
        num_outputs: int,
        *,
        clusters: int,
        davies_bouldin: Sequence[float],
        width: Annotated[int, Field(ge=1, le=10**5)] = 64,
        weights: Weights = "uniform",
    ) -> None:
        super().__init__()
        if {len(shape) for shape in input_shapes} != {2} or len(input_shapes) != len(davies_bouldin):
            given, wanted = ", ".join(map(str, input_shapes)), count_of(len(davies_bouldin), "extractor")
            raise ValueError(
                f"ensemble_regressor needs inputs of shape (frames, features) of {wanted}, but got {given}"
            )
        self.transformations = nn.ModuleList(_transformation(shape[-1], width) for shape in input_shapes)
        self.centres = nn.Parameter(torch.randn(clusters, width)) if clusters else None
        logits = torch.zeros(len(input_shapes))
        if weights == "davies_bouldin":
            if not 0 < min(davies_bouldin) < math.inf:
                given = ", ".join(f"{index:g}" for index in davies_bouldin)
                raise ValueError(
                    "weights: davies_bouldin needs extractors whose Davies–Bouldin indices are positive, and one that"
                    f" is finite, but got {given}"
                )
            logits = torch.tensor([-math.log(index) for index in davies_bouldin])
        if weights == "learnt":
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), score_layer(width, num_outputs))

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Rate videos.

        Args:
            *features: Those of each extractor, [B, frames, length].

        Returns:
            Scores [B, num_outputs], embeddings [B, extractors, width], their weighted sum [B, width], and if clusters
            have centres the cosine of the sum and each of these, [B, clusters].
        """
        found = [layer(part.mean(1)) for layer, part in zip(self.transformations, features, strict=True)]
        embeddings = torch.stack(found, 1)
        together = (self.logits.softmax(0)[:, None] * embeddings).sum(1)
        outputs = self.head(together), embeddings, together
        if self.centres is None:
            return outputs
        unit, centres = (nn.functional.normalize(part, dim=-1) for part in (together, self.centres))
        return *outputs, unit @ centres.mT


def _transformation(length: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(length, width),
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.GELU(),
    )
