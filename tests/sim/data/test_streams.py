"""Data that can only be iterated over: each sample once an epoch, the same at each resumption, in bounded memory."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

import basinet
from basinet.algorithms import draws
from basinet.sim.data.items import Items
from basinet.sim.data.partitions import in_turns
from basinet.sim.data.sampling import make_sampler
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task, supervised

COUNT, WINDOW = 60, 12


class Counted(IterableDataset[Any]):
    """Numbers, whose parities are their classes."""

    def __init__(self, count: int = COUNT, noise: str = "", broken: int | None = None) -> None:
        self.count, self.noise, self.broken, self.begun, self.read = count, noise, broken, 0, 0
        self.own = random.Random(0)

    def __iter__(self) -> Iterator[Any]:
        self.begun += 1
        for n in range(self.count):
            if n == self.broken and self.begun > 2:
                raise OSError("gone")
            self.read += 1
            noise = {"": 0.0, "own": self.own.random(), "global": random.random()}[self.noise]
            yield torch.tensor([float(n), noise]), n % 2


def streamed(data: Counted, **settings: Any) -> Task:
    return supervised(data, window=WINDOW, num_outputs=2, **settings)


def sampler(task: Task, kind: Any, agents: tuple[int, ...] = (0, 1, 2), **settings: Any) -> Any:
    held = [in_turns(COUNT, 3)[agent] for agent in agents]
    names = torch.tensor(agents)
    keys = draws.agent_keys(0, "batch", torch.zeros_like(names), names)
    return make_sampler(kind, task, held, names, keys, 4, torch.float32, **settings)


def test_an_epoch_visits_each_sample_once_and_stays_in_the_window() -> None:
    data = Counted()
    one = sampler(streamed(data), "epochs")
    begun = data.begun
    seen = torch.stack([one.batch(step)[0][..., 0] for step in range(10)], 1).long().flatten(2)  # [N, steps, B]
    for agent, rows in enumerate(seen.reshape(3, 2, 20)):
        assert (rows.sort(1).values == torch.arange(agent, COUNT, 3)).all()
        assert not torch.equal(rows[0], rows[1])
        windows = rows.reshape(2, 5, 4) // WINDOW
        assert (windows == torch.arange(5)[:, None]).all()
    assert data.begun - begun <= 3  # a new start for each epoch
    (cursors,) = [one.data.source._cursors]
    assert max(len(cursor.held) for cursor in cursors) <= 3 * WINDOW


def test_independent_draws_are_uniform_in_the_window() -> None:
    one = sampler(streamed(Counted()), "independent")
    seen = torch.stack([one.batch(step)[0][..., 0] for step in range(300)], 1).long()
    for agent in range(3):
        assert (seen[agent] % 3 == agent).all()
        assert (seen[agent] // WINDOW == torch.arange(300)[:, None] % 5).all()
        counts = seen[agent].flatten().bincount(minlength=COUNT)[agent::3].double()
        # each count is binomial; five standard deviations
        assert ((counts - 60).abs() < 5 * (1200 * 0.05 * 0.95) ** 0.5).all()


def jitter(item: Any, rng: np.random.Generator) -> Any:
    return item[0] + random.random(), item[1]


@pytest.mark.parametrize("noise", ["", "global"])
@pytest.mark.parametrize("kind", ["epochs", "independent"])
def test_a_step_can_be_drawn_by_itself_for_an_agent_alone_and_ahead(kind: str, noise: str) -> None:
    settings: dict[str, Any] = {"transform": jitter} if noise else {}
    task = streamed(Counted(noise=noise), **settings)
    one = sampler(task, kind)
    steps = [one.batch(step)[0] for step in range(12)]
    ahead = sampler(streamed(Counted(noise=noise), **settings), kind, readers=1)
    for step in (11, 2, 3):
        alone = sampler(streamed(Counted(noise=noise), **settings), kind, (1,))
        assert torch.equal(alone.batch(step)[0][0], steps[step][1])
        assert torch.equal(ahead.batch(step)[0], steps[step])
    ahead.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Counted(noise="own"), "item 0 of train differs when it is iterated over again"),
        (Counted(broken=1), "item 1 of train raises OSError: gone"),
        (Counted(0), "train is empty"),
        (iter([1, 2]), "train is a list_iterator, which can be iterated over once only"),
        ([(torch.zeros(2), 1)], "window is for data without an index, and train is a list"),
    ],
    ids=range(5),
)
def test_streams_that_cannot_be_resumed_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(streamed(data), "epochs").batch(0)


def test_a_stream_that_ends_earlier_is_refused() -> None:
    data = Counted()
    one = sampler(streamed(data), "epochs")
    data.count = 30
    with pytest.raises(ExperimentError, match="train had 60 items when it was first iterated over, and has fewer now"):
        one.batch(4)


def test_a_run_of_a_stream(tmp_path: Path, no_reports: None, make_setup: Any) -> None:
    with pytest.raises(ExperimentError, match=r"task.partition: got iid, but .* a stream.* in_turns, shared, or a"):
        make_setup(task=streamed(Counted()))
    rows = []
    for name, settings in (("whole", {"steps": 6}), ("part", {"steps": 6, "evaluate_every": 1})):
        found = basinet.run(
            task={"name": streamed(Counted()), "partition": "in_turns"},
            model="softmax",
            optimizer={"name": "sgd", "lr": 1e-3},
            topology={"name": "ring", "agents": 3},
            strategy="diffusion",
            batch_size=4,
            replicas=1,
            analysis=[],
            runtime={"device": "cpu", "engine": "loop"},
            out=tmp_path / name,
            quiet=True,
            **settings,
        )
        rows.append(found.runs[0].metrics[-1])
    assert rows[0] == rows[1]


def test_a_cache_gives_a_stream_an_index(tmp_path: Path) -> None:
    task = supervised(Counted(), cache=tmp_path)
    assert isinstance(task.train, Items) and task.train.window is None
    assert task.train.read(torch.tensor([7, 3]))[0][:, 0].tolist() == [7, 3]
    assert np.array_equal(task.labels, np.arange(COUNT) % 2)  # type: ignore[arg-type]
