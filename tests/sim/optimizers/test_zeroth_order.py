"""Derivative-free optimizers on a network: one number travels, the draws belong to the agent, and runs resume."""

import pytest
import torch

from basinet.algorithms.optimizers import LOZOM
from basinet.sim.agents.state import instantiate
from basinet.sim.experiment.component import ExperimentError

LOZO_M = {"name": "lozo_m", "lr": 0.02, "eps": 0.01, "rank": 2, "period": 3}
KINDS = [{"name": "mezo", "lr": 0.02}, {"name": "lozo", "lr": 0.02, "period": 4}, LOZO_M]


@pytest.mark.parametrize("optimizer", KINDS, ids=lambda o: o["name"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centralized_sends_a_number_and_agrees_exactly(make_block, optimizer, dtype):
    block = make_block(
        strategy="centralized",
        optimizer=optimizer | {"shared": True},
        model={"name": "mlp", "hidden": [7, 5]},
        topology={"name": "ring", "agents": 5},
        runtime={"dtype": dtype, "device": "cpu"},
    )
    block.advance(12)
    assert block.channel.bytes_sent == 12 * 5 * 2 * block.x.element_size()
    for agents in block.x.view(2, 5, -1):
        assert torch.equal(agents, agents[:1].expand_as(agents))
    assert not torch.equal(block.x[0], block.x[5])  # replicas draw apart


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_centralized_is_plain_pytorch_on_all_samples(make_block, engine):
    runtime = {"dtype": "float64", "device": "cpu", "engine": engine}
    block = make_block(strategy="centralized", optimizer=LOZO_M | {"shared": True}, replicas=1, runtime=runtime)
    model = instantiate(block.setup.model, 0).double()
    torch.nn.utils.vector_to_parameters(block.x[0].clone(), model.parameters())
    keys = block.setup.optimizer_keys(*block.placement.index("cpu"))
    settings = {name: value for name, value in LOZO_M.items() if name != "name"}
    plain = LOZOM(model.parameters(), keys=keys[:1], shared=True, **settings)
    for step in range(8):
        images, labels = (t.flatten(0, 1) for t in block.oracle.sampler.batch(step))
        plain.step(lambda x=images, y=labels: torch.nn.functional.cross_entropy(model(x), y))
    block.advance(8)
    flat = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(block.x[0], flat.detach(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("optimizer_state", ["keep", "mix", "reset"])
def test_a_restored_block_goes_on_alike(make_block, optimizer_state):
    keys = {"optimizer": LOZO_M | {"shared": True}, "optimizer_state": optimizer_state, "schedule": "cosine"}
    whole, first, second = (make_block(**keys) for _ in range(3))
    whole.advance(11)
    first.advance(4)  # in the middle of a period
    second.load_state_dict(first.state_dict())
    second.advance(11)
    assert torch.equal(second.x, whole.x)


def test_momentum_in_subspaces_of_their_own_cannot_be_mixed(make_setup):
    with pytest.raises(ExperimentError, match=r"^optimizer_state: got mix.* of lozo_m .*subspaces of their own"):
        make_setup(optimizer=LOZO_M, optimizer_state="mix")
    make_setup(optimizer=LOZO_M, optimizer_state="reset")


def test_diffusion_learns_without_gradients(make_block):
    block = make_block(optimizer={"name": "mezo", "lr": 0.02}, batch_size=32, replicas=1)
    block.advance(200)
    model = instantiate(block.setup.model, 0).double()
    torch.nn.utils.vector_to_parameters(block.x.mean(0), model.parameters())
    guess = block.task.objective(lambda x: x.new_zeros(len(x), 10), block.task.train)
    assert block.task.evaluate(model)["train_loss"] < float(guess)


@pytest.mark.parametrize("engine", ["stacked", "loop", "vectorized"])
def test_what_evaluations_touch_stays_trainable(make_block, engine):
    """They run in inference mode, whose tensors can neither be changed nor differentiated outside of it."""
    keys = {
        "model": {"name": "mlp", "hidden": [7], "norm": "batch", "dropout": 0.1},
        "runtime": {"dtype": "float64", "device": "cpu", "engine": engine},
    }
    block, other = (make_block(optimizer=LOZO_M, **keys) for _ in range(2))
    block.advance(3)
    assert not any(t.is_inference() for t in (block.x, *block.state.buffers.values()))
    other.load_state_dict(block.state_dict())
    block.advance(5)
    other.advance(5)
    assert torch.equal(block.x, other.x)
    block.task.evaluate(instantiate(block.setup.model, 0).double())
