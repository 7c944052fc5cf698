"""What of a model is trained: its adapters are attached and its other parameters frozen, as the experiment says."""

from torch import nn

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.models.adapters import added_parameters, attach
from basinet.sim.models.freezing import choose_trained, hold_frozen

__all__ = ["trainable"]


def trainable(config: Config, model: nn.Module) -> nn.Module:
    """Attach the adapters of a run to a model, and freeze what is not trained.

    Where replicas start from points of their own, frozen values differ between them and become buffers.

    Args:
        config: The run.
        model: A model as the user wrote it; changed in place. The adapters are drawn from torch's global generators.

    Returns:
        The model.

    Raises:
        ExperimentError: A pattern fits nothing, or nothing is left to train.
    """
    if config.adapters is None and config.frozen is None and config.trained is None:
        return model
    if config.adapters is not None:
        try:
            model = attach(model, config.adapters.make())
        except ValueError as error:
            raise ExperimentError(f"adapters.targets: {first_line(error)}") from error
    try:
        choose_trained(model, config.frozen or (), config.trained or (), added_parameters(model))
    except ValueError as error:
        raise ExperimentError(first_line(error)) from error
    if not any(p.requires_grad for p in model.parameters()):
        raise ExperimentError("frozen: all parameters are frozen, so that nothing is left to train")
    own = config.start is not None and config.start.is_of_each_replica and config.replicas > 1
    return hold_frozen(model) if own else model
