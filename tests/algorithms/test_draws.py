"""Keyed draws: the same wherever they are made, and distributed as they should be."""

import numpy as np
import torch
from scipy import stats

from basinet.algorithms import draws


def keys(n, seed=0, purpose="test"):
    return draws.agent_keys(seed, purpose, torch.zeros(n, dtype=torch.int64), torch.arange(n))


def test_a_draw_does_not_depend_on_the_company_it_is_made_in():
    together = draws.uniform(draws.fold(keys(5), 3), (7,))
    for n in range(5):
        assert torch.equal(together[n], draws.uniform(draws.fold(keys(5)[n], 3), (7,)))


def test_seed_replica_agent_purpose_and_step_all_count():
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    found = {
        int(k)
        for seed in (0, 1)
        for purpose in ("a", "b")
        for replica in (zero, one)
        for agent in (zero, one)
        for k in (draws.fold(draws.agent_keys(seed, purpose, replica, agent), step) for step in (0, 1))
    }
    assert len(found) == 32


def test_fold_is_splitmix64():
    """Against the published algorithm in Python integers."""

    def mix(state):
        mask = 2**64 - 1
        z = state & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    for start, data in ((0, 0), (12345, 7), (-99, 2**40)):
        expected = mix(start + (data + 1) * 0x9E3779B97F4A7C15)
        assert int(draws.fold(torch.tensor([start]), data)) % 2**64 == expected


def test_uniform_and_normal_pass_kolmogorov_smirnov():
    # Fixed seeds: each of these p-values is a single fixed number, far from the level 1e-3.
    assert stats.kstest(draws.uniform(keys(40), (500,)).flatten(), "uniform").pvalue > 1e-3
    assert stats.kstest(draws.normal(keys(40), (500,)).flatten(), "norm").pvalue > 1e-3
    assert stats.kstest(draws.uniform(keys(40), (500,), dtype=torch.float32).flatten(), "uniform").pvalue > 1e-3


def test_agents_and_steps_are_uncorrelated():
    x = np.array([draws.normal(draws.fold(keys(30), step), (400,)).numpy() for step in range(3)])
    correlations = np.corrcoef(x.reshape(90, 400))
    off = correlations[~np.eye(90, dtype=bool)]
    # 400 samples: s.d. 0.05; the largest of 4,005 independent ones stays below 5 s.d.
    assert np.abs(off).max() < 0.25 and abs(off.mean()) < 0.005


def test_integers_cover_their_range_evenly():
    high = torch.tensor([1, 3, 10])
    found = draws.integers(keys(3), high, (6000,))
    assert found[0].max() == 0
    for n in (1, 2):
        counts = found[n].bincount(minlength=int(high[n]))
        assert len(counts) == high[n] and stats.chisquare(counts).pvalue > 1e-3


def test_permutations_are_permutations():
    sizes = torch.tensor([1, 4, 6])
    order = draws.permutation(keys(3), sizes, 6)
    for n, size in enumerate(sizes.tolist()):
        assert sorted(order[n, :size].tolist()) == list(range(size))


def test_normal_numbers_of_one_hash_are_independent():
    z = draws.normal(keys(200), (501,))  # an odd number: the last half of a pair is left out
    assert z.shape == (200, 501) and draws.normal(keys(3), ()).shape == (3,)
    halves = z[:, :500].reshape(200, 2, 250)
    for power in (1, 2, 3):
        a, b = (halves[:, place].flatten().pow(power) for place in (0, 1))
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / len(a) ** 0.5
    for dtype in (torch.float32, torch.float64):
        assert stats.kstest(draws.normal(keys(200), (501,), dtype=dtype).flatten(), "norm").pvalue > 1e-3
    moments = [float(z.pow(power).mean()) for power in (2, 4, 6)]
    for found, expected, variance in zip(moments, (1, 3, 15), (2, 96, 10170), strict=True):
        assert abs(found - expected) < 4 * (variance / z.numel()) ** 0.5


def test_normal_numbers_are_the_same_in_every_type():
    exact = draws.normal(keys(40), (500,))
    # Of the angle, below 2π, and of the radius, below 6.8, float32 keeps 24 bits.
    assert float((draws.normal(keys(40), (500,), dtype=torch.float32) - exact).abs().max()) < 6.8 * 2 * 2**-21
    assert torch.equal(
        draws.normal(keys(4), (5,), dtype=torch.bfloat16), draws.normal(keys(4), (5,), dtype=torch.float32).bfloat16()
    )


def test_compiled_hashes_are_those_of_torch():
    keys = draws.fold(torch.arange(60).view(3, 4, 5), -7)

    def made(keys):
        folded = [draws.fold(keys, data) for data in (torch.arange(5), torch.arange(4)[:, None], 2**40, -1)]
        return folded + [draws.normal(keys, (3,), dtype=dtype) for dtype in (torch.float32, torch.float64)]

    mapped = torch.vmap(made)(keys)  # transforms go through torch's operations
    assert all(map(torch.equal, made(keys), mapped))
