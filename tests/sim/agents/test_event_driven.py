"""Agents that act at events, as a run has them: against synchronous steps, and one operation after another."""

import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from basinet.sim.agents.divergence import DivergenceWatch
from basinet.sim.agents.events.event_runner import EventRunner
from basinet.sim.agents.events.some_gradients import SomeGradients
from basinet.sim.agents.oracle import Oracle
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.row_operations import Adapt, Gradient, Step
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.checkpoints.tensor_files import TensorFile, read_tensor_file

EQUAL = {"compute": {"name": "constant", "mean": "1 ms"}}
RANDOM = {"compute": {"name": "exponential", "mean": "1 ms"}}
AFAR = {"network": {"name": "uniform", "latency": "700 us", "bandwidth": "1 MB/s", "complete": True}}
POINT = {"task": {"name": "quadratic", "heterogeneity": 0.7}, "model": {"name": "point", "start": 2.0}}
STRATEGIES = [
    "wait_free",
    {"name": "wait_free", "bound": 1},
    "ad_psgd",
    {"name": "gossip", "averages": 2},
    {"name": "async_server", "buffer": 3, "period": 2},
]


def worker_of(setup, engine="stacked"):
    return Worker(setup, Placement.split(setup.config.replicas, setup.num_agents), engine)


@pytest.mark.parametrize(
    ("optimizer", "engine"),
    [
        ({"name": "sgd", "lr": 0.1, "momentum": 0.9}, "stacked"),
        ({"name": "adam", "lr": 0.01}, "stacked"),
        ({"name": "adam", "lr": 0.01, "groups": [{"match": "1.*", "lr": 0.1}]}, "loop"),
    ],
)
def test_equal_times_without_delays_are_the_synchronous_run(optimizer, engine, make_setup):
    """Bit for bit, with running statistics, noise, clipping, a schedule and shuffled data."""
    keys = {
        "model": {"name": "mlp", "hidden": [6], "norm": "batch", "dropout": 0.2},
        "topology": {"name": "ring", "agents": 16},
        "optimizer": optimizer,
        "schedule": "cosine",
        "sampling": "epochs",
        "gradient_noise": {"size": 0.01},
        "clipping": {"norm": 1.0},
        "trial": False,
    }
    rows = []
    for strategy in ("diffusion", "wait_free"):
        worker = worker_of(make_setup(**keys, **EQUAL, strategy=strategy), engine)
        worker.advance(7)
        found, _ = worker.measure()
        rows.append([[row[key] for row in found for key in row if "staleness" not in key], worker.block.x.tolist()])
    if engine == "stacked":
        assert rows[0] == rows[1]
    else:  # a vectorised kernel rounds the last columns of a group differently
        torch.testing.assert_close(rows[0], rows[1], rtol=1e-12, atol=1e-12)


def test_waiting_for_all_changes_is_local_sgd(make_setup):
    keys = {**POINT, "trial": False, "topology": {"name": "ring", "agents": 4}}
    server = {"name": "async_server", "buffer": 4, "bound": 0, "period": 3}
    found = []
    for strategy in ({"name": "local_sgd", "period": 3}, server):
        worker = worker_of(make_setup(**keys, **RANDOM, strategy=strategy))
        worker.advance(9)
        found.append(worker.block.x)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_waves_give_the_numbers_of_one_operation_after_another(strategy, make_setup):
    """Quadratic losses with data of their own, SGD with momentum by hand, at the rate of the step that it is in."""
    keys = {**POINT, "topology": {"name": "ring", "agents": 6}, "strategy": strategy, **RANDOM, **AFAR}
    keys |= {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "schedule": "cosine", "steps": 20}
    setup = make_setup(**keys, trial=False)
    worker = worker_of(setup)
    worker.advance(12)
    task, sampler, clock = worker.block.task, worker.block.oracle.sampler, EventClock(setup)
    h, minimum = task.hessian.numpy(), task.minimum.numpy()
    known, momentum = {}, np.zeros((2, 6, h.shape[0]))
    for own in clock.passes:
        known |= dict.fromkeys(own.x, np.full(h.shape[0], 2.0))
    for step in range(12):
        for r, operations in enumerate(clock.take()):
            for operation in operations:
                k, x = operation.result.agent, [known[row] for row in operation.reads]
                if isinstance(operation, Gradient | Step):
                    shift = sampler.batch(operation.batch)[1].numpy().mean(1)[6 * r + k]
                    found = (x[0] - minimum) @ h + shift
                    x.append(found)
                if isinstance(operation, Adapt | Step):
                    momentum[r, k] = 0.5 * momentum[r, k] + x[1]
                    found = x[0] - 0.1 * setup.rate_factor(step, {}) * momentum[r, k]
                elif not isinstance(operation, Gradient):
                    found = x[0] + sum(w * (other - x[0]) for w, other in zip(operation.weights, x[1:], strict=True))
                known[operation.result] = found
    expected = [known[row] for own in clock.passes for row in own.parameters()]
    np.testing.assert_allclose(worker.block.x.numpy(), np.array(expected), rtol=1e-11, atol=1e-12)
    assert min(min(own.finished) for own in clock.passes) < 12 < max(max(own.finished) for own in clock.passes)


def test_averages_are_over_all_steps(make_setup):
    """Though their numbers are computed together otherwise."""
    setup = make_setup(**POINT, strategy="wait_free", **RANDOM, averaging={"name": "ema", "decay": 0.5}, trial=False)
    once, often = worker_of(setup), worker_of(setup)
    once.advance(6)
    for step in range(6):
        often.advance(step + 1)
    assert torch.equal(once.block.averages.mean, often.block.averages.mean)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_resumed_run_is_the_unbroken_one(strategy, make_setup, tmp_path):
    """With messages on their way, gradients begun, and optimizers that have taken different numbers of steps."""
    keys = {"model": {"name": "mlp", "hidden": [4], "norm": "batch"}, "strategy": strategy, **RANDOM, **AFAR}
    setup = make_setup(**keys, optimizer={"name": "adam", "lr": 0.01}, trial=False)
    whole, first, second = (worker_of(setup) for _ in range(3))
    whole.advance(9)
    first.advance(4)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(b"".join(TensorFile(first.state())))
    second.load(read_tensor_file(file))
    second.advance(9)
    assert torch.equal(whole.block.x, second.block.x)
    assert whole.measure() == second.measure()
    assert all(torch.equal(b, second.block.state.buffers[name]) for name, b in whole.block.state.buffers.items())


class Post:
    """Carries rows between two threads as a wire does between two processes."""

    def __init__(self, boxes, rank):
        self.boxes, self.rank = boxes, rank

    def send(self, parcels):
        ((routes, x),) = parcels
        for rank, route in routes.items():
            self.boxes[self.rank, rank].put(x.index_select(0, route.send))
        self.coming = {rank: route.needed for rank, route in routes.items()}
        return self

    def fetch(self):
        found = [self.boxes[rank, self.rank].get(timeout=600) for rank in self.coming]
        assert [len(rows) for rows in found] == [*self.coming.values()]
        return [torch.cat(found)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_two_workers_give_the_numbers_of_one(strategy, make_setup):
    """They share both replicas, agent by agent, and resume halfway."""
    keys = {**POINT, "topology": {"name": "ring", "agents": 6}, **RANDOM, **AFAR, "trial": False}
    setup = make_setup(**keys, strategy=strategy, optimizer={"name": "adam", "lr": 0.01})
    whole = worker_of(setup)
    whole.advance(7)
    template, task = whole.block.template, whole.block.task
    boxes = {pair: queue.Queue() for pair in ((0, 1), (1, 0))}

    def run(rank):
        placement = Placement(6, np.arange(12) % 2, 2, rank)

        def begin():
            state = setup.state(template, 6, torch.device("cpu"))
            state.parameters.fill_(2.0)
            optimizer = setup.local_optimizer(state, setup.optimizer_keys(*placement.index("cpu")))
            oracle = Oracle(setup, placement, template, task, state, optimizer, "stacked", 1)
            some = SomeGradients(setup, oracle, template, task, state)
            return EventRunner(setup, placement, state, some, Post(boxes, rank)), state

        (first, _), (second, state) = begin(), begin()
        for _ in range(3):
            first.take(1.0)
        second.load_state_dict(first.state_dict(), 3)
        for _ in range(4):
            second.take(1.0)
        second.settle()
        return state.parameters

    with ThreadPoolExecutor(2) as pool:
        for rank, x in enumerate(pool.map(run, range(2))):
            torch.testing.assert_close(x, whole.block.x[rank::2], rtol=1e-12, atol=1e-12)
    assert all(box.empty() for box in boxes.values())


def test_evaluations_record_what_was_sent_and_how_old_it_was(make_setup):
    worker = worker_of(make_setup(**POINT, strategy="wait_free", **RANDOM, **AFAR, trial=False))
    worker.advance(20)
    rows, _ = worker.measure()
    size = 8 * worker.setup.num_parameters
    for row, own in zip(rows, worker.block.events.clock.passes, strict=True):
        assert row["communicated_bytes"] == own.sent * size == 2 * sum(own.finished) * size
        assert 0 < row["mean_staleness"] < row["max_staleness"]
        assert row["simulated_time"] == own.now / 1e9


def test_the_first_step_of_a_loss_that_is_not_finite_is_found():
    """In whatever order the losses come, and also where others were recorded before."""
    watch = DivergenceWatch(4, torch.zeros(1))
    watch.add_some(np.array([0, 2]), torch.tensor([1.0, torch.inf]), [4, 7])
    watch.add_some(np.array([3, 2, 0]), torch.tensor([2.0, torch.nan, torch.nan]), [5, 6, 9])
    assert watch.found().tolist() == [9, 0, 6, 0]
    for step in range(10, 30):
        watch.add_some(np.array([2, 1]), torch.tensor([torch.nan, torch.inf if step == 12 else 0.0]), [step, step])
    assert watch.found().tolist() == [9, 12, 6, 0]


@pytest.mark.parametrize("sampling", ["independent", "epochs"])
def test_agents_draw_the_batches_of_their_own_steps(sampling, make_block):
    sampler = make_block(sampling=sampling).oracle.sampler
    rows = np.array([6, 0, 3, 6])
    for steps in ([0, 0, 0, 9], [3, 200, 70, 4], [4, 201, 71, 203], [90, 500, 70, 2]):
        found = sampler.some(rows, np.array(steps))
        for n, (row, step) in enumerate(zip(rows.tolist(), steps, strict=True)):
            for some, every in zip(found, sampler.batch(step), strict=True):
                assert torch.equal(some[n], every[row])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"compute": None}, "^compute: wait_free acts when gradients are finished, .* give a law, such as"),
        ({"optimizer": {"name": "mezo", "lr": 0.1}}, "^optimizer: wait_free .* and mezo evaluates gradients by itself"),
        ({"faults": {"name": "link_noise", "size": 0.2}}, "wait_free has no such steps; allowed are link_loss"),
        ({"accumulate": 2}, "^accumulate: wait_free .* allowed is 1$"),
        (
            {"attack": {"name": "sign_flip", "agents": [1]}},
            "^attack: sign_flip falsifies .* allowed are label_flip and none$",
        ),
        ({"network": {"name": "uniform", "overlap": False}}, "^network.overlap: wait_free .* allowed is true$"),
        ({"steps": None, "bytes": 10**6}, "^bytes: wait_free .* give steps, epochs or samples$"),
        (
            {"strategy": "ad_psgd", "topology": {"name": "ring", "agents": 5}},
            "^strategy: ad_psgd needs a bipartite graph",
        ),
        ({"strategy": {"name": "async_server", "host": 4}}, "^strategy: async_server: host: got 4; .* 0 to 3$"),
        (
            {"strategy": "async_server", "network": {"name": "uniform", "latency": "1 ms"}},
            "^network: agent 2 sends to 0?",
        ),
        ({"topology": {"name": "one_peer_exponential", "agents": 4}}, "^strategy: wait_free needs the same graph"),
        ({"optimizer_state": "mix"}, "^optimizer_state: got mix, but wait_free does not combine"),
    ],
)
def test_what_does_not_fit_is_one_sentence(keys, sentence, make_setup):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**{**POINT, "strategy": "wait_free", **RANDOM, **keys})
