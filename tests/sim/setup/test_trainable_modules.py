"""Every type of model, on every engine: it trains and is measured as by plain torch, or is refused before the run."""

import pytest
import torch
from torch import nn

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import load_vector
from basinet.sim.agents.worker import Worker
from basinet.sim.engines import ENGINES
from basinet.sim.engines.randomness import KeyedDropout, seeded
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.models.modules import move_model
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks.model_outputs import output_of
from tests.module_types import CLASSES, MODULE_TYPES, WIDTH, ModuleType

STEPS, RATE, MOMENTUM = 3, 0.1, 0.9

REFUSED = {
    "complex": r"the parameter weight of its layer head \(Linear\) is complex; allowed are real numbers",
    "complex_buffer": r"the buffer turns of its layer 1 \(Tanh\) is complex",
    "detached": "the loss does not depend on its parameters",
    "growing_buffer": r"ValueError: the buffer seen has the shape \[1\] before a pass and \[2\] after it",
    "holding_hook": "a copy of it computes with the parameter scale of the original module",
    "meta": r"the parameter weight of its outermost layer \(Linear\) has no values",
    "not_a_number": "cannot be trained from its start: the loss on the first samples is not finite",
    "object_output": "returns a SimpleNamespace, .*; wanted are the outputs of all samples, in a tensor or a nest",
    "parameter_hook": r"the parameter weight of its layer 0 \(Linear\) has a hook",
    "raising": r"in its outermost layer \(Raising\) KeyError: 'scale' \(.*module_types.py:\d+\)",
    "remembering": "after a pass, the loss differs from that of a fresh copy of the model",
    "root_of_zero": "cannot be trained from its start: the gradient of head.weight .* is not finite",
    "script": r"its outermost layer \(RecursiveScriptModule\) is compiled by torch.jit",
    "trace": r"its outermost layer \(TopLevelTracedModule\) is compiled by torch.jit",
    "uncopied": r"its outermost layer \(Uncopied\) cannot be copied for the agents \(TypeError: this model holds",
    "written_anew": "after a pass, the parameter head.weight differs from that of a fresh copy of the model",
}
"""Which types cannot be trained, and why."""

NOT_MAPPED = {
    "backward_hook": "the gradient differs from the loop's",
    "branching": "data-dependent control flow",
    "dropout_lstm": "draws from the global generators",
    "gru": "Batching rule not implemented",
    "hooked_spectral_norm": "Batching rule not implemented",
    "lstm": "Batching rule not implemented",
    "opaque": "setup_context",
    "padded_embedding": "the gradient differs from the loop's",
    "rnn": "Batching rule not implemented",
    "sparse_embedding": "sparse",
    "sparse_embedding_bag": "Sparse",
    "spectral_norm": "Batching rule not implemented",
    "two_way_lstm": "Batching rule not implemented",
    "written_in_place": "under vmap",
}
"""Which of the others torch cannot map over the agents."""

NOT_STACKED = {
    "backward_hook": "is differentiated by an autograd.Function: BackwardHookFunctionBackward",
    "branching": "depends on values of tensors: bool",
    "dropout_lstm": "draws from the global generators",
    "hooked_spectral_norm": "writes into a tensor that it sees in another place",
    "max_norm_embedding": "writes into a tensor that it sees in another place",
    "opaque": "is differentiated by an autograd.Function: OnceDifferentiableBackward",
    "shared_buffer": "uses the buffer first.running_mean after it has written it",
    "sparse_embedding_bag": "Sparse",
    "spectral_norm": "writes into a tensor that it sees in another place",
    "written_in_place": "writes into a tensor that it sees in another place",
}
"""Which of the others cannot be recorded for all agents."""


def build(kind: ModuleType, agents: int = 4, trial: bool = True, **keys) -> Setup:
    return build_setup(
        Config.parse({
            "task": kind.data(),
            "model": kind.make,
            "topology": {"name": "ring" if agents > 1 else "complete", "agents": agents},
            "strategy": "diffusion",
            "optimizer": {"name": "sgd", "lr": RATE, "momentum": MOMENTUM},
            "batch_size": 4,
            "steps": STEPS,
            "replicas": 1,
            "analysis": [],
            "runtime": {"dtype": "float64", "device": "cpu"},
            **keys,
        }),
        trial=trial,
    )  # fmt: skip


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def plain_training(setup: Setup, worker: Worker) -> list[nn.Module]:
    """Train a module an agent by torch's SGD, and mix their parameters after each step."""
    block, weights = worker.block, torch.from_numpy(setup.weights.toarray())
    rows = [(x.clone(), {name: b[n].clone() for name, b in block.state.buffers.items()}) for n, x in enumerate(block.x)]
    models = [load_vector(move_model(setup.template(), "cpu", torch.float64), *row).train() for row in rows]
    trained = [[p for p in model.parameters() if p.requires_grad] for model in models]
    optimizers = [torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM) for parameters in trained]
    for step in range(STEPS):
        inputs, targets = block.oracle.sampler.batch(step)
        for n, model in enumerate(models):
            key = block.keys("model")[n]
            optimizers[n].zero_grad()
            with seeded(int(key)), KeyedDropout(key):
                nn.functional.cross_entropy(output_of(model(inputs[n].clone())), targets[n]).backward()
            for p in trained[n]:
                p.grad = None if p.grad is None else p.grad.to_dense()  # torch's momentum wants dense ones
            optimizers[n].step()
        mixed = weights @ torch.stack([vector(model) for model in models])
        for parameters, row in zip(trained, mixed, strict=True):
            torch.nn.utils.vector_to_parameters(row, parameters)
        block.step += 1
    block.step = 0
    return models


def plain_measurement(setup: Setup, models: list[nn.Module]) -> dict[str, float]:
    """Measure the mean of some models by one pass over all samples."""
    held = [dict(model.named_buffers()) for model in models]
    means = {name: torch.stack([b[name].double() for b in held]).mean(0).to(held[0][name]) for name in held[0]}
    model = load_vector(
        move_model(setup.template(), "cpu", torch.float64),
        torch.stack([vector(model) for model in models]).mean(0),
        means,
    )
    inputs, targets = setup.task.train
    loss = nn.functional.cross_entropy(output_of(model.eval()(inputs.clone())), targets)
    loss.backward()
    squares = [p.grad.to_dense().square().sum() for p in model.parameters() if p.grad is not None]
    return {"train_loss": loss.item(), "gradient_norm": torch.stack(squares).sum().sqrt().item()}


def check(setup: Setup, engine: str) -> None:
    """Train and measure with an engine, and by plain torch."""
    worker = Worker(setup, Placement.split(1, setup.num_agents), engine)
    models = plain_training(setup, worker)
    worker.advance(STEPS)
    found, buffers = worker.block.x.detach().clone(), worker.block.state.buffers
    torch.testing.assert_close(found, torch.stack([vector(model) for model in models]), rtol=0, atol=1e-10)
    for n, model in enumerate(models):
        for name, b in model.named_buffers():
            torch.testing.assert_close(buffers[name][n].double(), b.double(), rtol=0, atol=1e-10)
    (row,), diverged = worker.measure()
    assert not diverged
    for name, value in plain_measurement(setup, models).items():
        assert row[name] == pytest.approx(value, rel=0, abs=1e-10), name
    assert torch.equal(worker.block.x, found)  # it measured a copy


# Those that write into their inputs are the matter of tasks.
@pytest.mark.parametrize("name", [name for name in MODULE_TYPES if name not in {*REFUSED, "writes_input"}])
def test_it_trains_and_is_measured_as_by_plain_torch(name):
    kind = MODULE_TYPES[name]
    setup = build(kind)
    check(build(kind, agents=1, trial=False), "loop")
    for engine in ENGINES:
        wrong = {"vectorized": NOT_MAPPED, "stacked": NOT_STACKED}.get(engine, {}).get(name)
        if wrong is None:
            check(setup, engine)
        else:
            with pytest.raises(ValueError, match=wrong):
                Worker(setup, Placement.split(1, 4), engine)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_cannot_be_trained_is_refused_with_the_layer(name):
    with pytest.raises(ExperimentError, match=f"^model: .*{REFUSED[name]}") as error:
        build(MODULE_TYPES[name])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "engine"), [("lstm", "vectorized"), ("branching", "stacked")])
def test_an_engine_that_is_asked_for_and_cannot_is_refused(name, engine):
    with pytest.raises(ExperimentError, match=f"^runtime.engine: {engine} cannot run .*: .") as error:
        build(MODULE_TYPES[name], runtime={"engine": engine, "device": "cpu"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("engine", ["stacked", "vectorized"])
def test_an_engine_that_is_asked_for_is_tried_on_batches_of_the_run(engine):
    class Late(nn.Linear):
        """Depends on values if there are more samples than a rehearsal needs."""

        def __init__(self):
            super().__init__(WIDTH, CLASSES)

        def forward(self, x):
            return super().forward(x) * (float(x.sum().sign()) if len(x) > 2 else 1.0)

    with pytest.raises(ExperimentError, match=f"^runtime.engine: {engine} cannot run .*Late: .") as error:
        build(ModuleType(Late), runtime={"engine": engine, "device": "cpu"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lazy", "lazy_norm", "hooks", "tied", "half", "recording"])
def test_a_module_that_is_given_ready_stays_as_it_is(name):
    kind = MODULE_TYPES[name]
    torch.manual_seed(0)
    module = kind.make()
    shapes = [type(p) for p in module.parameters()], list(module.state_dict())
    check(build(kind, model=module), "loop")
    assert ([type(p) for p in module.parameters()], list(module.state_dict())) == shapes
    assert all(p.grad is None for p in module.parameters())


def test_lazy_layers_start_each_replica_at_other_values():
    setup = build(MODULE_TYPES["lazy"], replicas=2)
    first, second = Worker(setup, Placement.split(2, 4), "loop").block.x[::4]
    assert not torch.isclose(first, second).any()
    again = Worker(build(MODULE_TYPES["lazy"]), Placement.split(1, 4), "loop").block.x[0]
    assert torch.equal(first, again)


def test_batch_normalization_needs_two_samples():
    with pytest.raises(ExperimentError, match=r"1 at a time: in its layer 1 \(BatchNorm1d\) ValueError: Expected more"):
        build(MODULE_TYPES["batch_norm"], batch_size=1)
    check(build(MODULE_TYPES["layer_norm"], batch_size=1), "stacked")


def test_inputs_may_require_gradients():
    kind = MODULE_TYPES["mlp"]
    inputs, targets = kind.data()
    inputs.requires_grad_()
    for engine in ENGINES:
        check(build(kind, task=(inputs, targets)), engine)
    assert inputs.grad is None


def test_evaluation_in_its_own_mode_differentiates_recurrent_layers():
    """Dropout between recurrent layers is off, although cuDNN wants these in training mode."""
    setup = build(MODULE_TYPES["dropout_lstm"])
    worker = Worker(setup, Placement.split(1, 4), "loop")
    worker.measure()
    layer = worker.model.layer
    assert layer.training and layer.dropout == 0 and not worker.model.training
