"""A trial of the parts of a run together, to find what does not fit before anything is written."""

import io
import pickle
from functools import partial
from typing import Any

import torch
from torch import nn

from basinet.algorithms.optimizers import LocalOptimizer, OptimizerTraits, SharedSubspaces
from basinet.algorithms.strategies import EventDriven, StrategyTraits
from basinet.sim.agents.events.row_store import EVENT_ROWS
from basinet.sim.agents.personal import check_personal, check_remembered
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import Data, take
from basinet.sim.engines import Verb, make_engine
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.mistakes import first_line, in_words, place_of, user_code
from basinet.sim.models.freezing import held_parameters
from basinet.sim.models.modules import copy_model, move_model, writes
from basinet.sim.setup.coefficients import check_strategy
from basinet.sim.setup.rehearsal import rehearse, try_data, try_model
from basinet.sim.setup.room import bytes_of
from basinet.sim.setup.setup import Setup

__all__ = ["try_alone", "try_mixing", "try_parts", "verb_of", "writes_to_inputs"]


def verb_of(setup: Setup) -> Verb:
    """Return what a run's steps call of the engine.

    Args:
        setup: The parts.

    Returns:
        The verb.
    """
    return "losses" if OptimizerTraits.of(setup.config.optimizer.target).derivative_free else "gradients"


def try_alone(setup: Setup) -> None:
    """Try the model on a few samples.

    Args:
        setup: The parts; `Setup.tried_alone` and the verb are everything that may matter here.

    Raises:
        ExperimentError: It cannot be trained or measured on them; the message is one sentence.
    """
    model = move_model(setup.template(), "cpu", setup.dtype)
    _check_numbers(setup, model)
    try_model(setup, verb_of(setup))
    try_data(setup, model)


def try_parts(setup: Setup) -> tuple[int, int]:
    """Try optimizer, engine and strategy on a few samples and agents, with a model that `try_alone` has tried.

    Args:
        setup: The parts; `Setup.tried` lists everything that may matter here.

    Returns:
        The number of trained parameters, and the bytes that an agent needs for its optimizer's state, its averages,
        frozen values of its own, and rows behind events.

    Raises:
        ExperimentError: Some parts do not fit together; the message is one sentence.
    """
    config, name = setup.config, setup.model_component.name
    model = move_model(setup.template(), "cpu", setup.dtype)
    optimizer, remembered = _try_optimizer(setup, model)
    engine = config.runtime.engine
    if engine != "auto":  # tried as in the run, where the batches and the first agents' results are the same
        state = setup.state(model, min(4, setup.num_agents), torch.device("cpu"))
        try:
            make_engine(engine, model, setup.task, state, config.largest_part, verb=verb_of(setup))
        except Exception as error:  # the user's model may raise anything
            raise ExperimentError(f"runtime.engine: {engine} cannot run {name}: {first_line(error)}") from error
    _try_strategy(setup, model, name, optimizer)
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if config.escape is not None:
        _try_escape(config.escape.component, size)
    rehearse(setup)
    held = held_parameters(model)
    own = sum(b.nbytes for name, b in model.named_buffers() if name in held)
    rows = (config.averaging is not None) + EVENT_ROWS * isinstance(setup.strategy(), EventDriven)
    return size, remembered + own + size * setup.dtype.itemsize * rows


def try_mixing(setup: Setup) -> None:
    """Let the strategy check the mixing matrices.

    Args:
        setup: The parts.

    Raises:
        ExperimentError: It cannot work with them.
    """
    strategy: Any = setup.strategy()
    if hasattr(strategy, "check"):
        with user_code(setup.config.strategy):
            try:
                for weights in setup.sequence:
                    strategy.check(weights)
            except ValueError as error:
                name = setup.config.strategy.name
                raise ExperimentError(f"strategy: {name} {first_line(error)}{place_of(error)}") from error


def _try_escape(condition: Component, size: int) -> None:
    """Evaluate the escape condition for two replicas at zero."""
    points = torch.zeros(2, size)
    found = condition.make(centroids=points, start=points, excess_loss=lambda: points.new_zeros(2))
    if not (isinstance(found, torch.Tensor) and found.shape == (2,) and found.dtype == torch.bool):
        raise ExperimentError(f"escape: {condition.name} must return whether each replica is outside, bool [R]")


def writes_to_inputs(setup: Setup) -> bool:
    """Return whether the model writes into its inputs, in training or in evaluation mode.

    Args:
        setup: The parts.

    Returns:
        Whether it does; False for a model that fails, which `try_parts` reports.
    """
    few = take(setup.task.train, slice(0, 2))
    model = move_model(setup.template(), "cpu", setup.dtype)
    for training in (True, False):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                if writes(partial(setup.task.outputs, model.train(training)), few):
                    return True
        except Exception:  # the user's model may raise anything
            return False
    return False


def _check_numbers(setup: Setup, model: nn.Module) -> None:
    """Raise if the data contain non-finite numbers, unless the model's loss on them is finite."""
    task = setup.task
    for name, data in task.measured().items():
        for index in _not_finite(data):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    sample = map_nest(torch.clone, take(data, slice(index, index + 1)))
                    loss = task.objective(copy_model(model).eval(), sample)
            except Exception:  # a failing model is reported by `try_model`
                return
            if not torch.isfinite(loss).all():
                raise ExperimentError(
                    f"task: sample {index} of {name} holds numbers that are infinite or not a number in"
                    f" {setup.config.runtime.dtype}, and so is its loss"
                )


def _not_finite(data: Data) -> list[int]:
    """Find the first sample with a non-finite number, if there is one."""
    for t in leaves(data):
        # A finite sum proves that almost all data are finite, without extra memory; otherwise, each number is checked.
        if (t.is_floating_point() or t.is_complex()) and not t.sum().isfinite():
            rows = (~t.isfinite()).reshape(len(t), -1).any(1).nonzero()
            if len(rows):
                return [int(rows[0])]
    return []


def _try_optimizer(setup: Setup, model: nn.Module) -> tuple[LocalOptimizer, int]:
    """Step two agents once with zero gradients, and save and restore their optimizer's state."""
    config, component = setup.config, setup.config.optimizer
    state = setup.state(model, 2, torch.device("cpu"))
    x = torch.linspace(-1, 1, state.parameters.numel()).view_as(state.parameters).to(state.parameters)
    state.parameters.copy_(x)
    file = io.BytesIO()
    try:
        optimizer = setup.local_optimizer(state, setup.optimizer_keys(torch.zeros(2).long(), torch.arange(2)))
        gradients = state.gradients
        if optimizer.evaluates:
            gradients = optimizer.prepare(lambda: x.new_zeros(2), gradients, 1.0)
            if not torch.equal(state.parameters, x):
                raise ValueError("its prepare does not leave the parameters as they were")
        least = optimizer.next_batch_size
        if least is not None and least < config.batch_size:
            raise ExperimentError(
                f"optimizer: {component.name} asks for {least} samples at some steps, and batch_size is"
                f" {config.batch_size} at all others; allowed are as many or more"
            )
        optimizer.step(gradients, 1.0)
        check_remembered(config, [] if config.optimizer_state == "keep" else optimizer.rows(), x.shape[1])
        _try_subspaces(setup, optimizer)
        known = optimizer.state_dict()
        torch.save(known, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except ExperimentError:
        raise
    except pickle.UnpicklingError as error:
        raise ExperimentError(
            f"optimizer: {component.name} keeps state that no checkpoint can hold; allowed are tensors,"
            " numbers, strings, and lists and mappings of them"
        ) from error
    except Exception as error:  # the user's class may raise anything
        raise ExperimentError(
            f"optimizer: {component.name} cannot work here ({in_words(error)}{place_of(error)}); allowed are optimizers"
            " whose groups have an 'lr', whose step needs no closure, and whose state leads with the agents if it is"
            " mixed or reset"
        ) from error
    return optimizer, bytes_of(known["rows"]) // 2


def _try_subspaces(setup: Setup, optimizer: LocalOptimizer) -> None:
    """Raise if agents have to step along the same directions but do not."""
    config, name = setup.config, setup.config.optimizer.name
    if config.optimizer_state == "mix" and not optimizer.in_common:
        raise ExperimentError(
            f"optimizer_state: got mix, but the agents of {name} are in subspaces of their own, whose states cannot be"
            " mixed; allowed are keep, reset, and an optimizer whose subspaces are shared"
        )
    if StrategyTraits.of(setup.strategy()).shares_subspaces:
        try:
            SharedSubspaces(optimizer)
        except TypeError:
            raise ExperimentError(
                f"strategy: {config.strategy.name} exchanges coordinates in common subspaces, but with these settings"
                f" the agents of {name} have none; allowed is golore with shared: true and no random_from"
            ) from None


def _try_strategy(setup: Setup, model: nn.Module, model_name: str, optimizer: LocalOptimizer) -> None:
    """Check the strategy against task, model, weights and optimizer."""
    name = setup.config.strategy.name
    strategy: Any = setup.strategy()
    traits = StrategyTraits.of(strategy)
    check_personal(setup.config, model, traits)
    if not traits.combines_x:
        for key in ("optimizer_state", "buffers"):
            if getattr(setup.config, key) != "keep":
                raise ExperimentError(
                    f"{key}: got {getattr(setup.config, key)}, but {name} does not combine the parameters themselves,"
                    " so that nothing can follow them; allowed is keep"
                )
    if traits.full_gradients:
        needs = f"strategy: {name} needs gradients over all of an agent's data, and"
        if setup.task.draw is not None:
            raise ExperimentError(f"{needs} the task generates its samples")
        if setup.task.least_batch > 1:
            raise ExperimentError(
                f"{needs} the loss of {setup.config.task.component.name} compares the samples of a batch, so that it"
                " is no mean over them"
            )
        held = held_parameters(model)
        if any(b.is_floating_point() for name, b in model.named_buffers() if name not in held):
            raise ExperimentError(
                f"{needs} those of {model_name} depend on the batch that a sample is in (it has running statistics)"
            )
        if setup.config.clipping is not None:
            raise ExperimentError(
                f"clipping: {name} corrects gradients of batches by those over all of an agent's data, which clipping"
                " would bias; allowed are none, or an optimizer that clips, such as clipped_sgd"
            )
    if optimizer.evaluates and not optimizer.derivative_free and traits.own_points:
        raise ExperimentError(
            f"strategy: {name} evaluates gradients at points of its own, and so does {setup.config.optimizer.name}, so"
            " that they cannot be combined; allowed are optimizers that step with one gradient"
        )
    if not hasattr(strategy, "step"):
        raise ExperimentError(f"strategy: {name} returns no object with a method 'step'")
    if optimizer.derivative_free:
        if setup.config.clipping is not None:
            raise ExperimentError(
                f"clipping: {setup.config.optimizer.name} computes no gradients that could be clipped; allowed is none"
            )
        if setup.config.gradient_noise is not None:
            raise ExperimentError(
                f"gradient_noise: {setup.config.optimizer.name} computes no gradients that could be noisy; allowed are"
                " none, or a task with noise of its own"
            )
        try:
            check_strategy(strategy, optimizer, in_common=optimizer.in_common and not setup.config.personal)
        except Exception as error:  # the user's strategy may raise anything
            raise ExperimentError(
                f"strategy: {name} cannot work with {setup.config.optimizer.name}:"
                f" {first_line(error)}{place_of(error)}; allowed are strategies that"
                " adapt with what gradients() returned, such as diffusion, and with optimizer.shared=true centralized"
            ) from error
