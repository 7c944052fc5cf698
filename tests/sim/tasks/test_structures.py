"""Batches, outputs and losses of any structure train as by a loop written by hand."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from basinet.sim.agents.block import Block
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import take
from basinet.sim.experiment.component import ExperimentError
from tests.structures import STRUCTURES, mean_loss

AGENTS, RATE, STEPS = 3, 0.3, 3


def block_of(name: str, make_block: Any, engine: str = "loop", **keys: Any) -> Block:
    task, model = STRUCTURES[name]
    runtime = {"dtype": "float64", "device": "cpu", "engine": engine}
    block: Block = make_block(
        **{
            "task": task,
            "model": model,
            "topology": {"name": "ring", "agents": AGENTS},
            "optimizer": {"name": "sgd", "lr": RATE},
            "batch_size": 4,
            "steps": STEPS,
            "replicas": 1,
            "runtime": runtime,
            "analysis": [],
            **keys,
        }
    )
    return block


def by_hand(name: str, block: Block) -> Tensor:
    """Train copies of the model by adapt-then-combine, on the batches of the block."""
    agents = []
    for x in block.x.detach():
        model = copy.deepcopy(block.template)
        torch.nn.utils.vector_to_parameters(x.clone(), model.parameters())
        agents.append(model)
    weights = torch.from_numpy(block.setup.weights.toarray())
    for step in range(STEPS):
        rows = []
        for agent, model in enumerate(agents):
            loss = mean_loss(name, model, take(block.oracle.batch(step), agent))
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rows.append(
                torch.cat([(p - RATE * g).flatten() for p, g in zip(model.parameters(), gradients, strict=True)])
            )
        for model, x in zip(agents, weights @ torch.stack(rows).detach(), strict=True):
            torch.nn.utils.vector_to_parameters(x.clone(), model.parameters())
    return torch.stack([torch.nn.utils.parameters_to_vector(model.parameters()).detach() for model in agents])


@pytest.mark.parametrize("engine", ["loop", "vectorized", "auto"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_agents_train_as_by_hand(name: str, engine: str, make_block: Any) -> None:
    if (name, engine) == ("weighted tokens", "vectorized"):
        with pytest.raises(ExperimentError, match="vectorized cannot run"):  # torch has no batched LSTM
            block_of(name, make_block, engine, trial=True)
        return
    block = block_of(name, make_block, engine)
    expected = by_hand(name, block)
    block.advance(STEPS)
    np.testing.assert_allclose(block.x.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, (task, _) in STRUCTURES.items() if task.mean_over == "samples"])
def test_the_whole_is_measured_in_chunks(name: str) -> None:
    """The mean over chunks with unequal numbers of labels, or weights, is the pooled mean."""
    task, make = STRUCTURES[name]
    torch.manual_seed(0)
    model = make().double()
    found = task.evaluate(model, chunk=7)["train_loss"]
    assert found == pytest.approx(mean_loss(name, model, task.train).item(), rel=1e-12)


@pytest.mark.parametrize("name", ["masked language", "weighted tokens"])
def test_full_gradients_pool_unequal_counts(name: str, make_block: Any) -> None:
    block = block_of(name, make_block)
    found = block.full_gradients()
    for agent, held in enumerate(block.setup.holdings[0]):
        model = copy.deepcopy(block.template)
        torch.nn.utils.vector_to_parameters(block.x[agent].detach().clone(), model.parameters())
        loss = mean_loss(name, model, take(block.task.train, torch.from_numpy(held)))
        wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        np.testing.assert_allclose(found[agent].detach(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["masked language", "weighted tokens"])
def test_centralized_takes_the_mean_over_all_that_counts(name: str, make_block: Any) -> None:
    block = block_of(name, make_block, strategy="centralized")
    model = copy.deepcopy(block.template)
    torch.nn.utils.vector_to_parameters(block.x[0].detach().clone(), model.parameters())
    for step in range(STEPS):
        joint = map_nest(lambda t: t.flatten(0, 1), block.oracle.batch(step))
        gradients = torch.autograd.grad(mean_loss(name, model, joint), list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= RATE * g
    block.advance(STEPS)
    wanted = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    np.testing.assert_allclose(block.x.detach(), wanted.expand(AGENTS, -1), rtol=0, atol=1e-12)


def test_the_record_says_what_a_mean_is_over() -> None:
    about = {name: task.about_loss for name, (task, _) in STRUCTURES.items()}
    left_out = int((STRUCTURES["masked language"][0].train.labels == -100).sum())
    assert about["masked language"].endswith(f"; {left_out} of 120 labels do not count")
    assert about["weighted tokens"].endswith("; a weighted mean over 120 elements")
    assert about["contrastive"] == "that of Contrastive; of a whole batch, which is no mean over samples"


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_resumed_run_ends_alike(name: str, make_block: Any) -> None:
    whole, before, after = (block_of(name, make_block, sampling="epochs") for _ in range(3))
    whole.advance(STEPS)
    before.advance(1)
    after.load_state_dict(before.state_dict())
    after.advance(STEPS)
    assert torch.equal(after.x, whole.x)
