"""Batched gradients equal a loop of autograd over the agents, for every built-in model, in float64."""

import copy
import gc
import itertools
import random
import re
import time

import numpy as np
import pytest
import torch
from torch import nn

from basinet.algorithms import draws
from basinet.sim import engines
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState, instantiate, load_vector
from basinet.sim.data.generators import generator_states
from basinet.sim.engines import ENGINES, make_engine
from basinet.sim.engines.randomness import KeyedDropout, keyed_dropout, seeded
from basinet.sim.models import CNN, MLP, Linear, Point, Softmax
from basinet.sim.setup.sharing import Shared
from basinet.sim.tasks import digits, supervised

N, B = 3, 5
CPU = torch.device("cpu")

MODELS = {
    "mlp": lambda: MLP((1, 8, 8), 10, hidden=(12, 7)),
    "mlp-tanh-layer-norm": lambda: MLP((1, 8, 8), 10, hidden=(12,), activation="tanh", norm="layer"),
    "mlp-batch-norm": lambda: MLP((1, 8, 8), 10, hidden=(12,), norm="batch"),
    "mlp-dropout": lambda: MLP((1, 8, 8), 10, hidden=(12, 7), dropout=0.4),
    "softmax": lambda: Softmax((1, 8, 8), 10),
    "linear": lambda: Linear((1, 8, 8), 10),
    "cnn": lambda: CNN((1, 8, 8), 10, channels=(4, 6)),
    "cnn-batch-norm": lambda: CNN((1, 8, 8), 10, channels=(4, 6), norm="batch"),
    "cnn-group-norm-dropout": lambda: CNN((1, 8, 8), 10, channels=(4, 8), norm="group", dropout=0.3),
}


@pytest.fixture(scope="module")
def task():
    return digits().to("cpu", torch.float64)


def make_state(model, seed=0):
    """A state whose agents all differ."""
    state = StackedState(model, N, CPU, torch.float64)
    state.fill(slice(None), model)
    generator = torch.Generator().manual_seed(seed)
    state.parameters += 0.1 * torch.randn(state.parameters.shape, generator=generator, dtype=torch.float64)
    return state


def reference(model, task, state, batch, keys):
    """Plain modules, plain autograd, one agent at a time."""
    gradients, losses, buffers = [], [], []
    for n in range(N):
        agent = copy.deepcopy(model).train()
        load_vector(agent, state.parameters[n], {name: b[n] for name, b in state.buffers.items()})
        with KeyedDropout(keys[n]):
            loss = nn.functional.cross_entropy(agent(batch[0][n]), batch[1][n])
        loss.backward()
        gradients.append(
            torch.cat(
                [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in agent.parameters()]
            )
        )
        losses.append(loss.detach())
        buffers.append({name: b.clone() for name, b in agent.named_buffers()})
    return torch.stack(gradients), torch.stack(losses), buffers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_a_loop_of_autograd(name, engine, task):
    torch.manual_seed(1)
    model = MODELS[name]().double()
    state = make_state(model)
    picks = torch.arange(N * B).view(N, B) * 7
    batch = tuple(t[picks] for t in task.train)
    keys = torch.arange(N) + 11
    runner = ENGINES[engine](model, task, state)
    for _ in range(2):  # twice: nothing of the first pass may leak into the second
        expected, losses, buffers = reference(model, task, state, batch, keys)
        before = {name: b.clone() for name, b in state.buffers.items()}
        for verb in ("losses", "gradients"):
            for buffer, value in before.items():
                state.buffers[buffer].copy_(value)
            found = getattr(runner, verb)(batch, keys)
            torch.testing.assert_close(found, losses, rtol=1e-12, atol=1e-13)
            for n, expected_buffers in enumerate(buffers):
                for buffer, value in expected_buffers.items():
                    torch.testing.assert_close(state.buffers[buffer][n], value, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(state.gradients, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_keep_no_activations_and_leave_the_gradients(engine, task):
    model = MODELS["mlp-tanh-layer-norm"]().double()
    state = make_state(model)
    state.gradients.fill_(7.0)
    runner = ENGINES[engine](model, task, state)
    batch, keys = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train), torch.arange(N)
    gc.collect()
    held = {id(o) for o in gc.get_objects() if issubclass(type(o), torch.Tensor)}
    losses = runner.losses(batch, keys)
    gc.collect()
    new = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor) and id(o) not in held and o is not losses]
    assert not losses.requires_grad and losses.grad_fn is None
    assert all(o.untyped_storage().data_ptr() in _places(state, batch) for o in new if o.numel() > 1), new
    assert (state.gradients == 7.0).all()


def _places(state, batch):
    """Where memory is that was there before."""
    return {t.untyped_storage().data_ptr() for t in (state.parameters, state.gradients, *batch)}


def tried(engine, why):
    """Which engines have been found able; the one that is taken was the quickest in the trial."""
    times = {name: float(time) for name, time in re.findall(r"(\w+) ([\d.]+) ms", why)}
    assert times[engine.name] == min(times.values()), why
    return set(times)


@pytest.mark.parametrize("verb", ["gradients", "losses"])
def test_a_loss_without_derivative_can_be_evaluated(verb, task):
    class Errors(type(task)):
        """The share of errors: its slope is zero, or none at all."""

        def loss(self, outputs, batch):
            return (outputs.argmax(-1) != batch[1]).double()

    own = Errors(train=task.train, test=None, num_outputs=10)
    model = MODELS["mlp"]().double()
    state = make_state(model)
    if verb == "gradients":
        with pytest.raises(RuntimeError, match="does not require grad"):
            make_engine("auto", model, own, state, B, verb=verb)
        return
    engine, why, _ = make_engine("auto", model, own, state, B, verb=verb)
    assert "stacked" in tried(engine, why)
    batch = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train)
    for n, loss in enumerate(engine.losses(batch, torch.arange(N))):
        agent = load_vector(copy.deepcopy(model), state.parameters[n], {})
        assert float(loss) == float((agent(batch[0][n]).argmax(-1) != batch[1][n]).double().mean())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_point_has_the_gradient_of_its_landscape(engine):
    from basinet.sim.tasks import quadratic

    task = quadratic(num_agents=N).to("cpu", torch.float64)
    model = Point(task.num_outputs).double()
    state = make_state(model)
    batch = task.draw(torch.arange(N), torch.arange(N), B, torch.float64)
    ENGINES[engine](model, task, state).gradients(batch, torch.arange(N))
    for n in range(N):
        expected = task.hessian.to(torch.float64) @ (state.parameters[n] - task.minimum) + batch[1][n].mean(0)
        torch.testing.assert_close(state.gradients[n], expected, rtol=1e-12, atol=1e-12)


def test_views_are_the_state_itself():
    state = StackedState(MODELS["mlp"](), N, CPU, torch.float64)
    for name, view in state.parameter_views.items():
        assert view.untyped_storage().data_ptr() == state.parameters.untyped_storage().data_ptr()
        gradient = state.gradient_views[name]
        assert gradient.untyped_storage().data_ptr() == state.gradients.untyped_storage().data_ptr()
    assert state.parameters.is_contiguous()
    assert sum(v[0].numel() for v in state.parameter_views.values()) == state.parameters.shape[1]


def test_frozen_parameters_are_no_agents_own(task):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)).double()
    model[1].weight.requires_grad_(False)
    state = make_state(model)
    assert list(state.parameter_views) == ["1.bias", "3.weight", "3.bias"]
    batch = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train)
    for engine in ENGINES:
        ENGINES[engine](model, task, state).gradients(batch, torch.arange(N))
        for n in range(N):
            agent = load_vector(copy.deepcopy(model), state.parameters[n], {})
            nn.functional.cross_entropy(agent(batch[0][n]), batch[1][n]).backward()
            flat = torch.cat([p.grad.flatten() for p in agent.parameters() if p.requires_grad])
            torch.testing.assert_close(state.gradients[n], flat, rtol=1e-12, atol=1e-13)


class Alone(nn.Module):
    """Does something else with a sample that is alone in its batch."""

    def __init__(self, function):
        super().__init__()
        self.flat, self.first, self.last = nn.Flatten(), nn.Linear(64, 7), nn.Linear(7, 10)
        self.norm, self.dropout, self.function = nn.BatchNorm1d(7, eps=1.0), nn.Dropout(0.4), function
        self.register_buffer("seen", torch.zeros(7))

    def forward(self, x):
        y = self.first(self.flat(x))
        self.seen.add_(y.detach().sum(0))
        y = self.dropout(self.norm(y) if len(x) > 1 else torch.tanh(y))
        return self.last(self.function(y) if len(x) == 1 else y)


ALONE = {
    "value": lambda y: y * float(y.detach().sum().sign()),
    "number": lambda y: y + torch.tensor([y.detach().sum()]),
    "mask": lambda y: y * (1 + len(y[y > 0])),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["stacked", "vectorized"])
@pytest.mark.parametrize("name", ALONE)
def test_batches_that_an_engine_cannot_run_are_left_to_the_loop(name, kind, threads, task, monkeypatch, caplog):
    monkeypatch.setattr(time, "process_time", itertools.count().__next__)  # a pass seems to take a second
    agents = 33
    model = Alone(ALONE[name]).double()
    found = []
    for engine_kind in (kind, "loop"):
        state = StackedState(model, agents, CPU, torch.float64)
        state.fill(slice(None), model)
        state.parameters += 0.1 * torch.randn(
            state.parameters.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        engine, _, _ = make_engine(engine_kind, model, task, state, B, threads)
        assert engine.name == engine_kind
        for size in (B, 1, B, 1):
            batch = tuple(t[torch.arange(agents * size).view(agents, size)] for t in task.train)
            found.append([engine.losses(batch, torch.arange(agents)), engine.gradients(batch, torch.arange(agents))])
            found[-1] += [state.gradients.clone(), *(b.clone() for b in state.buffers.values())]
    for mine, wanted in zip(found[:4], found[4:], strict=True):
        for a, b in zip(mine, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert f"engine {kind}: the loop runs batches of 1: " in caplog.text


@pytest.mark.parametrize("engine", ["stacked", "vectorized"])
def test_an_error_of_the_model_is_the_models_own(engine, task):
    def fail(y):
        raise KeyError("alone")

    model = Alone(fail).double()
    runner, _, _ = make_engine(engine, model, task, make_state(model), B)
    with pytest.raises(KeyError, match="alone"):
        runner.gradients(tuple(t[torch.arange(N).view(N, 1)] for t in task.train), torch.arange(N))


class Noisy(nn.Module):
    """Adds noise to its inputs, and leaves its layer out at random."""

    def __init__(self, noise):
        super().__init__()
        self.layer, self.noise = nn.Linear(64, 10), noise

    def forward(self, x):
        x = x.flatten(1)
        return self.layer(x + 0.1 * self.noise(x))


NOISE = {
    "torch": torch.randn_like,
    "numpy": lambda x: torch.from_numpy(np.random.randn(*x.shape)),  # noqa: NPY002
    "python": lambda x: random.random() * x.sin(),
    "distributions": lambda x: torch.distributions.Normal(0.0, 1.0).sample(x.shape).to(x),
}


@pytest.mark.parametrize("place", ["model", "loss"])
@pytest.mark.parametrize("name", NOISE)
def test_what_draws_from_global_generators_is_looped_and_keyed(name, place, task):
    class NoisyLoss(type(task)):
        def loss(self, outputs, batch):
            return super().loss(outputs + 0.1 * NOISE[name](outputs.detach()), batch)

    model = (Noisy(NOISE[name]) if place == "model" else Softmax((1, 8, 8), 10)).double()
    task = NoisyLoss(train=task.train, num_outputs=10) if place == "loss" else task
    state = make_state(model)
    engine, why, _ = make_engine("auto", model, task, state, B)
    assert engine.name == "loop" and engine.needs_keys and why.count("draws from the global generators") == 2
    batch = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train)
    before = generator_states()
    first = engine.gradients(batch, torch.arange(N))
    assert generator_states() == before
    random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    assert torch.equal(engine.gradients(batch, torch.arange(N)), first)
    assert not torch.equal(engine.gradients(batch, torch.arange(N) + 1), first)


@pytest.mark.parametrize("draw", [torch.rand, np.random.rand, lambda n: [random.random() for _ in range(n)]])
def test_initial_values_are_keyed_whatever_draws_them(draw):
    def make():
        layer = nn.Linear(3, 1)
        layer.weight.data.copy_(torch.as_tensor(draw(3)))
        return layer

    before = generator_states()
    first = instantiate(make, 1).weight
    assert generator_states() == before
    random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    assert torch.equal(instantiate(make, 1).weight, first)
    assert not torch.equal(instantiate(make, 2).weight, first)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_of_its_own_is_differentiated(engine, task):
    class Penalised(type(task)):
        def objective(self, model, batch):
            return super().objective(model, batch) ** 2

    own = Penalised(train=task.train, test=None, num_outputs=10)
    model = Softmax((1, 8, 8), 10).double()
    state = make_state(model)
    batch, keys = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train), torch.arange(N)
    found = ENGINES[engine](model, own, state).gradients(batch, keys)
    gradients, losses, _ = reference(model, task, state, batch, keys)
    torch.testing.assert_close(found, losses**2, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(state.gradients, 2 * losses[:, None] * gradients, rtol=1e-12, atol=1e-13)


def test_the_choice_leaves_the_state_alone(task):
    model = MODELS["mlp"]().double()
    state = make_state(model)
    before = state.parameters.clone()
    engine, why, _ = make_engine("auto", model, task, state, B)
    assert torch.equal(state.parameters, before)
    assert tried(engine, why) == {"loop", "stacked"} and "ms a step" in why


def test_dropout_masks_are_each_agents_own_and_unbiased():
    keys = draws.agent_keys(0, "model", torch.zeros(4, dtype=torch.int64), torch.arange(4))
    x = torch.ones(4, 50, 200)
    y = keyed_dropout(x, 0.25, keys)
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert not torch.equal(y[0], y[1])
    # 40,000 draws: the kept share is 0.75 ± 0.0022; five standard errors
    assert abs(float((y > 0).double().mean()) - 0.75) < 5 * (0.75 * 0.25 / 40_000) ** 0.5


def test_regression_targets_run_on_all_engines():
    x = torch.randn(20, 3, dtype=torch.float64)
    task = supervised((x, x.sum(1, keepdim=True)))
    model = Linear((3,), 1).double()
    state = make_state(model)
    batch = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train)
    found = []
    for engine in ENGINES.values():
        engine(model, task, state).gradients(batch, torch.arange(N))
        found.append(state.gradients.clone())
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


class Doubled(nn.Linear):
    """A layer that is no plain linear one."""

    def forward(self, x):
        return 2 * super().forward(x)


class Counter(nn.Module):
    """Puts another tensor in the place of a buffer at each pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + x.mean().detach()
        return self.layer(x + self.mean)


def hooked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_forward_hook(lambda module, inputs, output: 3 * output)
    return model


ODD = {
    "subclass": lambda: nn.Sequential(nn.Flatten(), Doubled(64, 10)),
    "hook": hooked,
    "parametrized": lambda: nn.Sequential(nn.Flatten(), parametrized(nn.Linear(64, 10))),
    "root": lambda: nn.Sequential(nn.Flatten(), nn.Bilinear(1, 1, 1, bias=False), nn.Linear(64, 10))[::2],
    "own forward": lambda: own_forward(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
    "buffer put in place": Counter,
}


def parametrized(layer):
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Tanh())
    return layer


def own_forward(model):
    plain = model.forward
    model.forward = lambda x: -plain(x)
    return model


@pytest.mark.parametrize("name", ODD)
def test_an_odd_model_is_run_as_it_is(name, task):
    torch.manual_seed(1)
    model = ODD[name]().double()
    state = make_state(model)
    picks = torch.arange(N * B).view(N, B) * 7
    batch = tuple(t[picks] for t in task.train)
    engine, why, _ = make_engine("auto", model, task, state, B)
    assert ("stacked" in tried(engine, why)) == (name not in ("buffer put in place", "own forward")), why
    for _ in range(2):
        expected, losses, buffers = reference(model, task, state, batch, torch.arange(N))
        found = engine.gradients(batch, torch.arange(N))
        torch.testing.assert_close(state.gradients, expected, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(found, losses, rtol=1e-12, atol=1e-13)
        for n, wanted in enumerate(buffers):
            for buffer, value in wanted.items():
                torch.testing.assert_close(state.buffers[buffer][n], value, rtol=1e-12, atol=1e-13)


def test_an_engine_that_errs_is_refused(task):
    model = Counter().double()
    with pytest.raises(ValueError, match="differs from the loop's"):
        make_engine("vectorized", model, task, make_state(model), B)


SHARED = {
    **{name: MODELS[name] for name in ("cnn", "mlp-dropout", "mlp-batch-norm")},
    "silu": lambda: MLP((1, 8, 8), 10, hidden=(7,), activation="silu"),
    "attention": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 5, 0.0, batch_first=True), nn.Flatten(), nn.Linear(64, 10)
    ),
    "recurrent": lambda: nn.Sequential(nn.Flatten(1, 2), nn.GRU(8, 3, batch_first=True), Last(), nn.Linear(3, 10)),
}


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def forward(self, outputs):
        return outputs[0][:, -1]


@pytest.mark.parametrize("name", SHARED)
def test_the_number_of_threads_changes_nothing(name, task, monkeypatch):
    monkeypatch.setattr(time, "process_time", itertools.count().__next__)  # a pass seems to take a second
    task = task.to("cpu", torch.float32)
    torch.manual_seed(1)
    kind, agents = ("loop", 5) if name == "cnn" else ("stacked", 101)
    model = SHARED[name]()
    picks = torch.arange(agents * 3).view(agents, 3)
    batch, keys = tuple(t[picks] for t in task.train), torch.arange(agents)
    found = []
    for threads in (1, 2, 3):
        state = StackedState(model, agents, CPU, torch.float32)
        state.fill(slice(None), model)
        engine, why, _ = make_engine(kind, model, task, state, 3, threads)
        assert (f"{threads} threads" in why) == (threads > 1)
        for _ in range(2):  # the second time from where the parameters have moved to
            evaluated = engine.losses(batch, keys)
            losses = engine.gradients(batch, keys)
            moved = state.parameters - 0.1 * state.gradients
            state.exchange(state.parameters, moved)
        found.append([losses, evaluated, state.parameters, state.gradients, *state.buffers.values()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_pass_of_one_part_does_not_mind_what_another_writes():
    model = nn.BatchNorm1d(3)
    state = StackedState(model, 4, CPU, torch.float32)
    state.fill(slice(None), model)
    first, second = state.part(slice(0, 2)), state.part(slice(2, 4))
    x = torch.rand(5, 6, requires_grad=True)
    statistics = first.buffers["running_mean"].view(-1), first.buffers["running_var"].view(-1)
    y = nn.functional.batch_norm(x, *statistics, training=True)
    second.buffers["running_mean"].fill_(7)
    y.square().sum().backward()
    assert state.buffers["running_mean"][2:].eq(7).all() and state.buffers["running_mean"][:2].ne(0).all()


def test_autocast_computes_in_a_shorter_type(task):
    task = task.to("cpu", torch.float32)
    torch.manual_seed(1)
    model = MODELS["cnn-batch-norm"]()
    batch = tuple(t[torch.arange(N * B).view(N, B)] for t in task.train)
    found = {}
    for autocast in (None, torch.bfloat16):
        for kind in ("vectorized", "loop"):
            state = StackedState(model, N, CPU, torch.float32, autocast)
            state.fill(slice(None), model)
            engine, _, _ = make_engine(kind, model, task, state, B)
            engine.gradients(batch, torch.arange(N))
            found[kind, autocast] = state.gradients / state.gradients.norm()
    exact = found["loop", None]
    torch.testing.assert_close(found["vectorized", None], exact, rtol=1e-3, atol=1e-5)
    for kind in ("vectorized", "loop"):
        assert 1e-5 < (found[kind, torch.bfloat16] - exact).norm() < 0.2
    with pytest.raises(ValueError, match="compute in the type of the parameters"):
        make_engine("stacked", MODELS["mlp"](), task, state, B)


@pytest.mark.parametrize("quick", [0, 8])  # looks at the clock: the loop's two passes are slow, or its four are not
def test_a_trial_compares_the_first_pass(task, monkeypatch, quick):
    seconds = itertools.chain(itertools.repeat(0, quick), range(0, 40, 10), itertools.repeat(40))
    monkeypatch.setattr(time, "process_time", seconds.__next__)
    model = MODELS["mlp-batch-norm"]().double()
    engine, _, _ = make_engine("stacked", model, task, make_state(model), B)
    assert engine.name == "stacked"


@pytest.mark.parametrize("name", ["mlp-dropout", "attention"])
def test_an_engine_leaves_no_cycle_behind(name, task):
    import weakref

    model = SHARED[name]().double()
    state = make_state(model)
    gc.collect()
    gc.disable()
    try:
        engine, _, _ = make_engine("auto", model, task, state, B)
        engine.gradients(tuple(t[torch.arange(N * B).view(N, B)] for t in task.train), torch.arange(N))
        gone = weakref.ref(state)
        del engine, state
        assert gone() is None
    finally:
        gc.enable()


def test_seeds_are_those_of_the_gpus_too_where_there_are_any(monkeypatch):
    """Else torch keeps each of them, with a traceback, until a GPU is used."""
    kept = []
    for device in (torch.cuda, torch.xpu, torch.mtia):
        monkeypatch.setattr(device, "manual_seed_all", kept.append)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    with seeded(7):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(instantiate(lambda: nn.ParameterList([torch.rand(3)]), 7)[0], expected)
    assert bool(kept) == torch.accelerator.is_available()


def test_runs_that_share_model_task_and_sizes_try_engines_once(make_setup, monkeypatch):
    choose, tried = engines._choose, []
    monkeypatch.setattr(engines, "_choose", lambda *parts, **timed: tried.append(parts[4]) or choose(*parts, **timed))
    shared = Shared()
    for keys in (
        {},
        {"strategy": "consensus"},
        {"optimizer": "adam", "replicas": 2},
        {"batch_size": 3},  # other sizes, initial values and models are another matter
        {"topology": {"name": "ring", "agents": 3}},
        {"seed": 1},
        {"model": "softmax"},
    ):
        setup = make_setup(shared=shared, trial=False, **keys)
        Block(setup, Placement.split(2, setup.num_agents), CPU)
    assert tried == [5, 3, 5, 5, 5]
