"""Steps that choose subspaces by the gradient have larger batches, where they are asked for, and no others have."""

import numpy as np
import pytest
import torch
from torch import nn

from basinet.algorithms import draws
from basinet.analysis.studies.galore_counterexample import Counterexample
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.data.sampling import EpochSampler, IndependentSampler
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task

pytestmark = pytest.mark.usefixtures("untried")

GALORE = {"name": "galore", "lr": 0.1, "rank": 2, "period": 4, "refresh_batch": 50}


class Structured(Task):
    """The counterexample of `Counterexample`: agents of one instance, who differ in their noise."""

    problem = Counterexample.draw([42])

    @property
    def draw(self):
        def sample(keys, agents, batch_size, dtype):
            signs = 2 * draws.integers(keys, 2, (batch_size, 1)).to(dtype) - 1
            return signs.new_zeros(len(keys), batch_size, 1), signs

        return sample

    def loss(self, outputs, batch):
        x = outputs.unflatten(-1, (10, 10))
        signal = 0.5 * (x[..., :6, :6] + self.problem.signal[0]).square().sum((-2, -1))
        signal = signal + 0.5 * x[..., :6, 6:].square().sum((-2, -1))
        return signal + batch[-1][..., 0] * x.diagonal(dim1=-2, dim2=-1)[..., 6:].sum(-1)


class Matrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(Structured.problem.start[0].clone())

    def forward(self, inputs):
        return self.x.flatten().expand(*inputs.shape[:-1], 100)


@pytest.mark.parametrize(("batch", "steps"), [(1, 600), (2, 1500), (3, 1200)])
def test_the_counterexample_in_the_simulator_stops_where_the_theory_says(make_block, batch, steps):
    """Each agent ends at ½ Σ min(s, σ/B)² of an odd batch B, and an even one cancels its noise by chance."""
    still = torch.zeros(1, 1, dtype=torch.float64)
    block = make_block(
        task=Structured(train=(still, still), num_outputs=100, classification=False),
        model=Matrix,
        topology={"name": "ring", "agents": 3},
        strategy="isolated",
        optimizer={"name": "galore", "lr": 5e-3, "rank": 4, "period": 20, "refresh_batch": batch},
        batch_size=1,
        steps=steps,
        replicas=1,
        runtime={"dtype": "float64", "engine": "vectorized"},
    )
    block.advance(steps)
    gaps = [float(Structured.problem.gap(x.view(1, 10, 10))) for x in block.x]
    if batch % 2:
        assert gaps == pytest.approx([float(Structured.problem.stall(5e-3, 20, batch))] * 3, rel=1e-9)
    else:
        assert max(gaps) < 0.1  # a single sample leaves 2.2


@pytest.mark.parametrize("engine", ["stacked", "vectorized", "loop"])
@pytest.mark.parametrize("sampling", ["independent", "epochs"])
def test_subspaces_are_those_of_the_larger_gradient(make_block, engine, sampling):
    block = make_block(optimizer=GALORE, sampling=sampling, runtime={"dtype": "float64", "engine": engine})
    for step in range(6):
        large = step % 4 == 0
        batch = block.oracle.batch(block.step)
        assert batch[0].shape[:2] == (8, 50 if large else 5)
        before = block.x.clone()
        gradients = block.gradients().clone()
        for n in (0, 5):  # by hand
            parameters = [layer[n].detach().clone().requires_grad_() for layer in block.layers(before)]
            hidden = batch[0][n].flatten(1) @ parameters[0].T + parameters[1]
            outputs = hidden.relu() @ parameters[2].T + parameters[3]
            loss = nn.functional.cross_entropy(outputs, batch[1][n])
            expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
            torch.testing.assert_close(gradients[n], expected, rtol=1e-9, atol=1e-12)
        block.adapt(gradients)
        if large:
            g = gradients[:, : 6 * 64].view(-1, 6, 64)
            optimizer = block.optimizer.optimizers[0]
            p = optimizer.state[optimizer.param_groups[0]["params"][0]]["basis"]
            s = torch.linalg.svdvals(g)[:, :2]
            torch.testing.assert_close((p.mT @ g).square().sum((1, 2)), s.square().sum(1), rtol=1e-9, atol=0)
        block.step += 1


@pytest.mark.parametrize("kind", [EpochSampler, IndependentSampler])
def test_a_larger_batch_begins_with_the_usual_one_and_changes_no_other(kind):
    data = (torch.arange(20.0)[:, None], torch.arange(20))
    holdings, keys = [np.arange(0, 7), np.arange(7, 20)], torch.tensor([3, 4])
    plain, mixed = kind(data, holdings, keys, 4), kind(data, holdings, keys, 4)
    for step in range(30):
        if step % 3 == 1:
            larger = mixed.batch(step, 33)[1]
            assert larger.shape == (2, 33) and torch.equal(larger[:, :4], plain.batch(step)[1])
            if kind is EpochSampler:  # what comes next
                for later in range(1, 8):
                    assert torch.equal(larger[:, 4 * later : 4 * later + 4], plain.batch(step + later)[1])
                assert torch.equal(kind(data, holdings[1:], keys[1:], 4).batch(step, 33)[1][0], larger[1])
        else:
            assert torch.equal(mixed.batch(step)[1], plain.batch(step)[1])


def test_a_run_goes_on_from_a_checkpoint(make_block):
    whole, first, second = (make_block(optimizer=GALORE | {"momentum": 0.9}, sampling="epochs") for _ in range(3))
    whole.advance(11)
    first.advance(6)
    second.load_state_dict(first.state_dict())
    second.advance(11)
    assert torch.equal(whole.x, second.x)


def test_agents_elsewhere_change_nothing(make_setup):
    setup = make_setup(optimizer=GALORE, strategy="isolated", runtime={"dtype": "float64", "engine": "stacked"})
    whole = Block(setup, Placement.split(2, 4), torch.device("cpu"), "stacked")
    part = Block(setup, Placement(4, np.repeat([0, 1], [3, 5]), 2, 1), torch.device("cpu"), "stacked")
    for block in (whole, part):
        for _ in range(6):
            block.adapt(block.gradients())
            block.step += 1
    torch.testing.assert_close(part.x, whole.x[3:], rtol=1e-9, atol=1e-12)


def test_random_subspaces_have_the_usual_batch(make_block):
    block = make_block(optimizer=GALORE | {"name": "golore", "random_from": 8})
    sizes = []
    for _ in range(13):
        sizes.append(block.oracle.batch(block.step)[0].shape[1])
        block.advance(block.step + 1)
    assert sizes == [50, 5, 5, 5, 50, *[5] * 8]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "golore"}, "refresh_batch is for subspaces that follow the gradient"),
        ({"refresh_batch": 0}, "refresh_batch must be a whole number of at least 1, or None, got 0"),
        ({"refresh_batch": 3}, "asks for 3 samples at some steps, and batch_size is 5 at all others"),
    ],
)
def test_what_makes_no_sense_is_refused(make_setup, settings, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(optimizer=GALORE | settings)
