"""Partitions: which agent holds which training samples.

Each takes the labels [n] of the training samples (or their number n, if there are no classes), or the other columns
[n] that the task knows of them, by name; the number of agents K; and a random generator, all supplied by the
simulator, and the settings of the experiment. It returns K sorted index arrays that cover all samples and, except for
`shared`, are disjoint.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

__all__ = ["PARTITIONS", "by_column", "dirichlet", "iid", "in_turns", "shards", "shared", "unequal"]

Labels = NDArray[Any] | int
Indices = NDArray[np.int64]


def iid(labels: Labels, num_agents: int, rng: np.random.Generator) -> list[Indices]:
    """Deal the samples out at random, in shares that differ by at most one sample.

    Args:
        labels: Labels of the samples, or their number.
        num_agents: Number of agents K.
        rng: Source of the random draws.

    Returns:
        The samples of each agent.

    Example:
        >>> [len(part) for part in iid(10, 3, np.random.default_rng(0))]
        [4, 3, 3]
    """
    count = _count("iid", labels, num_agents)
    return _groups(rng.permutation(np.arange(count) % num_agents), num_agents)


def dirichlet(
    labels: Labels,
    num_agents: int,
    rng: np.random.Generator,
    *,
    alpha: Annotated[float, Field(gt=0)] = 0.5,
    min_size: Annotated[int, Field(ge=1)] = 1,
) -> list[Indices]:
    """Skew the labels: the agents' shares of each class are drawn from Dirichlet(alpha, …, alpha).

    An agent with fewer than `min_size` samples receives random ones from the agent that has most.
    Reference: Hsu, Qi, Brown: Measuring the effects of non-identical data distribution for federated visual
    classification, 2019, arXiv:1909.06335.

    Args:
        labels: Class of each sample.
        num_agents: Number of agents K.
        rng: Source of the random draws.
        alpha: Concentration: near 0, each class goes to one agent; at infinity, all agents have equal shares.
        min_size: Smallest number of samples of an agent.

    Returns:
        The samples of each agent.

    Example:
        >>> parts = dirichlet(np.repeat([0, 1], 50), 4, np.random.default_rng(0), alpha=0.1)
        >>> sum(len(part) for part in parts)
        100
    """
    labels = _classes("dirichlet", labels)
    _count("dirichlet", labels, num_agents, min_size)
    owner = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        sizes = _sizes(rng.dirichlet(np.full(num_agents, alpha)), len(members))
        owner[members] = np.repeat(np.arange(num_agents), sizes)
    return _groups(_fill(owner, num_agents, min_size, rng), num_agents)


def shards(
    labels: Labels,
    num_agents: int,
    rng: np.random.Generator,
    *,
    shards_per_agent: Annotated[int, Field(ge=1)] = 2,
) -> list[Indices]:
    """Sort the samples by label, cut them into equal shards, and deal these out at random.

    Reference: McMahan et al.: Communication-efficient learning of deep networks from decentralized data,
    AISTATS 2017, arXiv:1602.05629.

    Args:
        labels: Class of each sample.
        num_agents: Number of agents K.
        rng: Source of the random draws.
        shards_per_agent: Number of shards per agent, which bounds the classes it sees.

    Returns:
        The samples of each agent.

    Example:
        >>> parts = shards(np.repeat([0, 1, 2, 3], 5), 4, np.random.default_rng(0), shards_per_agent=1)
        >>> sorted(part.tolist() for part in parts)[0]
        [0, 1, 2, 3, 4]
    """
    labels = _classes("shards", labels)
    count = _count("shards", labels, num_agents, shards_per_agent)
    shuffled = rng.permutation(count)
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    num_shards = num_agents * shards_per_agent
    shard_owner = rng.permutation(num_shards) // shards_per_agent
    owner = np.empty(count, dtype=np.int64)
    owner[by_label] = shard_owner[np.arange(count) * num_shards // count]
    return _groups(owner, num_agents)


def unequal(
    labels: Labels,
    num_agents: int,
    rng: np.random.Generator,
    *,
    ratio: Annotated[float, Field(ge=1)] = 10.0,
) -> list[Indices]:
    """Deal the samples out at random, in shares whose sizes form a geometric progression.

    Args:
        labels: Labels of the samples, or their number.
        num_agents: Number of agents K.
        rng: Source of the random draws, including which agent gets which size.
        ratio: Ratio of the largest share to the smallest, up to rounding; each agent has at least one sample.

    Returns:
        The samples of each agent.

    Example:
        >>> sorted(len(part) for part in unequal(70, 3, np.random.default_rng(0), ratio=4))
        [10, 20, 40]
    """
    count = _count("unequal", labels, num_agents)
    weights = rng.permutation(np.geomspace(1, ratio, num_agents))
    owner = rng.permutation(np.repeat(np.arange(num_agents), _sizes(weights / weights.sum(), count)))
    return _groups(_fill(owner, num_agents, 1, rng), num_agents)


def by_column(
    columns: Mapping[str, NDArray[Any]], num_agents: int, rng: np.random.Generator, *, column: str
) -> list[Indices]:
    """Deal groups of samples out at random, as equally many to each agent as possible, such as those of the same user.

    Args:
        columns: What the task knows of the samples besides inputs and targets, by name.
        num_agents: Number of agents K.
        rng: Source of the random draws.
        column: The column whose values are the groups: such as user, file, folder or shard.

    Returns:
        The samples of each agent.

    Raises:
        ValueError: If there is no such column, or it has fewer values than there are agents.

    Example:
        >>> parts = by_column({"user": np.array(["a", "b", "a", "c"])}, 3, np.random.default_rng(0), column="user")
        >>> sorted(part.tolist() for part in parts)
        [[0, 2], [1], [3]]
    """
    if column not in columns:
        allowed = f"allowed are {', '.join(columns)}" if columns else "it knows none, besides inputs and targets"
        raise ValueError(f"by_column divides samples by their {column}, which the task does not know; {allowed}")
    values, group = np.unique(columns[column], return_inverse=True)
    if len(values) < num_agents:
        raise ValueError(
            f"by_column cannot deal the {len(values)} values of {column} to {num_agents} agents, at least one each"
        )
    return _groups(rng.permutation(np.arange(len(values)) % num_agents)[group], num_agents)


def in_turns(labels: Labels, num_agents: int) -> list[Indices]:
    """Deal the samples out in turns, in their order, in shares that differ by at most one sample.

    Args:
        labels: Labels of the samples, or their number.
        num_agents: Number of agents K.

    Returns:
        The samples of each agent.

    Example:
        >>> [part.tolist() for part in in_turns(5, 2)]
        [[0, 2, 4], [1, 3]]
    """
    return [np.arange(agent, _count("in_turns", labels, num_agents), num_agents) for agent in range(num_agents)]


def shared(labels: Labels, num_agents: int) -> list[Indices]:
    """Give every agent all samples, so that agents differ only in their draws.

    Args:
        labels: Labels of the samples, or their number.
        num_agents: Number of agents K.

    Returns:
        The same array K times.

    Example:
        >>> [part.tolist() for part in shared(3, 2)]
        [[0, 1, 2], [0, 1, 2]]
    """
    return [np.arange(_count("shared", labels, 1))] * num_agents


PARTITIONS: dict[str, Callable[..., list[Indices]]] = {
    "by_column": by_column,
    "iid": iid,
    "in_turns": in_turns,
    "dirichlet": dirichlet,
    "shards": shards,
    "shared": shared,
    "unequal": unequal,
}
"""The partitions that an experiment can name."""


def _classes(name: str, labels: Labels) -> NDArray[Any]:
    if isinstance(labels, int):
        raise ValueError(f"{name} divides samples by class, but these have none; use iid or unequal")
    return labels


def _count(name: str, labels: Labels, num_agents: int, at_least: int = 1) -> int:
    count = labels if isinstance(labels, int) else len(labels)
    if num_agents * at_least > count:
        raise ValueError(
            f"{name} cannot give {num_agents} agents at least {at_least} of {count} training samples each;"
            " use fewer agents or more samples"
        )
    return count


def _sizes(shares: NDArray[np.float64], total: int) -> Indices:
    """Round shares that sum to one to sizes that sum to the total."""
    ends = np.rint(np.cumsum(shares) * total).astype(np.int64)
    sizes: Indices = ends - np.concatenate([[0], ends[:-1]])
    return sizes


def _fill(owner: Indices, num_agents: int, min_size: int, rng: np.random.Generator) -> Indices:
    """Move samples from the largest agents to those with too few; `owner` is changed in place and returned."""
    sizes = np.bincount(owner, minlength=num_agents)
    for poor in np.flatnonzero(sizes < min_size):
        while sizes[poor] < min_size:
            rich = sizes.argmax()
            owner[rng.choice(np.flatnonzero(owner == rich))] = poor
            sizes[rich] -= 1
            sizes[poor] += 1
    return owner


def _groups(owner: Indices, num_agents: int) -> list[Indices]:
    """Return the samples of each agent, sorted."""
    sizes = np.bincount(owner, minlength=num_agents)
    return np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes)[:-1])
