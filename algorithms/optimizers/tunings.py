"""Step, momentum and clipping of normalised SGD, from known constants of the problem and its heavy-tailed noise."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from basinet.topologies.registry import Registry

__all__ = [
    "TUNINGS",
    "Method",
    "Tuned",
    "heavy_tail_rate",
    "heavy_tail_settings",
    "tuned_settings",
]

Method = Literal["nsgd", "nsgdm", "nsgdc", "nsgdc_vr", "a_nsgdc", "clipped_sgd"]

Tuned = Annotated[
    Mapping[str, Any] | str | None,
    Field(
        description="Chooses lr, momentum and clip, which then are not given, as far as the optimizer has them: the"
        " name of a tuning, or a mapping of its name and its arguments, or of arguments of `heavy_tail_settings`; steps"
        " are those of the run if not given."
    ),
]
"""What an experiment may give an optimizer instead of some settings."""

TUNINGS: Registry[dict[str, float]] = Registry("TUNINGS")
"""What `tuned` can name: step, momentum and clipping as functions of T, p, σ, L, Δ and H."""


def heavy_tail_settings(
    method: Method,
    *,
    steps: int,
    p: float | None = 2.0,
    sigma: float = 1.0,
    smoothness: float = 1.0,
    gap: float = 1.0,
    hessian_lipschitz: float | None = None,
    gradient: float | None = None,
    bounded_differences: bool = False,
) -> dict[str, float]:
    r"""Choose settings that balance the terms of the convergence bounds after T steps.

    With E‖g − ∇J‖^p ≤ σ^p, 1 < p ≤ 2, J L-smooth, Δ = J(x_0) − inf J, α = 1 − θ, r = LΔ / (σ²T) and G ≥ ‖∇J(x_0)‖:

    | method | α = min(1, ·) | μ | h |
    | --- | --- | --- | --- |
    | nsgd, without noise | 1 | √(Δ / (LT)) | ∞ |
    | nsgdm | r^(p/(3p−2)) | √(Δα / (LT)) | ∞ |
    | nsgdm, p unknown | T^(−1/2) | √(Δα / (LT)) | ∞ |
    | nsgdc | r^(p/(3p−2)) | √(Δα / (LT)) | 2G + σ α^(−1/p) |
    | nsgdc_vr | r^(p/(2p−1)) | √(Δ α^(1/p) / (LT)) | 2G + σ α^(−1/p) |
    | nsgdc_vr, bounded differences | r^(2p/(5p−4)) | √(Δ α^(1/2) / (LT)) | 2G + σ α^(−1/p) |
    | a_nsgdc | (√H Δ / (σ^(3/2) T))^(2p/(5p−3)) | (Δα² / (HT))^(1/3), at most √(Δ / (LT)) | 2G + σ α^(−1/p) |
    | clipped_sgd | r^(p/(3p−2)) | α / L | 2G + σ α^(−1/p) |

    Without noise α is 1, and all normalised methods are gradient descent with steps √(Δ / (LT)), at the rate √(LΔ/T).

    Args:
        method: The optimizer's name.
        steps: T, the number of steps: the settings are for this horizon.
        p: The order of the noise moment that is bounded, in (1, 2]; None where it is unknown (nsgdm only).
        sigma: σ, its size.
        smoothness: L, the Lipschitz constant of the gradient.
        gap: Δ, the initial loss above its infimum.
        hessian_lipschitz: H, the Lipschitz constant of the Hessian (a_nsgdc only, which needs it).
        gradient: G, by default √(2LΔ), which smoothness allows.
        bounded_differences: Whether ‖g(x) − g(y)‖ ≤ L ‖x − y‖ holds for each sample, not only for a moment (nsgdc_vr
            only).

    Returns:
        `lr`, `momentum` and `clip`, as far as the method has them.

    Raises:
        ValueError: A value is out of its range, or the method does not have it.

    Example:
        >>> heavy_tail_settings("nsgdm", steps=10_000, sigma=0.0)
        {'lr': 0.01, 'momentum': 0.0}

    References:
        T. Sun, X. Liu, K. Yuan: Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed
        noise, JMLR 26 (2025), arXiv:2410.16561, whose rates these settings attain. p unknown: Z. Liu, Z. Zhou:
        Nonconvex stochastic optimization under heavy-tailed noises, ICLR 2025, arXiv:2412.19529.
    """
    _check_numbers(
        steps=steps,
        p=p,
        sigma=sigma,
        smoothness=smoothness,
        gap=gap,
        hessian_lipschitz=hessian_lipschitz,
        gradient=gradient,
    )
    _check(method, steps, p, hessian_lipschitz, bounded_differences)
    for name, value in (("sigma", sigma), ("smoothness", smoothness), ("gap", gap), ("gradient", gradient)):
        if value is not None and not (value > 0 or (name == "sigma" and value == 0)):
            raise ValueError(f"{name} must be {'at least' if name == 'sigma' else 'above'} 0, got {value}")
    ratio = smoothness * gap / (sigma**2 * steps) if sigma else math.inf
    longest = math.sqrt(gap / (smoothness * steps))
    if method == "nsgd":
        return {"lr": longest, "momentum": 0.0}
    if p is None:
        alpha = steps**-0.5 if sigma else 1.0
        return {"lr": longest * math.sqrt(alpha), "momentum": 1 - alpha}
    if method == "a_nsgdc":
        assert hessian_lipschitz is not None
        quotient = math.sqrt(hessian_lipschitz) * gap / (sigma**1.5 * steps) if sigma else math.inf
        alpha = min(1.0, quotient) ** (2 * p / (5 * p - 3))
        lr = min((gap * alpha**2 / (hessian_lipschitz * steps)) ** (1 / 3), longest)
    elif method == "nsgdc_vr":
        power = 2 * p / (5 * p - 4) if bounded_differences else p / (2 * p - 1)
        alpha = min(1.0, ratio) ** power
        lr = longest * alpha ** (0.25 if bounded_differences else 0.5 / p)
    else:
        alpha = min(1.0, ratio) ** (p / (3 * p - 2))
        lr = alpha / smoothness if method == "clipped_sgd" else longest * math.sqrt(alpha)
    bound = math.sqrt(2 * smoothness * gap) if gradient is None else gradient
    clip = {} if method == "nsgdm" else {"clip": 2 * bound + sigma * alpha ** (-1 / p)}
    return {"lr": lr, **({} if method == "clipped_sgd" else {"momentum": 1 - alpha}), **clip}


@TUNINGS.register()
def known_p(method: Method, *, steps: int, p: float = 2.0, **more: Any) -> dict[str, float]:
    """Choose step, momentum and clipping for a horizon, if the noise has a bounded moment of known order p.

    Args:
        method: The optimizer's name: nsgdm, nsgdc, nsgdc_vr, a_nsgdc, clipped_sgd.
        steps: T.
        p: The order.
        **more: See `heavy_tail_settings`: sigma, smoothness, gap, gradient, and of single methods hessian_lipschitz,
            bounded_differences.

    Returns:
        `lr`, `momentum` and `clip`, as far as the method has them.

    Raises:
        ValueError: See `heavy_tail_settings`; and nsgd has no settings for noise.

    References:
        T. Sun, X. Liu, K. Yuan: Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed
        noise, JMLR 26 (2025), arXiv:2410.16561.
    """
    _check_noise(method, **more)
    return heavy_tail_settings(method, steps=steps, p=p, **more)


@TUNINGS.register()
def unknown_p(method: Method, *, steps: int, **more: Any) -> dict[str, float]:
    """Choose step and momentum for a horizon without the order p of the noise: 1 − θ = T^(−1/2), a step ~ T^(−3/4).

    Args:
        method: The optimizer's name: nsgdm.
        steps: T.
        **more: See `heavy_tail_settings`: sigma (whether it is above 0), smoothness, gap.

    Returns:
        `lr` and `momentum`.

    Raises:
        ValueError: See `heavy_tail_settings`; and nsgd has no settings for noise.

    References:
        Z. Liu, Z. Zhou: Nonconvex stochastic optimization under heavy-tailed noises, ICLR 2025, arXiv:2412.19529.
    """
    _check_noise(method, **more)
    return heavy_tail_settings(method, steps=steps, p=None, **more)


@TUNINGS.register()
def noiseless(method: Method, *, steps: int, **more: Any) -> dict[str, float]:
    """Choose the step √(Δ / (LT)) of normalised gradient descent for a horizon, without noise and momentum.

    Args:
        method: The optimizer's name.
        steps: T.
        **more: See `heavy_tail_settings`: smoothness, gap, gradient, hessian_lipschitz.

    Returns:
        `lr`, and `momentum` and `clip` as far as the method has them, which then have no effect.

    References:
        T. Sun, X. Liu, K. Yuan: Revisiting gradient normalization and clipping for nonconvex SGD under heavy-tailed
        noise, JMLR 26 (2025), arXiv:2410.16561.
    """
    return heavy_tail_settings(method, steps=steps, sigma=0.0, **more)


def heavy_tail_rate(method: Method, p: float, *, known: bool = True, bounded_differences: bool = False) -> float:
    """Return the exponent at which the mean gradient norm decays with T under these settings.

    Args:
        method: The optimizer's name.
        p: The order of the noise moment that is bounded.
        known: Whether the settings know p.
        bounded_differences: See `heavy_tail_settings`.

    Returns:
        The slope of log mean ‖∇J‖ over log T.

    Raises:
        ValueError: The method has no guarantee.

    Example:
        >>> heavy_tail_rate("nsgdc", 2.0)
        -0.25
    """
    if method == "nsgd":
        raise ValueError("nsgd has no rate under noise: without momentum it stops where a median of gradients is zero")
    if not known:
        return -(p - 1) / (2 * p)
    if method == "a_nsgdc":
        return -2 * (p - 1) / (5 * p - 3)
    if method == "nsgdc_vr":
        return -2 * (p - 1) / (5 * p - 4) if bounded_differences else -(p - 1) / (2 * p - 1)
    return -(p - 1) / (3 * p - 2)


def tuned_settings(method: Method, settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Replace the setting `tuned` of an optimizer by the settings that it chooses.

    Args:
        method: The optimizer's name.
        settings: Its settings, with or without `tuned`; see `Tuned`.
        steps: T, unless `tuned` gives it.

    Returns:
        The settings for the optimizer's class.

    Raises:
        ValueError: Settings are both given and tuned, or an argument is missing, unknown or out of its range.
    """
    given = {name: value for name, value in settings.items() if name != "tuned"}
    tuned = settings.get("tuned")
    if tuned is None:
        return given
    arguments = {"name": tuned} if isinstance(tuned, str) else tuned
    if not isinstance(arguments, Mapping):
        raise ValueError(f"tuned must name arguments of heavy_tail_settings, such as steps, got {tuned!r}")
    name = arguments.get("name")
    if name not in (None, *TUNINGS):
        raise ValueError(f"tuned must be one of {', '.join(sorted(TUNINGS))}, got {name!r}")
    rule: Callable[..., dict[str, float]] = heavy_tail_settings if name is None else TUNINGS[name]
    try:
        found = rule(method, **{"steps": steps} | {key: value for key, value in arguments.items() if key != "name"})
    except TypeError as error:
        raise ValueError(f"tuned: {str(error).partition('() ')[2]}") from None
    if both := {key: value for key in ("lr", "momentum", "clip") if (value := given.get(key)) is not None}:
        words = ", ".join(f"{key}={value}" for key, value in both.items())
        raise ValueError(f"tuned chooses {', '.join(found)} by itself: leave out either tuned or {words}")
    return {**given, **found}


def _check_noise(method: str, sigma: Any = 1.0, **_: Any) -> None:
    if method == "nsgd" and sigma != 0:
        raise ValueError("nsgd has no settings for noise: allowed are nsgdm, or the tuning noiseless, or sigma=0")


def _check_numbers(**values: Any) -> None:
    for name, value in values.items():
        wanted = value is not None or name in ("steps", "sigma", "smoothness", "gap")
        if wanted and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ValueError(f"{name} must be a number, got {value!r}")


def _check(
    method: str, steps: int, p: float | None, hessian_lipschitz: float | None, bounded_differences: bool
) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if not steps >= 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if p is not None and not 1 < p <= 2:
        raise ValueError(f"p must be in (1, 2], got {p}")
    if p is None and method not in ("nsgd", "nsgdm"):
        raise ValueError(f"{method} needs p; nsgdm does without")
    if (hessian_lipschitz is not None) != (method == "a_nsgdc") or not (hessian_lipschitz or 1) > 0:
        raise ValueError(f"hessian_lipschitz must be above 0 for a_nsgdc, and is for it alone; got {hessian_lipschitz}")
    if bounded_differences and method != "nsgdc_vr":
        raise ValueError(f"bounded_differences is for nsgdc_vr alone, not for {method}")
