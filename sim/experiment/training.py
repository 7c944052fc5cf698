"""How an experiment clips gradients, stops early, and validates."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from basinet.sim.experiment.signatures import BOOLEAN, NUMBER

__all__ = ["ClippingPart", "StopPart", "ValidationPart"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClippingPart(_Part):
    """What each agent's gradient is clipped at.

    Attributes:
        norm: Largest norm of a gradient, over all trained parameters of an agent; longer ones are scaled down, as by
            torch's `clip_grad_norm_`.
        value: Largest absolute value of an entry of a gradient.
    """

    norm: Annotated[float, NUMBER, Field(gt=0)] | None = None
    value: Annotated[float, NUMBER, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.norm is None) == (self.value is None):
            raise ValueError("clipping: give either norm or value")
        return self


class StopPart(_Part):
    """When a run ends before its last step: once a metric has not improved for a while.

    Attributes:
        metric: Name of the metric; its mean over the replicas that have not diverged is compared.
        patience: Number of evaluations in a row without improvement at which the run ends.
        min_delta: Smallest change from the best value that counts as an improvement.
        keep_best: Whether the state at the best evaluation is kept and analysed, besides the last one.
    """

    metric: str = "test_loss"
    patience: Annotated[int, Field(ge=1, strict=True)] = 5
    min_delta: Annotated[float, NUMBER, Field(ge=0)] = 0.0
    keep_best: Annotated[bool, BOOLEAN] = False


class ValidationPart(_Part):
    """Which training samples are held out.

    Attributes:
        share: Their share.
        seed: Seed of the task, the graph and the choice of the samples; None for that of the run. All other draws are
            keyed by the seed of the run.
    """

    share: Annotated[float, NUMBER, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] | None = None
