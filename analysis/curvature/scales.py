"""Parameter scales that make flatness measures invariant under rescaling of a network."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Size, Tensor

__all__ = ["Scale", "filter_normalized", "scales", "split"]

Scale = Literal["none", "adaptive", "filter"]


def split(flat: Tensor, shapes: Mapping[str, Size]) -> dict[str, Tensor]:
    """Split flat parameters by name.

    Args:
        flat: [N, P].
        shapes: Shapes of the parameters by name, in order.

    Returns:
        Views [N, *shape] by name.
    """
    parts = torch.split(flat, [shape.numel() for shape in shapes.values()], 1)
    return {name: part.view(len(flat), *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def scales(points: Tensor, shapes: Mapping[str, Size], kind: Scale) -> Tensor:
    """Compute the scale of each parameter.

    Multiplying a ReLU layer by a factor and dividing the next one by it changes the Hessian but not the function (Dinh
    et al.: Sharp minima can generalize for deep nets, ICML 2017, arXiv:1703.04933). Perturbations multiplied by these
    scales are invariant.

    Args:
        points: [N, P].
        shapes: Shapes of the parameters by name.
        kind: "none": 1; "adaptive": |θ_i| (Kwon et al.: ASAM, ICML 2021, arXiv:2102.11600); "filter": ‖w‖ / √d for
            the d entries w of a filter (a row of a layer's weight), and |θ_i| for biases and other vectors.

    Returns:
        [N, P].
    """
    if kind == "none":
        return torch.ones_like(points)
    found = points.abs()
    if kind == "filter":
        for name, part in split(points, shapes).items():
            if part.ndim > 2:
                filters = part.flatten(2)
                norms = filters.norm(dim=2, keepdim=True) / filters.shape[2] ** 0.5
                split(found, shapes)[name].copy_(norms.expand_as(filters).view_as(part))
    return found


def filter_normalized(directions: Tensor, points: Tensor, shapes: Mapping[str, Size]) -> Tensor:
    """Rescale each filter of a direction to the norm of the point's filter; biases and other vectors become zero.

    Args:
        directions: [N, P].
        points: [N, P].
        shapes: Shapes of the parameters by name.

    Returns:
        Directions [N, P], as in Li et al.: Visualizing the loss landscape of neural nets, NeurIPS 2018,
        arXiv:1712.09913.
    """
    found = torch.zeros_like(directions)
    parts = (split(tensor, shapes) for tensor in (found, directions, points))
    for (_, out), (_, direction), (_, point) in zip(*(part.items() for part in parts), strict=True):
        if out.ndim > 2:
            d, w = direction.flatten(2), point.flatten(2)
            norms = w.norm(dim=2, keepdim=True) / d.norm(dim=2, keepdim=True).clamp(min=1e-30)
            out.copy_((d * norms).view_as(out))
    return found
