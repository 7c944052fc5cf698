"""Robust rules against loops of numpy, and where each of them breaks down."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from basinet.algorithms.aggregation import CLIPPED, COORDINATEWISE, PAIRWISE, Neighborhood
from basinet.algorithms.strategies import Robust

RULES = [*COORDINATEWISE, *PAIRWISE, *CLIPPED]
RNG = np.random.default_rng(0)


def aggregate(rule, values, f, *, weights=None, members=None, radius=None, center=None):
    """Apply a rule to values [N, 1 + D, P], all at once."""
    values = torch.as_tensor(values)
    shape = values.shape[:2]
    hood = Neighborhood(
        members=torch.ones(shape, dtype=torch.bool) if members is None else torch.as_tensor(members),
        weights=torch.full(shape, 1 / shape[1], dtype=torch.float64) if weights is None else torch.as_tensor(weights),
        tolerated=torch.full(shape[:1], f),
        most=f,
    )
    if rule in COORDINATEWISE:
        return COORDINATEWISE[rule](values, hood).numpy()
    center = values[:, 0] if center is None else torch.as_tensor(center)
    if rule in PAIRWISE:
        a = PAIRWISE[rule]((values[:, :, None] - values[:, None]).square().sum(-1).double(), hood)
        torch.testing.assert_close(a.sum(1), torch.ones(len(a)).double(), rtol=1e-12, atol=0)
    else:
        a = CLIPPED[rule]((values - center[:, None]).square().sum(-1).double(), hood, radius)
    return (center + ((values - center[:, None]) * a[..., None].to(values)).sum(1)).numpy()


def krum_scores(rows, f):
    scores = []
    for i in range(len(rows)):
        others = sorted(np.sum((rows[i] - rows[j]) ** 2) for j in range(len(rows)) if j != i)
        scores.append(sum(others[: len(rows) - f - 2]))
    return np.array(scores)


def by_hand(rule, own, others, w, f, radius, before):
    """Write one agent's rule as its paper does: w holds its own weight first."""
    rows = np.array([own, *others])
    if rule == "median":
        return np.median(rows, axis=0)
    if rule == "trimmed_mean":
        kept = np.sort(others, axis=0)[f : len(others) - f]
        return np.concatenate([[own], kept]).mean(0)
    if rule == "krum":
        return rows[krum_scores(rows, f).argmin()]
    if rule == "multi_krum":
        return rows[np.argsort(krum_scores(rows, f))[: len(rows) - f]].mean(0)
    if rule == "geometric_median":
        found = minimize(lambda z: np.linalg.norm(rows - z, axis=1).sum(), rows.mean(0), method="BFGS", tol=1e-12)
        return found.x
    if rule == "ios":
        kept = list(range(len(rows)))
        for _ in range(f):
            mean = np.average(rows[kept], axis=0, weights=w[kept])
            kept.remove(max(kept[1:], key=lambda j: np.linalg.norm(rows[j] - mean)))
        return np.average(rows[kept], axis=0, weights=w[kept])

    def clip(v, tau):
        return v * min(1, tau / np.linalg.norm(v)) if np.any(v) else v

    if rule == "centered_clipping":
        return before + np.mean([clip(row - before, radius) for row in rows], axis=0)
    if radius is None:
        distances = np.linalg.norm(others - own, axis=1)
        order = np.argsort(distances)
        near, far = order[: len(order) - f], order[len(order) - f :]
        radius = np.sqrt(np.sum(w[1 + near] * distances[near] ** 2) / np.sum(w[1 + far])) if f else np.inf
    return own + sum(w[1 + j] * clip(row - own, radius) for j, row in enumerate(others))


@pytest.mark.parametrize("f", [0, 1, 2])
@pytest.mark.parametrize("rule", [*RULES, "self_centered_clipping fixed"])
def test_rules_are_those_of_the_papers(rule, f):
    rule, _, fixed = rule.partition(" ")
    radius = 1.5 if fixed or rule == "centered_clipping" else None
    sizes = [7, 9, 10, 8]  # neighbourhoods; the other slots are empty
    values = RNG.normal(size=(4, 10, 5)) * np.geomspace(1, 5, 10)[:, None]
    members = np.arange(10) < np.array(sizes)[:, None]
    weights = RNG.uniform(0.5, 1.5, (4, 10)) * members
    weights /= weights.sum(1, keepdims=True)
    before = RNG.normal(size=(4, 5))
    center = before if rule == "centered_clipping" else None
    found = aggregate(
        rule, values * members[..., None], f, weights=weights, members=members, radius=radius, center=center
    )
    for n, size in enumerate(sizes):
        hand = by_hand(rule, values[n, 0], values[n, 1:size], weights[n, :size], f, radius, before[n])
        # BFGS stops where differences of the objective are rounding, 1e-7 from its minimum.
        tolerance = 1e-5 if rule == "geometric_median" else 1e-12
        np.testing.assert_allclose(found[n], hand, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
def test_agents_that_agree_stay_where_they_are(rule):
    row = RNG.normal(size=5).astype(np.float32)
    values = np.broadcast_to(row, (3, 7, 5)).copy()
    found = aggregate(rule, values, 1, radius=1.0 if rule == "centered_clipping" else None)
    assert found.dtype == np.float32 and (found == row).all()


def attacked(n, attackers, together):
    """Draw an agent's neighbourhood of n, the last of which send 1e6 times anything, all of them the same or not."""
    values = RNG.normal(size=(1, n, 4))
    lies = 1e6 * RNG.normal(size=(1, 1 if together else attackers, 4))
    values[:, n - attackers :] = lies
    return values, values[0, : n - attackers], np.linalg.norm(lies, axis=-1).min()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("f", [1, 2, 3])
@pytest.mark.parametrize("rule", COORDINATEWISE)
def test_coordinatewise_rules_stay_between_honest_values(rule, f, together):
    n = 2 * f + 1 + (rule == "trimmed_mean")
    for _ in range(20):
        values, honest, _ = attacked(n, f, together)
        found = aggregate(rule, values, f)[0]
        assert (found >= honest.min(0)).all() and (found <= honest.max(0)).all()
    values, _, _ = attacked(n, f + 1, True)  # one more on the same side
    found = aggregate(rule, values, f)[0]
    assert (np.abs(found) > 1e3).all()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("f", [1, 2, 3])
def test_krum_chooses_honest_rows(f, together):
    n = 2 * f + 3
    for _ in range(20):
        values, honest, _ = attacked(n, f, together)
        assert np.abs(aggregate("krum", values, f)[0] - honest).max(1).min() < 1e-12
        found = aggregate("multi_krum", values, f)[0]
        np.testing.assert_allclose(found, honest.mean(0), atol=1e-12)  # n − f are left, all of them honest
    # A score has f + 1 distances: f + 2 attackers at one place have the score 0.
    values, _, far = attacked(n, f + 2, True)
    assert np.linalg.norm(aggregate("krum", values, f)[0]) == pytest.approx(far)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("f", [1, 2, 3])
def test_the_geometric_median_breaks_down_at_one_half(f, together):
    n = 2 * f + 1
    for _ in range(20):
        values, honest, _ = attacked(n, f, together)
        bound = 2 * (n - f) / (n - 2 * f) * np.linalg.norm(honest, axis=1).max()
        assert np.linalg.norm(aggregate("geometric_median", values, f)[0]) <= bound
    values, _, far = attacked(n, f + 1, True)
    assert np.linalg.norm(aggregate("geometric_median", values, f)[0]) == pytest.approx(far, rel=1e-3)


@pytest.mark.parametrize("size", [1e4, 1e8, 1e15])
def test_how_far_attackers_are_is_no_matter_to_the_geometric_median(size):
    values = 0.1 * RNG.normal(size=(1, 9, 5))
    values[0, 7:] += size

    def total(z):
        # From what attackers at infinity leave: each a unit vector, whose pull is that of its direction.
        return np.linalg.norm(values[0, :7] - z, axis=1).sum() - 2 * (z @ np.ones(5)) / np.sqrt(5)

    exact = minimize(total, values[0, :7].mean(0), tol=1e-12).x
    near = minimize(lambda z: np.linalg.norm(values[0, :7] - z, axis=1).sum(), values[0, :7].mean(0), tol=1e-12).x
    found = aggregate("geometric_median", values, 2)[0]
    # Up to a million times the spread attackers count as such; beyond, they are left out.
    np.testing.assert_allclose(found, exact if size < 1e5 else near, atol=1e-3)


@pytest.mark.parametrize("f", [1, 2])
def test_ios_drops_as_many_outliers_as_it_is_told(f):
    for together in (True, False):
        values, honest, _ = attacked(8, f, together)
        np.testing.assert_allclose(aggregate("ios", values, f)[0], honest.mean(0), atol=1e-12)
        values, _, _ = attacked(8, f + 1, together)
        assert np.linalg.norm(aggregate("ios", values, f)[0]) > 1e3


def test_clipping_bounds_what_an_attacker_can_do():
    values, _, _ = attacked(6, 2, False)
    for rule in CLIPPED:
        moved = aggregate(rule, values, 2, radius=0.7) - values[:, 0]
        assert np.linalg.norm(moved) <= 0.7 * 5 / 6 + 1e-12  # five neighbours of weight 1/6
        only_honest = values.copy()
        only_honest[0, 4:] = values[0, 0]
        shift = aggregate(rule, values, 2, radius=0.7) - aggregate(rule, only_honest, 2, radius=0.7)
        assert np.linalg.norm(shift) <= 0.7 * 2 / 6 + 1e-12


@pytest.mark.parametrize("attackers", [0, 1, 2])
def test_self_centered_clipping_contracts_as_the_paper_says(attackers):
    """On a complete graph of 24 agents of which some send 1e6 times anything, another thing to each.

    With W̃ the weights among the honest, those of attackers given to the agent itself, the result is W̃ x + e. Honest
    rows clipped lose d − τ ≤ d² / (4 τ), attackers add at most δ τ: with τ² = Σ W d² / δ, ‖e‖ ≤ 5/4 √(δ Σ W d²).
    """
    n, honest = 24, 24 - attackers
    x = RNG.normal(size=(honest, 6))
    lies = 1e6 * RNG.normal(size=(honest, attackers, 6))
    values = np.stack(
        [np.concatenate([x[k : k + 1], np.delete(x, k, axis=0), lies[k]]) for k in range(honest)]
    )  # each agent's own row first
    found = aggregate("self_centered_clipping", values, attackers)
    delta = attackers / n
    mixed = x.sum(0) / n + delta * x
    squares = ((x[:, None] - x) ** 2).sum(-1).sum(1) / n
    error = np.linalg.norm(found - mixed, axis=1)
    bound = 1.25 * np.sqrt(delta * squares)
    assert (error <= bound + 1e-12).all()

    def spread(rows):
        return np.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean())

    assert spread(found) <= delta * spread(x) + np.sqrt((bound**2).mean()) + 1e-12
    assert spread(found) < spread(x)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="centered_clipping needs a radius"):
        Robust("centered_clipping")
    with pytest.raises(ValueError, match=r"radius is for the rules that clip .*not for krum"):
        Robust("krum", radius=1.0)


def test_a_share_of_the_neighbours_is_rounded_up():
    neighbors = torch.tensor([0, 1, 10, 11, 30])
    assert Robust(tolerated=0.1).attackers_among(neighbors).tolist() == [0, 1, 1, 2, 3]
    assert Robust(tolerated=2).attackers_among(neighbors).tolist() == [2] * 5
