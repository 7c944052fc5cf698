"""A rehearsal of a run: a few agents take a pass, a step and an evaluation on a few samples, on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn, TypeVar

import networkx as nx
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from basinet.sim.agents.averages import Averages
from basinet.sim.agents.state import load_vector
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import first, length, take
from basinet.sim.engines import Verb
from basinet.sim.engines.loop import LoopEngine
from basinet.sim.engines.randomness import KeyedDropout, seeded
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import complaint, in_words, nearest, place_of
from basinet.sim.faults import LinkRounding
from basinet.sim.models.hidden_state import hidden_state
from basinet.sim.models.model import MODELS
from basinet.sim.models.modules import copy_model, layer_at_fault, materialize, move_model, writes
from basinet.sim.run.records import Row
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup.blame import owner
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.trainable import trainable
from basinet.sim.tasks import Batch
from basinet.sim.tasks.calls import asked, inputs_in_words, takes_all

__all__ = ["rehearse", "rows_sent", "try_data", "try_model", "with_few"]

T = TypeVar("T")

_FEW = 2
"""Number of agents, and of samples of each."""

_PASSES = 3
"""Number of passes of the same batch, after the last but one of which nothing may change but parameters and buffers."""

_DATA = {"train", "test", "columns", "metrics", "ignores", "outputs_per_sample", "sizes"}
"""Attributes of a task that no loss changes."""


def try_model(setup: Setup, verb: Verb) -> None:
    """Compare two agents that share one module in turn with two that have a module each.

    Args:
        setup: The parts of the run.
        verb: What the steps call of the engine.

    Raises:
        ExperimentError: The model cannot be trained on the task, or not in turn; the message is one sentence.
    """
    config, task, component = setup.config, setup.task, setup.model_component
    with seeded(0):
        source: nn.Module = component.make(**task.model_arguments, seed=config.seed)
        made = materialize(copy_model(source), task.outputs, take(task.train, slice(0, _FEW)))
        model = trainable(config, made)
    model = move_model(model, "cpu", setup.dtype)
    if not any(p.requires_grad for p in model.parameters()):
        raise ExperimentError(f"model: {component.name} has no parameters to train")
    state = setup.state(model, _FEW, torch.device("cpu"))
    state.fill(slice(None), _with_known_start(setup).start(0, setup.layout(setup.template())))
    state.parameters[1:].mul_(1.01).add_(0.001)  # so that swapped values would be noticed
    picks = torch.arange(_FEW * min(_FEW, config.part_size)).view(_FEW, -1) % length(task.train)
    batch, keys = take(task.train, picks), torch.arange(_FEW)
    expected = []
    for n in range(_FEW):
        own = load_vector(copy_model(model), state.parameters[n], {name: b[n] for name, b in state.buffers.items()})
        expected.append(_pass(setup, own.train(), source, map_nest(torch.clone, take(batch, n)), keys[n], verb))
    _check_finite(component.name, expected[0])
    try:
        found = {"loss": getattr(LoopEngine(model, task, state), verb)(batch, keys)}
    except Exception as error:
        _raise_misfit(setup, model, take(batch, 0), error)
    if verb == "gradients":
        found |= {f"gradient of {name}": g for name, g in state.gradient_views.items()}
    found |= {f"parameter {name}": p.detach() for name, p in state.parameter_views.items()}
    found |= {f"buffer {name}": b for name, b in state.buffers.items()}
    tolerance = torch.finfo(state.parameters.dtype).eps ** 0.5
    for n, results in enumerate(expected):
        for what, wanted in results.items():
            pair = found[what][n].double(), wanted.double()
            if not torch.allclose(*pair, rtol=tolerance, atol=tolerance, equal_nan=True):
                raise ExperimentError(
                    f"model: {component.name} cannot be trained by agents who take turns with it: after a pass, the"
                    f" {what} differs from that of a fresh copy of the model; allowed are models that keep what they"
                    " need of other passes in buffers (register_buffer), and write parameters in place"
                )
    values = state.parameters[0], {name: b[0].clone() for name, b in state.buffers.items()}
    again = copy_model(model).train()
    _check_hidden_state(
        setup,
        again,
        lambda: _pass(setup, load_vector(again, *values), source, map_nest(torch.clone, take(batch, 0)), keys[0], verb),
    )


def _check_hidden_state(setup: Setup, model: nn.Module, again: Callable[[], object]) -> None:
    """Raise if a pass always changes anything but parameters and buffers, although batch and draws are the same.

    Constants that are made when they are first needed, and results that are left in attributes, do not change later.

    Args:
        setup: The parts of the run.
        model: The model.
        again: Runs a pass of it from the same parameters and buffers.

    Raises:
        ExperimentError: It does.
    """
    task = {f"task.{name}": part for name, part in vars(setup.task).items() if name not in _DATA}
    owners = {"": model, **task, "task": type(setup.task)}
    for _ in range(_PASSES):
        before = hidden_state(owners)
        again()
        changed = [path for path, value in hidden_state(owners).items() if before.get(path) != value]
        if not changed:
            return
    key, path = ("task", changed[0][5:]) if changed[0].startswith("task.") else ("model", changed[0])
    raise ExperimentError(
        f"{key}: '{path}' changes with every pass, even of the same batch, but the agents would share it and"
        " checkpoints lack it; allowed is state in buffers of the model (register_buffer), and what is the same after"
        " each pass"
    )


def _with_known_start(setup: Setup) -> Setup:
    """Return the run, with the model's own initial values if its start has not been read yet."""
    start = setup.config.start
    if start is None or start.is_read:
        return setup
    return replace(setup, config=setup.config.model_copy(update={"start": None}))


def _pass(
    setup: Setup, model: nn.Module, source: nn.Module, batch: Batch, key: Tensor, verb: Verb
) -> dict[str, Tensor]:
    """Run a pass of a fresh copy of a model; return its results."""
    name, autocast = setup.model_component.name, setup.config.runtime.autocast
    trained = {own: p for own, p in model.named_parameters() if p.requires_grad}
    foreign = {own: p for own, p in source.named_parameters() if p.requires_grad and not is_lazy(p)}
    results: dict[str, Tensor] = {}
    try:
        with (
            torch.set_grad_enabled(verb == "gradients"),
            seeded(int(key)),
            KeyedDropout(key),
            torch.autocast("cpu", getattr(torch, autocast or "bfloat16"), enabled=autocast is not None),
        ):
            loss = setup.task.objective(model, batch)
        _check_loss(setup, loss, verb)
        if verb == "gradients":
            wanted = [*trained.values(), *foreign.values()]
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
            for own, p, g in zip(trained, wanted, gradients, strict=False):
                results[f"gradient of {own}"] = torch.zeros_like(p) if g is None else g.to_dense()
            astray = [own for own, g in zip(foreign, gradients[len(trained) :], strict=True) if g is not None]
            if astray:
                raise ExperimentError(
                    f"model: {name} cannot be trained: a copy of it computes with the parameter {astray[0]} of the"
                    " original module, as happens with functions that hold a reference to a module (hooks, or a"
                    " replaced forward); allowed are methods, which are copied with it"
                )
    except ExperimentError:
        raise
    except Exception as error:
        _raise_misfit(setup, model, batch, error)
    results = {"loss": loss.detach(), **results}
    results |= {f"parameter {own}": p.detach() for own, p in trained.items()}
    return results | {f"buffer {own}": b for own, b in model.named_buffers()}


def _check_loss(setup: Setup, loss: object, verb: Verb) -> None:
    """Raise if a loss is not a number or has no gradient."""
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        got = f"{loss.dtype} {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ExperimentError(f"task: the loss must be a single number, a real tensor without dimensions, got {got}")
    if verb == "gradients" and not loss.requires_grad:
        raise ExperimentError(
            f"model: {setup.model_component.name} cannot be trained: the loss does not depend on its parameters, as"
            " far as torch can differentiate it; optimizers that need no gradient, such as mezo, do not ask for that"
        )


def _raise_misfit(setup: Setup, model: nn.Module, batch: Batch, error: Exception) -> NoReturn:
    """Explain why a model and a task do not fit together."""
    component = owner(error, setup)
    mistake = complaint(component, error) if component is setup.config.task.component else None
    if mistake is not None:
        raise mistake from error
    name = setup.model_component.name
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            outputs = setup.task.outputs(model, map_nest(torch.clone, batch))
        except Exception:  # whatever caused the original error
            outputs = batch
    if not leaves(outputs):
        raise ExperimentError(
            f"model: {name} returns a {type(outputs).__name__}, which the task's loss cannot take; wanted are the"
            " outputs of all samples, in a tensor or a nest of tensors"
        ) from error
    _check_inputs(setup, model, batch, error)
    layer, first = layer_at_fault(error), leaves(batch)[0]
    raise ExperimentError(
        f"model: {name} cannot be trained on inputs of shape {tuple(first.shape[1:])}, {length(batch)} at"
        " a time:"
        f" {f'in its {layer} ' if layer else ''}{in_words(error)}{place_of(error)}{_other_type(setup, model, batch)}"
    ) from error


def _check_inputs(setup: Setup, model: nn.Module, batch: Batch, error: Exception) -> None:
    """Raise if a model takes fewer or more inputs than the task has, or others by name."""
    task, name = setup.task, setup.model_component.name
    inputs = asked(task.outputs, model, batch)
    if not any(inputs) or takes_all(model, *inputs):  # or the task has refused the model itself
        return
    usual = MODELS.get(task.model)
    such = f", such as {task.model}" if isinstance(usual, type) and takes_all(usual, *inputs) else ""
    raise ExperimentError(
        f"model: {name} cannot take the inputs of {setup.config.task.component.name}, which are"
        f" {inputs_in_words(*inputs)}; allowed are models that take these{such}"
    ) from error


def _other_type(setup: Setup, model: nn.Module, batch: Batch) -> str:
    """Suggest a type of inputs, if a model takes them in another than theirs."""

    def takes(dtype: torch.dtype | None) -> bool:
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                setup.task.outputs(model, map_nest(lambda t: t.to(dtype or t.dtype, copy=True), batch))
        except Exception:  # the user's model may raise anything
            return False
        return True

    if takes(None):
        return ""
    wanted = next((dtype for dtype in (setup.dtype, torch.int64) if takes(dtype)), None)
    return "" if wanted is None else f"; it would take the inputs as {str(wanted).removeprefix('torch.')}"


def _check_finite(name: str, results: dict[str, Tensor]) -> None:
    """Raise if the loss or a gradient at the start is not finite."""
    for what, value in results.items():
        if not what.startswith("buffer") and not value.isfinite().all():
            raise ExperimentError(
                f"model: {name} cannot be trained from its start: the {what} on the first samples is not finite there"
            )


def try_data(setup: Setup, model: nn.Module) -> None:
    """Measure the model on two training and two test samples.

    Args:
        setup: The parts of the run.
        model: The model; not changed.

    Raises:
        ExperimentError: They cannot be measured, or are written into.
    """
    task = setup.task
    # An odd number: a loss [B, B] that is broadcast by mistake may look like outputs [B, 2] for two samples.
    tried = {name: first(data, _FEW + 1) for name, data in task.measured().items()}

    def measure(train: Batch, test: Batch | None = None) -> None:
        if not task.overrides("evaluate"):  # a user's task may measure in its own way
            replace(task, train=train, test=test).evaluate(copied)
        else:
            task.objective(copied, train)

    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copied = copy_model(model).eval()
            written = writes(measure, *tried.values())
    except Exception as error:
        _blame(setup, error)
    if written:
        raise ExperimentError(
            f"task: the loss or the metrics of {type(task).__name__} write into the batch that they are given;"
            " they must not change it, but may write into a clone"
        )


def _blame(setup: Setup, error: Exception) -> NoReturn:
    """Attribute an error to a component, if it is a user's mistake and not a defect."""
    component = owner(error, setup)
    mistake = None if component is None else complaint(component, error)
    if mistake is None or mistake is error:
        raise error
    raise mistake from error


def rehearse(setup: Setup) -> None:
    """Have a worker take a step and measure, as it will in the run.

    Args:
        setup: The parts of the run.

    Raises:
        ExperimentError: Something fails; the message is one sentence.
    """
    average = setup.config.averaging
    for step in {0, setup.num_steps // 2, setup.num_steps - 1}:
        setup.rate_factor(step)
        if average is not None:
            Averages(average.component, setup.num_steps).weight(step)
    try:
        _step_and_measure(setup, few=True)
    except Exception:
        if not setup.task.overrides("evaluate") and not setup.config.strategy.is_own:
            raise
        # User code may not work with only a few samples or two agents.
        _step_and_measure(setup, few=False)


def _step_and_measure(setup: Setup, *, few: bool) -> None:
    try:
        with torch.random.fork_rng(devices=[]), InlineTeam(_small(setup, few=few), "loop") as team:
            _try_augmentation(team)
            team.advance(1)
            rows, _ = team.measure()
            team.state()
            setup.rate_factor(1, team.worker.block.evaluations)
            _check_metric(setup, rows)
    except Exception as error:
        _blame(setup, error)


def rows_sent(setup: Setup, steps: int) -> list[dict[str, int]]:
    """Take steps with a few agents, and count what is sent along an edge in each.

    Args:
        setup: The parts of the run, which have been rehearsed.
        steps: Number of steps.

    Returns:
        The bytes of each step along an edge of each kind.
    """

    def count(team: InlineTeam) -> list[dict[str, int]]:
        found, sent = [], team.worker.block.channel.row_bytes
        for step in range(1, steps + 1):
            before = dict(sent)
            team.advance(step)
            found.append({kind: sent[kind] - before[kind] for kind in before})
        return found

    return with_few(setup, count)


def with_few(setup: Setup, use: Callable[[InlineTeam], T]) -> T:
    """Use a few agents of a run; all of them where the user's own code does not work with few.

    Args:
        setup: The parts of the run, which have been rehearsed.
        use: What to do with them.

    Returns:
        What it returns.
    """

    def run(*, few: bool) -> T:
        with torch.random.fork_rng(devices=[]), InlineTeam(_small(setup, few=few), "loop") as team:
            return use(team)

    try:
        return run(few=True)
    except Exception:
        if not setup.task.overrides("evaluate") and not setup.config.strategy.is_own:
            raise
        return run(few=False)  # as in `rehearse`


def _check_metric(setup: Setup, rows: Sequence[Row]) -> None:
    """Raise if the metric that a run may stop by is not among those of an evaluation."""
    asked = setup.config.stop_early
    if asked is not None and rows and asked.metric not in rows[0]:
        names = [name for name in rows[0] if name not in ("step", "replica")]
        raise ExperimentError(f"stop_early.metric: '{asked.metric}' is not measured; {nearest(asked.metric, names)}")


def _small(setup: Setup, *, few: bool) -> Setup:
    """Reduce a run to one replica on the CPU, in this process, and if asked to a few agents and samples."""
    rounding = tuple(fault for fault in setup.faults if isinstance(fault, LinkRounding))  # which shortens messages
    setup = replace(_with_known_start(setup), flow=None, network=None, compute=None, faults=rounding)
    config, task, agents = setup.config, setup.task, min(_FEW, setup.num_agents)
    escape, parts = config.escape, min(_FEW, config.accumulate or 1)
    config = config.model_copy(
        update={
            "batch_size": min(_FEW, config.part_size) * parts,
            "accumulate": config.accumulate and parts,
            "replicas": 1,
            "compute": None,
            "escape": None if escape is None else escape.model_copy(update={"every": 1}),
            "runtime": config.runtime.model_copy(
                update={"name": "inline", "device": "cpu", "threads": 1, "readers": 0}
            ),
        }
    )
    if not few:
        return replace(setup, config=config, holdings=setup.holdings[:1], attackers=setup.attackers[:1])
    train = take(task.train, slice(0, _FEW))
    test = None if task.test is None else first(task.test, _FEW)
    weights = (csr_array(np.full((agents, agents), 1 / agents)),)
    attackers = np.zeros((1, agents), dtype=bool)
    attackers[0, 1:] = setup.attackers.any()
    return replace(
        setup,
        config=config,
        task=replace(task, train=train, test=test),
        graph=nx.complete_graph(agents),
        sequence=weights,
        push=weights if setup.push else (),
        centroid_weights=np.full(agents, 1 / agents),
        holdings=[[np.arange(length(train))] * agents] if setup.holdings else [],
        attackers=attackers,
    )


def _try_augmentation(team: InlineTeam) -> None:
    """Check the images that an augmentation returns."""
    block = team.worker.block
    augmentation = block.setup.config.task.augmentation
    if augmentation is None:
        return
    images = leaves(block.oracle.sampler.batch(0))[0]
    made = augmentation.make(images=images, keys=block.keys("augmentation"))
    if not isinstance(made, Tensor) or made.shape[:2] != images.shape[:2] or made.dtype != images.dtype:
        got = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise ExperimentError(
            f"task.augmentation: {augmentation.name} must return images like those that it is given,"
            f" {images.dtype} {list(images.shape)}, got {got}"
        )
