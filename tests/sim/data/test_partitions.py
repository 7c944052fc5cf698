import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from basinet.sim.data.partitions import PARTITIONS, by_column, dirichlet, iid, shards, shared, unequal

DISJOINT = sorted(set(PARTITIONS) - {"shared", "by_column", "in_turns"})


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def agent_shares(parts: list[NDArray[np.int64]], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share [K, C] of each agent in each class."""
    counts = np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])
    return counts / counts.sum(0)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(DISJOINT),
    num_agents=st.integers(1, 12),
    extra=st.integers(0, 80),
    num_classes=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_covers_all_samples_once(name: str, num_agents: int, extra: int, num_classes: int, seed: int) -> None:
    labels = generator(seed).integers(num_classes, size=2 * num_agents + extra)
    parts = PARTITIONS[name](labels, num_agents, generator(seed))
    assert len(parts) == num_agents
    assert min(map(len, parts)) >= 1
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    again = PARTITIONS[name](labels, num_agents, generator(seed))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize("name", DISJOINT)
def test_too_many_agents(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot give 7 agents at least . of 6 training samples"):
        PARTITIONS[name](np.zeros(6, dtype=int), 7, generator())


@pytest.mark.parametrize("name", ["iid", "unequal"])
def test_works_without_classes(name: str) -> None:
    assert sum(map(len, PARTITIONS[name](50, 4, generator()))) == 50


@pytest.mark.parametrize("name", ["dirichlet", "shards"])
def test_needs_classes(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} divides samples by class"):
        PARTITIONS[name](50, 4, generator())


def test_shared_gives_everything_to_everyone() -> None:
    parts = shared(5, 9)
    assert len(parts) == 9 and all(part is parts[0] for part in parts)
    assert parts[0].tolist() == [0, 1, 2, 3, 4]


@given(count=st.integers(1, 100), num_agents=st.integers(1, 100))
def test_iid_sizes(count: int, num_agents: int) -> None:
    if num_agents <= count:
        assert {len(part) - count // num_agents for part in iid(count, num_agents, generator())} <= {0, 1}


def test_dirichlet_alpha_spans_uniform_to_one_class() -> None:
    labels = np.repeat(np.arange(10), 400)
    nearly_uniform = agent_shares(dirichlet(labels, 10, generator(), alpha=1e6), labels)
    assert np.abs(nearly_uniform - 0.1).max() < 0.005
    skewed = agent_shares(dirichlet(labels, 10, generator(), alpha=0.001), labels)
    assert skewed.max(0).mean() > 0.9


def test_dirichlet_shares_have_the_variance_of_the_distribution() -> None:
    labels = np.repeat(np.arange(500), 100)
    alpha, num_agents = 0.5, 4
    shares = agent_shares(dirichlet(labels, num_agents, generator(), alpha=alpha), labels)
    assert shares.var() == pytest.approx((num_agents - 1) / num_agents**2 / (num_agents * alpha + 1), rel=0.05)


def test_dirichlet_min_size() -> None:
    labels = np.repeat(np.arange(2), 50)
    parts = dirichlet(labels, 10, generator(), alpha=0.01, min_size=10)
    assert [len(part) for part in parts] == [10] * 10
    with pytest.raises(ValueError, match="10 agents at least 11 of 100"):
        dirichlet(labels, 10, generator(), min_size=11)


def test_shards_bound_the_classes_of_an_agent() -> None:
    labels = generator(1).permutation(np.repeat(np.arange(10), 20))
    parts = shards(labels, 10, generator(), shards_per_agent=2)
    assert [len(part) for part in parts] == [20] * 10
    assert max(len(np.unique(labels[part])) for part in parts) == 2
    assert max(len(np.unique(labels[part])) for part in shards(labels, 10, generator(), shards_per_agent=1)) == 1


def test_unequal_sizes_are_geometric() -> None:
    sizes = np.sort([len(part) for part in unequal(100_000, 16, generator(), ratio=10.0)])
    np.testing.assert_allclose(sizes[1:] / sizes[:-1], 10 ** (1 / 15), rtol=1e-3)
    assert sizes[-1] / sizes[0] == pytest.approx(10, rel=1e-3)
    assert sorted(len(part) for part in unequal(10, 10, generator(), ratio=100.0)) == [1] * 10
    assert [len(part) for part in unequal(10, 1, generator())] == [10]


@given(num_groups=st.integers(1, 40), num_agents=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_groups_stay_together(num_groups: int, num_agents: int, seed: int) -> None:
    users = np.array([f"user {n}" for n in np.r_[np.arange(num_groups), generator(seed).integers(num_groups, size=60)]])
    if num_groups < num_agents:
        with pytest.raises(ValueError, match=f"cannot deal the {num_groups} values of user to {num_agents} agents"):
            by_column({"user": users}, num_agents, generator(seed), column="user")
        return
    parts = by_column({"user": users}, num_agents, generator(seed), column="user")
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(users)))
    held = [set(users[part]) for part in parts]
    assert sum(map(len, held)) == num_groups and {len(h) - num_groups // num_agents for h in held} <= {0, 1}


def test_columns_are_named() -> None:
    with pytest.raises(ValueError, match="by their user, which the task does not know; allowed are file, shard"):
        by_column({"file": np.arange(3), "shard": np.arange(3)}, 2, generator(), column="user")
