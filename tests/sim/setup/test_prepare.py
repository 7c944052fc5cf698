"""Optimizers that evaluate by themselves: what the block lets them do, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import optim

from basinet.algorithms.optimizers import OptimizerTraits
from basinet.sim.experiment.component import ExperimentError
from tests.stepped import STEPPED

K, M, B, LR = 4, 3, 4, 0.2


class Extragradient(optim.Optimizer):
    """Steps with the gradient that it would find after a step: x ← x − μ g(x − μ g(x))."""

    traits = OptimizerTraits(stacked="flat", evaluates=True)

    def __init__(self, params, lr=LR, agents=None):
        super().__init__(params, {"lr": lr})
        self.losses = []

    @torch.no_grad()
    def prepare(self, closure):
        (group,) = self.param_groups
        (p,) = group["params"]
        x = p.clone()
        self.losses = [closure()]
        p.sub_(p.grad, alpha=group["lr"])
        self.losses.append(closure())
        p.copy_(x)

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            self.prepare(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"])


class Assigning(Extragradient):
    def prepare(self, closure):
        (p,) = self.param_groups[0]["params"]
        x = p.data
        p.data = x - LR
        closure()
        p.data = x


class Storm(optim.Optimizer):
    """Recursive variance reduction: d ← g(x) + (1 − a) (d − g(x')), the sample of this step at both points."""

    traits = OptimizerTraits(stacked="layers", evaluates=True)

    def __init__(self, params, lr=LR, a=0.3, agents=None):
        super().__init__(params, {"lr": lr, "a": a})

    @torch.no_grad()
    def prepare(self, closure):
        layers = [(p, group["a"]) for group in self.param_groups for p in group["params"]]
        closure()
        if not self.state:
            return
        kept = [(p, a, p.clone(), p.grad.clone()) for p, a in layers]
        for p, _ in layers:
            p.copy_(self.state[p]["before"])
        closure()
        for p, a, x, g in kept:
            p.copy_(x)
            p.grad = g + (1 - a) * (self.state[p]["d"] - p.grad)

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            self.prepare(closure)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"before": p.clone(), "d": p.grad.clone()}
                p.sub_(p.grad, alpha=group["lr"])


class Coordinate(optim.Optimizer):
    """Derivative-free: one coordinate a step, by a central difference; the same coordinate for all agents."""

    traits = OptimizerTraits(stacked="flat", evaluates=True, derivative_free=True)
    in_common = True

    def __init__(self, params, lr=LR, agents=None):
        super().__init__(params, {"lr": lr})
        self.coefficients = None

    @torch.no_grad()
    def prepare(self, closure):
        (p,) = self.param_groups[0]["params"]
        column = p[:, self.state[p].get("step", 0) % p.shape[1]]
        x = column.clone()
        column += 0.5
        above = closure()
        column -= 1.0
        self.coefficients = (above - closure())[:, None]
        column.copy_(x)

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            self.prepare(closure)
        (p,) = self.param_groups[0]["params"]
        step = self.state[p].setdefault("step", 0)
        p[:, step % p.shape[1]] -= self.param_groups[0]["lr"] * self.coefficients[:, 0]
        self.state[p]["step"] += 1


class Own(Coordinate):
    in_common = False


@pytest.fixture
def quadratic_block(make_block):
    def make(optimizer, strategy="diffusion", **keys):
        return make_block(
            task={"name": "quadratic", "heterogeneity": 0.7},
            model={"name": "point", "start": 2.0},
            topology={"name": "ring", "agents": K, "policy": {"name": "lazy"}},
            strategy=strategy,
            optimizer={"name": optimizer, "lr": LR},
            batch_size=B,
            **keys,
        )

    return make


def slopes(block):
    """The gradient of each step's batch as a function of x, from the same draws."""
    h, w_star = block.task.hessian.numpy(), block.task.minimum.numpy()

    def at(t):
        shifts = block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        return lambda x: (x - w_star) @ h + shifts

    return at


def mixed(block, strategy, x, g, t):
    """One step with what the optimizer adds, by hand."""
    if strategy == "centralized":
        return x - LR * g.mean(1, keepdims=True)
    w = block.setup.weights.toarray()
    return w @ x - LR * g if strategy == "consensus" else w @ (x - LR * g)


@pytest.mark.parametrize("strategy", ["diffusion", "consensus", "centralized"])
@pytest.mark.parametrize("kind", [Extragradient, Storm, Coordinate])
def test_an_optimizer_that_evaluates_follows_its_recursion(quadratic_block, kind, strategy):
    block = quadratic_block(kind, strategy)
    gradient, x, before, d = slopes(block), np.full((2, K, M), 2.0), None, None
    for t in range(30):
        g = gradient(t)
        if kind is Extragradient:
            step = g(x - LR * g(x))
        elif kind is Storm:
            step = g(x) if before is None else g(x) + 0.7 * (d - g(before))
        else:
            step = np.where(np.arange(M) == t % M, g(x), 0.0)
        # What STORM remembers is what it was given, at the point from which it stepped.
        d = step.mean(1, keepdims=True) + 0 * step if strategy == "centralized" else step
        before = block.setup.weights.toarray() @ x if strategy == "consensus" else x
        x = mixed(block, strategy, x, step, t)
    block.advance(30)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-11, atol=1e-11)


def test_an_optimizer_that_evaluates_elsewhere_than_x_is_refused(quadratic_block):
    with pytest.raises(
        ExperimentError, match=r"Assigning cannot work here .*TypeError: it assigns new tensors to parameters"
    ):
        quadratic_block(Assigning, trial=True)


def test_a_coefficient_is_all_that_travels(quadratic_block):
    block = quadratic_block(Coordinate, "centralized")
    block.advance(5)
    assert block.channel.bytes_sent == 5 * 2 * K * 8  # there and back, one float64 an agent
    agents = block.x.view(2, K, M)
    assert torch.equal(agents, agents[:, :1].expand_as(agents))


@pytest.mark.parametrize("kind", [Storm, Coordinate])
def test_a_restored_block_goes_on_alike(quadratic_block, kind):
    whole, first, second = (quadratic_block(kind) for _ in range(3))
    whole.advance(12)
    first.advance(7)
    second.load_state_dict(first.state_dict())
    second.advance(12)
    assert torch.equal(second.x, whole.x)


def test_evaluations_of_a_step_have_the_same_draws_and_statistics(make_block):
    class Twice(Extragradient):
        def prepare(self, closure):
            self.losses = [closure(), closure()]

    model = {"name": "mlp", "hidden": [6], "norm": "batch", "dropout": 0.4}
    block, plain = (
        make_block(model=model, optimizer=Twice),
        make_block(model=model, optimizer={"name": "sgd", "lr": LR}),
    )
    block.advance(3)
    plain.advance(3)
    first, second = block.optimizer.optimizers[0].losses
    assert torch.equal(first, second)
    assert torch.equal(block.x, plain.x)
    for name, buffer in plain.state.buffers.items():
        assert torch.equal(block.state.buffers[name], buffer), name


def test_a_point_that_overflows_is_noticed(quadratic_block):
    class Far(Coordinate):
        @torch.no_grad()
        def prepare(self, closure):
            (p,) = self.param_groups[0]["params"]
            x = p.clone()
            p.fill_(1e200)
            self.coefficients = 0 * closure()[:, None].nan_to_num(posinf=0.0)
            p.copy_(x)

    block = quadratic_block(Far)
    block.advance(3)
    assert block.oracle.watch.found().tolist() == [1] * 2 * K


COMPUTING = ("beer", "gradient_tracking", "gt_hsgd", "gt_sarah", "push_diging", "push_pull", "sam")


@pytest.mark.parametrize("strategy", [name for name in STEPPED if not name.startswith("subspace_")])
@pytest.mark.parametrize("kind", [Coordinate, Own])
def test_strategies_that_compute_with_gradients_are_refused(make_setup, strategy, kind):
    topology = {"name": "path" if strategy == "relay" else "complete", "agents": K, "policy": "lazy"}
    if strategy in ("push_sum", "push_diging"):
        topology["policy"] = "push"
    keys = {"optimizer": kind, "strategy": strategy, "topology": topology}
    if strategy in COMPUTING:
        with pytest.raises(ExperimentError, match=rf"{strategy} cannot .*: it computes with gradie"):
            make_setup(**keys)
    elif kind is Own and strategy == "centralized":
        with pytest.raises(ExperimentError, match=r"it mixes the agents' coefficients.*optimizer\.shared=true"):
            make_setup(**keys)
    else:
        make_setup(**keys)


class Delayed:
    """Adapts with the gradient of the step before."""

    def step(self, block):
        g = block.memory.get("g", None)
        block.memory["g"] = block.gradients()
        block.adapt(block.memory["g"] if g is None else g)


class Unsaid(Delayed):
    traits = None


class Adrift(Extragradient):
    @torch.no_grad()
    def prepare(self, closure):
        super().prepare(closure)
        self.param_groups[0]["params"][0].mul_(1 + 1e-6)


class Silent(Extragradient):
    traits = OptimizerTraits(stacked="flat")


class Untyped(Extragradient):
    traits = "flat"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"optimizer": Coordinate, "strategy": Delayed()}, "something other than what gradients"),
        ({"optimizer": Adrift}, "its prepare does not leave the parameters as they were"),
        (
            {"optimizer": Silent},
            "^optimizer: .*Silent cannot work: an optimizer with a method prepare, ",
        ),
        ({"optimizer": Untyped}, "^optimizer: .*Untyped cannot work: traits must be OptimizerTraits, got 'flat'$"),
        ({"strategy": Unsaid()}, "^strategy: .*Unsaid.*: traits must be StrategyTraits, got None"),
    ],
)
def test_what_cannot_be_right_is_refused(make_setup, keys, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**keys)
