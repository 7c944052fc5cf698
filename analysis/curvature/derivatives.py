"""Checks of autograd's second and third derivatives: some layers have none, or silently wrong ones."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from basinet.algorithms import draws
from basinet.analysis.curvature.determinism import differentiable
from basinet.analysis.curvature.elementary import Elementary
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.agents.state import load_vector
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import take
from basinet.sim.experiment.mistakes import in_words
from basinet.sim.models.modules import copy_model, move_model

__all__ = ["check_chunk", "find_asymmetry", "find_fault"]

Field = Callable[[Tensor], Tensor]
"""Maps a leaf [P] to a gradient there, with its graph."""

Product = Callable[[Tensor], Tensor]
"""Multiplies the matrix at a point by a vector [P]."""

_Call = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with, by position and by name."""

_SAMPLES = 4

_LARGE = 10**6
"""Number of parameters above which half as many samples are checked."""

_TRIES = ((1e-3, 1e-7), (1e-2, 1e-6), (1e-1, 1e-8), (0.5, 1e-5))
"""Pairs tried: relative distance of the check from the point, and half the step of the central differences, in units of
the parameters. At the point itself, ties and zeros are kinks, and a loss near zero is mostly rounding; long differences
run into kinks, short ones into rounding."""

_NEARER_TO_ZERO, _VANISHING = (0.1, 0.01), 1e-6
"""Where a classifier is certain of its samples, derivatives are mostly rounding and cannot be judged: they are smaller
by this factor than at scaled-down parameters."""

_NOTICED = 1e-3
"""Relative error below which a product counts as correct."""


def check_chunk(objective: Objective) -> Chunk:
    """Choose a few samples with nonzero weight, spread over those of the first point; or a batch, if it has a loss.

    Args:
        objective: The losses.

    Returns:
        Samples shared by all points.
    """
    if objective.samples.has_batches:
        return Chunk(objective.samples.few())
    counting = objective.samples.places(0)
    count = _SAMPLES // 2 if objective.num_parameters > _LARGE and not objective.training else _SAMPLES
    places = counting[torch.linspace(0, len(counting) - 1, min(count, len(counting))).long().to(counting.device)]
    return Chunk(take(objective.samples.data, places))


def find_fault(objective: Objective, point: Tensor, buffers: Mapping[str, Tensor], times: Literal[2, 3]) -> str | None:
    """Check that autograd's derivatives of the loss near a point are correct.

    A Hessian is symmetric, and its products match differences of the gradient; so do the third derivative and
    differences of a Hessian-vector product. A double backward that misses a path or a parameter breaks one of the two.
    A coordinate without a gradient counts as constant.

    Args:
        objective: The losses; a few samples are checked, in float64. If the model cannot be evaluated in float64,
            only the symmetry is checked, with a warning.
        point: [P].
        buffers: The point's buffers by name.
        times: Order of the derivative.

    Returns:
        A sentence that names the faulty layer, or None.
    """
    matrix = "Hessian" if times == 2 else "third derivative"
    chunk = check_chunk(objective)
    if objective.dtype != torch.float64:
        try:
            objective, point, buffers, chunk = _doubled(objective, point, buffers, chunk)
        except (RuntimeError, TypeError, ValueError) as error:  # the model fixes its own dtype
            warnings.warn(
                f"The {matrix} of the loss is checked for symmetry only, not against differences of the gradient: the"
                f" model cannot be evaluated in float64 ({in_words(error)}).",
                stacklevel=2,
            )
    stacked = {name: b[None] for name, b in buffers.items()}

    def gradient(leaf: Tensor) -> Tensor:
        with torch.enable_grad(), Elementary(3) if times == 3 else nullcontext():
            return _slope(objective.losses(leaf[None], stacked, chunk).sum(), leaf)

    (direction,) = draws.normal(_keys(0), point.shape, dtype=point.dtype).to(point)

    def along(leaf: Tensor) -> Tensor:
        return _slope((gradient(leaf) * direction).sum(), leaf)

    field = gradient if times == 2 else along
    parts = {name: shape.numel() for name, shape in objective.shapes.items()}
    # Differences of gradients in lower precision are mere rounding.
    # The terms of the two sums that are compared for symmetry have relative errors far below √eps.
    compared = (parts, field) if objective.eps <= torch.finfo(torch.float64).eps else (None, None)
    fault = _fault(partial(_products, field), point, objective.eps**0.5, *compared)
    if fault is None:
        return None
    model = load_vector(copy_model(objective.model), point, dict(buffers))
    culprit = _culprit(model, lambda: objective.loss(model, chunk.batch))
    return f"the {matrix} of the loss, as autograd computes it, {fault}; {culprit}"


def find_asymmetry(products: Callable[[Tensor], Product], point: Tensor, rtol: float) -> str | None:
    """Check that a matrix is symmetric.

    Args:
        products: Maps a point [P] near the one given to the products with the matrix there.
        point: [P].
        rtol: Tolerance of uᵀHv − vᵀHu relative to their terms.

    Returns:
        A sentence that describes the fault, or None.
    """
    return _fault(lambda near: (products(near), torch.ones_like(near)), point, rtol)


def _doubled(
    objective: Objective, point: Tensor, buffers: Mapping[str, Tensor], chunk: Chunk
) -> tuple[Objective, Tensor, Mapping[str, Tensor], Chunk]:
    """Convert the loss of a chunk to float64, where small differences stand out from rounding."""
    model = move_model(copy_model(objective.model), point.device, torch.float64)
    batch = map_nest(_double, chunk.batch)
    statistics = {name: _double(b) for name, b in buffers.items()}
    exact, whole = Objective(model, objective.loss, batch, training=objective.training), Chunk(batch)
    exact.losses(point.double()[None], {name: b[None] for name, b in statistics.items()}, whole)
    return exact, point.double(), statistics, whole


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _products(field: Field, near: Tensor) -> tuple[Product, Tensor]:
    """Return products with the derivative of a gradient field, and a mask of the coordinates that have a gradient."""
    leaf = near.clone().requires_grad_()
    slope = field(leaf)

    def product(vector: Tensor) -> Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(near)
        with torch.enable_grad():  # as in `curvature`, without the import of sympy
            along = (slope * vector).sum()
        return torch.autograd.grad(along, leaf, retain_graph=True, materialize_grads=True)[0]

    return product, slope.detach() != 0


def _fault(
    products: Callable[[Tensor], tuple[Product, Tensor]],
    point: Tensor,
    rtol: float,
    parts: Mapping[str, int] | None = None,
    field: Field | None = None,
) -> str | None:
    """Look for a fault near a point, or nearer to zero if the products at the point are mere rounding."""
    fault, size = _fault_at(products, point, parts, field, rtol)
    for factor in _NEARER_TO_ZERO:
        if fault is None:
            break
        elsewhere, larger = _fault_at(products, factor * point, parts, field, rtol)
        if size < _VANISHING * larger:
            fault, size = elsewhere, larger
    return fault


def _fault_at(
    products: Callable[[Tensor], tuple[Product, Tensor]],
    point: Tensor,
    parts: Mapping[str, int] | None,
    field: Field | None,
    rtol: float,
) -> tuple[str | None, float]:
    """Check products for symmetry, and against differences of the field that they differentiate.

    Returns:
        The fault, or None, and the size of a product.
    """
    unit = max(float(point.square().mean().sqrt()), 1e-3)
    wrong = set(parts or {})
    fault, size = None, math.nan
    for number, (jitter, step) in enumerate(_TRIES):
        keys = _keys(*(3 * number + i for i in range(3)))
        noise, u, v = draws.normal(keys, point.shape, dtype=torch.float64).to(point)
        near = point + jitter * noise * torch.where(point == 0, unit, point)
        try:
            product, moved = products(near)
            u, v = u * moved, v * moved
            image_u, image_v = product(u) * moved, product(v) * moved
        except RuntimeError as error:
            return f"is not available ({str(error).splitlines()[0]})", size
        if not (image_u.isfinite().all() and image_v.isfinite().all()):
            fault = "is not finite"
            continue
        size = float(image_v.norm())
        left, right = u * image_v, v * image_u
        a, b = float(left.sum()), float(right.sum())
        if abs(a - b) > rtol * float(left.abs().sum() + right.abs().sum()):
            fault = f"is not symmetric (uᵀHv = {a:.6g}, vᵀHu = {b:.6g})"
            continue
        if parts is None or field is None or point.dtype != torch.float64:
            return None, size
        h = step * unit
        ahead, behind = (field((near + way * v).requires_grad_()).detach() for way in (h, -h))
        off = (ahead - behind) / (2 * h) - image_v
        rounding = 1e3 * torch.finfo(point.dtype).eps * float((ahead.norm() + unit * image_v.norm()) / h)
        blocks = zip(parts, *(torch.split(t, list(parts.values())) for t in (off * moved, image_v)), strict=True)
        wrong &= {name for name, gap, image in blocks if float(gap.norm()) > _NOTICED * float(image.norm()) + rounding}
        if not wrong:
            return None, size
        fault = f"disagrees with differences of the gradient in {', '.join(name for name in parts if name in wrong)}"
    return fault, size


def _culprit(model: nn.Module, evaluate: Callable[[], Any]) -> str:
    """Name the innermost module whose derivatives are wrong, and its autograd functions written in Python."""
    calls: dict[str, _Call] = {}
    names = {module: name for name, module in model.named_modules()}

    def remember(module: nn.Module, *given: Any) -> None:
        calls.setdefault(names[module], map_nest(lambda t: t.detach().clone(), given))

    hooks = [module.register_forward_pre_hook(remember, with_kwargs=True) for module in names]
    try:
        evaluate()
    finally:
        for hook in hooks:
            hook.remove()
    for module, name in reversed(names.items()):  # children come after their parents
        if name in calls and (found := _own_fault(module, calls[name])) is not None:
            where = f"layer '{name}' ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
            return f"the cause is {where}" + "".join(f", in its {function}" for function in found)
    return "the cause is the loss of the task"


def _own_fault(module: nn.Module, call: _Call) -> list[str] | None:
    """Check a module in isolation: None if correct, otherwise the names of its autograd functions written in Python."""
    held = {name: p.detach() for name, p in module.named_parameters()}
    floats = [t for t in leaves(call) if t.is_floating_point()]
    variables = [*held.values(), *floats]
    if not variables or len({t.dtype for t in variables}) > 1:
        return None
    # A factor on the outputs: the incoming gradient varies too.
    variables.append(torch.ones_like(variables[0].flatten()[:1]))
    sizes = [t.numel() for t in variables]
    functions: list[str] = []

    def field(leaf: Tensor) -> Tensor:
        parts = [part.view(t.shape) for part, t in zip(torch.split(leaf, sizes), variables, strict=True)]
        rest, gain = iter(parts[len(held) : -1]), parts[-1]
        args, kwargs = map_nest(lambda t: next(rest).clone() if t.is_floating_point() else t, call)
        swapped = dict(zip(held, parts, strict=False))
        with torch.enable_grad(), differentiable(leaf.device):
            found = torch.func.functional_call(module, swapped, args, kwargs, tie_weights=False)
        outputs = [t for t in leaves(found) if t.is_floating_point()]
        functions[:] = dict.fromkeys(name for t in outputs for name in _functions(t))
        total = leaf.new_zeros(())
        for number, t in enumerate(outputs):  # squared too: a linear layer has no second derivative
            total = (
                total + ((gain * t + t.square()) * draws.normal(_keys(100 + number), t.shape, dtype=t.dtype)[0]).sum()
            )
        return _slope(total, leaf)

    start = torch.cat([t.flatten() for t in variables])
    try:
        fault = _fault(partial(_products, field), start, torch.finfo(start.dtype).eps ** 0.5, {"": sum(sizes)}, field)
    except Exception:  # a layer that cannot be called in isolation is not blamed
        return None
    return functions if fault else None


def _functions(output: Tensor) -> Iterator[str]:
    """Yield the names of the functions in a graph whose backward pass is written in Python."""
    seen, todo = set(), [output.grad_fn]
    while todo:
        node: Any = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            yield node._forward_cls.__name__  # type: ignore[attr-defined]
        todo += [parent for parent, _ in node.next_functions]


def _keys(*numbers: int) -> Tensor:
    return torch.tensor([draws.key(number, "derivatives") for number in numbers])


def _slope(value: Tensor, leaf: Tensor) -> Tensor:
    """Differentiate, keeping the graph."""
    if not value.requires_grad:
        return torch.zeros_like(leaf, requires_grad=False)
    return torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)[0]
