"""A round in which 100,000 agents wait for their neighbours, against NumPy's maxima of segments; 5 ms are aimed at."""

from collections.abc import Iterator
from statistics import median

import numpy as np

from basinet.topologies.timing.max_plus import Arcs
from tests.benchmarks.harness import Row, in_turn

AGENTS = 100_000


def rows() -> Iterator[Row]:
    """Measure one product of the max-plus algebra."""
    rng = np.random.default_rng(0)
    for degree, replicas in ((4, 1), (16, 1), (4, 10)):
        senders = rng.integers(0, AGENTS, AGENTS * degree)
        receivers = np.repeat(np.arange(AGENTS), degree)
        arcs = Arcs.of(AGENTS, receivers, senders, rng.integers(0, 10**6, AGENTS * degree))
        sent = rng.integers(0, 10**9, (AGENTS, replicas))

        def ours(arcs: Arcs = arcs, sent: np.ndarray = sent) -> object:
            return arcs.latest(sent)

        def base(arcs: Arcs = arcs, sent: np.ndarray = sent) -> object:
            arrivals = sent[arcs.senders] + arcs.delays[:, None]
            return np.maximum(sent, np.maximum.reduceat(arrivals, arcs.starts[:-1]))

        times = in_turn(ours, base)
        row = Row("waiting", f"{degree} neighbours, {replicas} replicas", ("<=", 1.0), base="numpy.maximum.reduceat")
        row.ratios = [own.cpu / other.cpu for own, other in times]
        row.ours_ms = median(1e3 * own.cpu for own, _ in times)
        row.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
        row.base_ms = median(1e3 * other.cpu for _, other in times)
        yield row
