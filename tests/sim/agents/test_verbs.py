"""The verbs of a block beside adapt and combine: exchange with single neighbours, push, gradients over all data."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from basinet.algorithms.strategies import StrategyTraits
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import load_vector
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError


@pytest.mark.parametrize("graph", [nx.star_graph(4), nx.DiGraph([(0, 1), (1, 2), (2, 0), (1, 0)]), nx.cycle_graph(5)])
def test_each_neighbor_gets_the_row_meant_for_it(make_block, graph):
    block = make_block(topology={"name": graph, "policy": "uniform"}, replicas=2)
    agents, weights = len(graph), block.setup.weights.toarray()
    neighbors = block.neighbors
    slots = [sorted((set(graph.predecessors(k)) | set(graph.successors(k))) if graph.is_directed() else graph[k])
             for k in graph]  # fmt: skip
    assert neighbors.heard.shape == (2 * agents, max(map(len, slots)))
    messages = torch.arange(1.0, 1 + neighbors.heard.numel() * 3, dtype=torch.float64).view(*neighbors.heard.shape, 3)
    before = block.channel.bytes_sent
    received = block.exchange(messages)
    hears = weights * (1 - np.eye(agents))
    assert block.channel.bytes_sent - before == np.count_nonzero(hears) * 3 * 8
    for r in range(2):
        for k in range(agents):
            n = r * agents + k
            assert neighbors.own[n] == weights[k, k]
            for d in range(neighbors.heard.shape[1]):
                sender = slots[k][d] if d < len(slots[k]) else None
                if sender is None or not hears[k, sender]:
                    assert not neighbors.heard[n, d] and neighbors.weights[n, d] == 0 and (received[n, d] == 0).all()
                    continue
                assert neighbors.heard[n, d] and neighbors.weights[n, d] == weights[k, sender]
                meant = messages[r * agents + sender, slots[sender].index(k)]
                assert torch.equal(received[n, d], meant)


def test_the_weighted_sum_of_what_is_exchanged_is_the_combination(make_block):
    block = make_block(topology={"name": "wheel", "agents": 6}, replicas=3)
    x = torch.randn(18, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    received = block.exchange(x[:, None].expand(-1, block.neighbors.heard.shape[1], -1))
    combined = x.clone()
    block.combine(combined)
    mine = block.neighbors.own[:, None] * x + torch.einsum("nd,ndp->np", block.neighbors.weights, received)
    torch.testing.assert_close(mine, combined, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch_size", [4, 7, 1000])
def test_full_gradients_are_those_of_all_data_of_an_agent(make_block, batch_size):
    block = make_block(task={"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.5}}, batch_size=batch_size)
    block.advance(2)
    sizes = {len(held) for replica in block.setup.holdings for held in replica}
    assert len(sizes) > 1
    found = block.full_gradients()
    model = block.setup.template().to(torch.float64)
    names = [name for name, _ in model.named_parameters()]
    for n in range(len(block.x)):
        held = torch.from_numpy(block.setup.holdings[n // 4][n % 4])
        data = tuple(t[held] for t in block.task.train)
        parameters = dict(zip(names, (layer[n] for layer in block.state.split(block.x)), strict=True))

        def loss(parameters, data=data):
            return nn.functional.cross_entropy(functional_call(model, parameters, data[:1]), data[1])

        wanted = torch.cat([g.flatten() for g in grad(loss)(parameters).values()])
        torch.testing.assert_close(found[n], wanted, rtol=1e-10, atol=1e-12)


class Sweeps:
    """Adapts with gradients over all data."""

    traits = StrategyTraits(full_gradients=True)

    def step(self, block):
        block.adapt(block.full_gradients())


class Steady(Sweeps):
    traits = StrategyTraits(full_gradients=True, static=True)


def test_full_gradients_are_refused_where_there_are_none(make_setup):
    with pytest.raises(ExperimentError, match="needs gradients over all of an agent's data, and the task generates"):
        make_setup(task="quadratic", model="point", strategy=Sweeps())
    norm = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with pytest.raises(ExperimentError, match="running statistics"):
        make_setup(model=norm, strategy=Sweeps())


def test_a_strategy_can_ask_for_one_graph(make_setup):
    with pytest.raises(
        ExperimentError, match="needs the same graph at every step, but one_peer_exponential alternates between 2"
    ):
        make_setup(topology={"name": "one_peer_exponential", "agents": 4}, strategy=Steady())


def test_agents_that_agree_stay_where_they_are_in_single_precision(make_block):
    for topology in ("ring", "complete", "wheel"):
        block = make_block(topology={"name": topology, "agents": 7}, runtime={"dtype": "float32"}, replicas=1)
        x = torch.randn(1, block.x.shape[1]).expand(7, -1).clone()
        mixed = x.clone()
        block.combine(mixed)
        assert torch.equal(mixed, x)  # no bias that a correction could add up


@pytest.mark.parametrize("topology", ["star", "complete", "ring"])
def test_second_moments_stay_positive_when_they_are_mixed(make_block, topology):
    block = make_block(
        topology={"name": topology, "agents": 6}, optimizer={"name": "adam", "lr": 0.01}, optimizer_state="mix"
    )
    block.advance(1)
    _, second = block.optimizer.rows()
    second.copy_(torch.rand(second.shape, dtype=torch.float64) ** 40)
    second[1::2] = 0
    held, wanted = second.clone(), block.setup.weights.toarray()
    block.combine(block.x)
    assert (second >= 0).all()
    torch.testing.assert_close(second.view(2, 6, -1), torch.from_numpy(wanted) @ held.view(2, 6, -1))


def test_personal_parameters_stay_with_their_agent(make_block):
    block = make_block(personal=["3.*"], analysis=[])
    first, size = 64 * 6 + 6, block.x.shape[1]  # what the second layer follows
    x = torch.randn(8, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = block.setup.weights.toarray()
    for verb, mixing in ((block.combine, weights), (block.average, np.full((4, 4), 1 / 4))):
        mixed, before = x.clone(), block.channel.bytes_sent
        verb(mixed)
        wanted = (torch.from_numpy(mixing) @ x.view(2, 4, size)).view(8, size)
        torch.testing.assert_close(mixed[:, :first], wanted[:, :first])
        assert torch.equal(mixed[:, first:], x[:, first:])
        # 8 messages on a ring of 4; up and down for an average.
        assert block.channel.bytes_sent - before == 8 * first * 8
    messages = x[:, None].expand(-1, 2, -1)
    received = block.exchange(messages)
    assert torch.equal(received[..., first:], messages[..., first:])
    assert not torch.equal(received[..., :first], messages[..., :first])


def test_runs_with_personal_parameters_are_measured_at_the_agents(make_setup):
    setup = make_setup(personal=["3.*"], analysis=[], task={"name": "digits", "partition": {"name": "dirichlet"}})
    worker = Worker(setup, Placement.split(2, 4), "auto")
    worker.advance(30)
    (row, _), _ = worker.measure()
    model, accuracies = setup.template().double(), []
    for n in range(4):
        load_vector(model, worker.block.x[n], {})
        accuracies.append(setup.task.evaluate(model)["test_accuracy"])
    assert row["test_accuracy"] == pytest.approx(np.mean(accuracies), rel=1e-12)
    shared = worker.block.x[:4, : 64 * 6 + 6]
    spread = (shared - shared.mean(0)).square().sum(1).mean()
    assert row["consensus_distance"] == pytest.approx(float(spread), rel=1e-9)
    heads = worker.block.x[:4, 64 * 6 + 6 :]
    assert (heads - heads.mean(0)).norm() > 10 * (shared - shared.mean(0)).norm()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"personal": ["head"]}, "personal: no parameter fits 'head'; there are 1.weight, 1.bias, 3.weight, 3.bias"),
        ({"personal": ["*"]}, "personal: all parameters are chosen"),
        ({"personal": ["3.*"], "analysis": ["hessian_trace"]}, "analysis_points: got centroid"),
        (
            {"personal": ["3.*"], "trajectory": "centroid"},
            "trajectory: agents with personal parameters have no common centroid",
        ),
        *(
            (
                {"personal": ["3.*"], "analysis": [name], "analysis_points": ["agents"]},
                f"analysis: {name} is measured a",
            )
            for name in (
                "consensus_sharpness",
                "implicit_regularization",
                "disagreement_alignment",
                "random_plane",
                "loss_slices",
                "loss_surface",
                "agent_barriers",
            )
        ),
        ({"personal": ["3.*"], "strategy": "choco"}, "personal: choco cannot leave some parameters out"),
        ({"personal": ["3.*"], "strategy": "asynchronous"}, "personal: asynchronous cannot leave some parameters out"),
        ({"personal": ["3.*"], "escape": {"name": "risk_above", "level": 0.1}}, "escape: agents with personal"),
    ],
)
def test_personal_parameters_that_make_no_sense_are_refused(make_setup, keys, sentence):
    with pytest.raises(ExperimentError) as caught:
        check_analysis(make_setup(**{"analysis": []} | keys))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("strategy", ["exact_diffusion", "extra", "choco", "push_sum", "asynchronous", "relay"])
def test_nothing_can_go_the_way_of_parameters_that_are_not_combined_as_such(make_setup, strategy):
    keys = {"topology": {"name": "star", "agents": 4, "policy": "push" if strategy == "push_sum" else "metropolis"}}
    for key, value in (("optimizer_state", "mix"), ("optimizer_state", "reset"), ("buffers", "mix")):
        with pytest.raises(ExperimentError, match=f"{key}: got {value}, but {strategy} does not combine the param"):
            make_setup(strategy=strategy, **{key: value}, **keys)


@pytest.mark.parametrize("topology", ["wheel", "ring", "complete"])
def test_rows_of_any_shape_are_mixed(make_block, topology):
    block = make_block(topology={"name": topology, "agents": 5})
    generator = torch.Generator().manual_seed(0)
    for shape in ((10, 3, 4), (10,), (10, 1)):
        x = torch.randn(shape, dtype=torch.float64, generator=generator)
        wanted = torch.from_numpy(block.setup.weights.toarray()) @ x.view(2, 5, -1)
        block.combine(x)
        torch.testing.assert_close(x.reshape(2, 5, -1), wanted)


class Clipping(torch.optim.SGD):
    """Changes the gradients that it is given."""

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1e-3)
        super().step(closure)


@pytest.mark.parametrize("strategy", ["gradient_tracking", "push_pull", "beer"])
def test_optimizers_that_change_their_gradients_leave_trackers_alone(make_block, strategy):
    block = make_block(strategy=strategy, optimizer={"name": Clipping, "lr": 0.1})
    block.advance(5)
    y, g = (block.memory[name].view(2, 4, -1).mean(1) for name in ("tracker", "tracked"))
    torch.testing.assert_close(y, g, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("strategy", ["relay", "powergossip"])
def test_a_single_agent_has_nobody_to_talk_to(make_block, strategy):
    block = make_block(strategy=strategy, topology={"name": "path", "agents": 1})
    block.advance(2)
    assert block.channel.bytes_sent == 0


def test_broadcast_gives_back_what_is_personal(make_block):
    block = make_block(personal=["3.*"], analysis=[])
    before, first = block.channel.bytes_sent, 64 * 6 + 6
    for columns, heard in block.broadcast(block.x):
        own = torch.arange(columns.start, columns.stop) >= first
        assert torch.equal(heard[..., own], block.x[:, None, columns][..., own].expand(-1, 2, -1))
    assert block.channel.bytes_sent - before == 8 * first * 8


class Tied(nn.Module):
    """Two names of one tensor, of which torch lists the first."""

    def __init__(self):
        super().__init__()
        self.e, self.o, self.bias = nn.Linear(64, 10, bias=False), nn.Linear(64, 10, bias=False), nn.Linear(64, 10)
        self.o.weight = self.e.weight

    def forward(self, x):
        x = x.flatten(1)
        return self.e(x) + self.o(x) + self.bias(x)


@pytest.mark.parametrize("pattern", ["o.weight", "o.*", "e.weight", "[eo].*"])
def test_a_tied_parameter_is_chosen_by_any_of_its_names(make_block, pattern):
    personal = make_block(model=Tied, personal=[pattern])
    x = torch.randn(personal.state.parameters.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed = x.clone()
    personal.combine(mixed)
    assert torch.equal(mixed[:, :640], x[:, :640]) and not torch.equal(mixed[:, 640:], x[:, 640:])
    groups = [{"match": [pattern], "lr": 0.0}]
    block = make_block(model=Tied, optimizer={"name": "sgd", "lr": 0.1, "groups": groups}, strategy="isolated")
    before = block.state.parameters.detach().clone()
    block.advance(1)
    moved = block.state.parameters != before
    assert not moved[:, :640].any() and moved[:, 640:].any()


def test_a_name_that_no_parameter_has_is_still_refused(make_setup):
    for keys in ({"personal": ["p.*"]}, {"optimizer": {"name": "sgd", "lr": 0.1, "groups": [{"match": ["p.*"]}]}}):
        with pytest.raises(ExperimentError, match=r"no parameter fits 'p\.\*'"):
            make_setup(model=Tied, **keys)
