"""The configuration of one run: every component chosen, every value single and validated."""

import inspect
from collections import ChainMap
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import networkx as nx
import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    model_validator,
)
from scipy.sparse import issparse
from torch import Tensor, nn

from basinet.algorithms.attacks import ATTACKS
from basinet.algorithms.averaging import AVERAGINGS
from basinet.algorithms.optimizers import OPTIMIZERS, TORCH, TORCH_BOUNDS, OptimizerTraits
from basinet.algorithms.optimizers.tunings import Tuned
from basinet.algorithms.schedules import SCHEDULES
from basinet.algorithms.strategies import STRATEGIES
from basinet.sim.agents.escape import ESCAPES
from basinet.sim.clock.laws import LAWS, ComputeLaw
from basinet.sim.data.augmentations import AUGMENTATIONS
from basinet.sim.data.partitions import PARTITIONS
from basinet.sim.data.sampling import Sampling
from basinet.sim.engines import EngineName
from basinet.sim.evaluation.metric import is_metric
from basinet.sim.experiment.component import Component, ExperimentError, Kind, nearest
from basinet.sim.experiment.digest import name_of
from basinet.sim.experiment.mistakes import shown
from basinet.sim.experiment.optimizer_groups import LayerDecay, groups_of
from basinet.sim.experiment.plugged import Registry, plugged
from basinet.sim.experiment.signatures import BOOLEAN, NUMBER, sentence, settings_in
from basinet.sim.experiment.training import ClippingPart, StopPart, ValidationPart
from basinet.sim.faults import FAULTS, Fault
from basinet.sim.loggers import LOGGERS, is_logger
from basinet.sim.models import MODELS
from basinet.sim.models.adapters import ADAPTERS
from basinet.sim.run.quantity import Where
from basinet.sim.runtimes import RUNTIMES
from basinet.sim.setup.start import Start
from basinet.sim.tasks import TASKS, Noise, Task, is_data_set
from basinet.topologies import POLICIES, SEQUENCES, TOPOLOGIES, GraphSequence
from basinet.topologies.cuts import Partitioner
from basinet.topologies.networks import NETWORKS, TABLES, Network
from basinet.topologies.timing.all_reduces import COLLECTIVES

MOST = 10**12
"""The largest count, for example of steps, agents or samples."""

PositiveInt = Annotated[int, Field(gt=0, le=MOST, strict=True)]
PositiveFloat = Annotated[float, NUMBER, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Budget = Annotated[  # may be written as 1e6
    PositiveInt, BeforeValidator(lambda given: int(given) if isinstance(given, float) and given.is_integer() else given)
]

__all__ = [
    "BESIDE_RUNS",
    "DEFAULTS",
    "KINDS",
    "LENGTHS",
    "MOST",
    "NESTED",
    "Config",
    "EnvPart",
    "NetworkPart",
    "PositiveFloat",
    "PositiveInt",
    "RuntimePart",
    "Seed",
    "TaskPart",
]


def _is_data(given: Any) -> bool:
    return isinstance(given, Task | Tensor | np.ndarray) or is_data_set(given)


def _is_measure(given: Any) -> bool:
    return not isinstance(given, type) and (hasattr(given, "at") or hasattr(given, "of"))


def _given_to_optimizers(maker: Any) -> tuple[str, ...]:
    """Return the parameters that the simulator supplies to an optimizer: its number of agents and its draws."""
    try:
        traits = OptimizerTraits.of(maker)
    except TypeError as error:
        raise ExperimentError(f"optimizer: {name_of(maker)} cannot work: {error}") from None
    stacked = ("agents",) if traits.stacked else ()
    return (*stacked, "keys", "seed") if traits.keyed else stacked


def _beside_optimizers(maker: Any) -> dict[str, inspect.Parameter]:
    """Return the settings of every optimizer: its `groups` and `layer_decay`, and `tuned` if it can be tuned."""
    supplied = KINDS["optimizer"].supplied
    own = settings_in(maker, supplied, _given_to_optimizers(maker))
    annotations: dict[str, Any] = {"groups": groups_of(own, _bounds_of_torch(maker)), "layer_decay": LayerDecay}
    if OptimizerTraits.of(maker).tuning is not None:
        annotations["tuned"] = Tuned
    return {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in annotations.items()
    }


def _bounds_of_torch(maker: Any) -> dict[str, Any]:
    """Return bounds for the settings of torch's optimizers, whose signatures have none."""
    return TORCH_BOUNDS if isinstance(maker, type) and maker in TORCH else {}


KINDS: dict[str, Kind] = {
    "task": Kind("task", TASKS, ("seed", "num_agents"), _is_data),
    "partition": Kind("task.partition", PARTITIONS, ("labels", "columns", "num_agents", "rng")),
    "augmentation": Kind("task.augmentation", AUGMENTATIONS, ("images", "keys")),
    "model": Kind(
        "model",
        MODELS,
        ("input_shape", "input_shapes", "num_outputs", "vocabulary", "padding", "clusters", "davies_bouldin", "seed"),
        lambda given: isinstance(given, nn.Module),
    ),
    "adapters": Kind("adapters", ADAPTERS, noun="adapter"),
    "topology": Kind(
        "topology",
        ChainMap(SEQUENCES, TOPOLOGIES),
        ("num_agents", "seed"),
        lambda given: isinstance(given, nx.Graph | GraphSequence),
    ),
    "policy": Kind(
        "topology.policy",
        POLICIES,
        ("graph",),
        lambda given: isinstance(given, np.ndarray) or issparse(given),
    ),
    "network": Kind(
        "network",
        NETWORKS,
        ("graph",),
        lambda given: isinstance(given, Network),
        files=("path",),
        usual="uniform",
        short={table: {"name": "published", "table": table} for table in TABLES},
    ),
    "all_reduce": Kind("network.all_reduce", COLLECTIVES, ("network", "size"), noun="all-reduce"),
    "faults": Kind("faults", FAULTS, ready=lambda given: isinstance(given, Fault), noun="fault", files=("path",)),
    "strategy": Kind("strategy", STRATEGIES, (), lambda given: not isinstance(given, type) and hasattr(given, "step")),
    "attack": Kind("attack", ATTACKS),
    "optimizer": Kind(
        "optimizer",
        OPTIMIZERS,
        ("params",),
        reserved=_given_to_optimizers,
        bounds=_bounds_of_torch,
        beside=_beside_optimizers,
    ),
    "schedule": Kind("schedule", SCHEDULES, ("t", "num_steps", "evaluations")),
    "averaging": Kind("averaging", AVERAGINGS, ("t", "num_steps")),
    "compute": Kind(
        "compute",
        LAWS,
        ("flops", "seconds", "batch_size"),
        lambda given: isinstance(given, ComputeLaw),
        noun="compute law",
        files=("path",),
    ),
    "escape": Kind("escape", ESCAPES, ("centroids", "start", "excess_loss")),
    "metrics": Kind("metrics", Registry("metrics"), ready=is_metric, noun="metric"),
    "analysis": Kind("analysis", Registry("measures"), ("wanted",), _is_measure, noun="measure"),
    "loggers": Kind("loggers", LOGGERS, ("run", "folder", "identity", "config"), is_logger, noun="logger"),
}
"""The kinds of component; a component inside another's mapping has a dotted key."""

NESTED = {
    "task": {"partition": "partition", "augmentation": "augmentation"},
    "topology": {"policy": "policy"},
    "network": {"all_reduce": "all_reduce"},
}
LENGTHS = ("steps", "epochs", "samples", "bytes")
"""Keys that say when a run ends, at most one of which is given."""

BESIDE_RUNS = ("cases", "axes", "exclude", "skip", "about", "loggers", "tune")
"""Keys of an experiment that no run has."""

_PLAIN = {"topology": ("agents",), "network": ("overlap",), "averaging": ("evaluate",), "escape": ("every", "stop")}


DEFAULTS: dict[str, Any] = {
    "attack": "none",
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": "constant",
    "task.partition": "iid",
    "topology.policy": "metropolis",
    "network.all_reduce": "ring",
}


def _component(kind: str) -> BeforeValidator:
    def parse(given: Any) -> Any:
        return given if given is None else KINDS[kind].parse(given)

    return BeforeValidator(parse)


def _components(kind: str) -> BeforeValidator:
    """Parse a list of components, or a single one."""

    def parse(given: Any) -> Any:
        listed = given if isinstance(given, list | tuple) else [given]
        return given if given is None else tuple(map(KINDS[kind].parse, listed))

    return BeforeValidator(parse)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _unpack(key: str) -> Any:
    """Split a mapping like {name: ring, agents: 16, policy: metropolis} into the component and its companions."""

    def unpack(given: Any) -> Any:
        if given is None or isinstance(given, _Part):
            return given
        companions: dict[str, Any] = {}
        if isinstance(given, Mapping):
            rest = dict(given)
            for word in (*NESTED.get(key, {}), *_PLAIN.get(key, ())):
                if word in rest:
                    companions[word] = rest.pop(word)
            given = rest
        return {"component": given, **companions}

    return BeforeValidator(unpack)


class TaskPart(_Part):
    """The task, how its data are split among the agents, and how its images are augmented.

    Attributes:
        component: The task.
        partition: How its data are split among the agents.
        augmentation: How its images are augmented; None for not at all.
    """

    component: Annotated[Component, _component("task")]
    partition: Annotated[Component, _component("partition")] = Field(
        default=DEFAULTS["task.partition"], validate_default=True
    )

    augmentation: Annotated[Component | None, _component("augmentation")] = None


class TopologyPart(_Part):
    """The graph, how many agents it has, and its combination policy.

    Attributes:
        component: The graph, or a sequence of graphs.
        agents: Number of agents; None if the graph determines it.
        policy: The combination policy; None for the graph's own, or else the default.
    """

    component: Annotated[Component, _component("topology")]
    agents: PositiveInt | None = None
    policy: Annotated[Component | None, _component("policy")] = None


class NetworkPart(_Part):
    """What messages take in simulated time, and how agents make use of the network.

    Attributes:
        component: Latency and bandwidth of the links between the agents.
        all_reduce: How a sum over all agents is made.
        overlap: Whether agents compute while they send and wait; otherwise they do one thing after the other, in the
            order in which the strategy calls for it.
    """

    component: Annotated[Component, _component("network")]
    all_reduce: Annotated[Component, _component("all_reduce")] = Field(
        default=DEFAULTS["network.all_reduce"], validate_default=True
    )
    overlap: Annotated[bool, BOOLEAN] = True


def _noise(given: Any) -> Any:
    """Parse the gradient noise."""
    if given is None or given == "none" or isinstance(given, Noise):
        return None if given == "none" else given
    if not isinstance(given, Mapping):
        raise ExperimentError(
            f"gradient_noise: got {shown(given)}; allowed are none, or a mapping such as {{law: student, tail: 3, size:"
            " 1}"
        )
    try:
        return Noise.parse(given)
    except ValueError as error:
        raise ExperimentError(f"gradient_{error}") from None


class AveragingPart(_Part):
    """How each agent's parameters are averaged over the steps, and what the average is for.

    Attributes:
        component: Computes the weight of the newest point in the average.
        evaluate: Whether evaluations, the analysis and the models read from the run are those of the averages.
    """

    component: Annotated[Component, _component("averaging")]
    evaluate: Annotated[bool, BOOLEAN] = True


class EscapePart(_Part):
    """When a replica has escaped from where it started, how often this is checked, and whether the run then ends.

    Attributes:
        component: Computes which replicas are outside.
        every: Steps between two checks.
        stop: Whether the run ends at the first evaluation by which every replica has escaped or diverged.
    """

    component: Annotated[Component, _component("escape")]
    every: PositiveInt = 1
    stop: Annotated[bool, BOOLEAN] = False


class TrajectoryPart(_Part):
    """What is recorded of the run's trajectory at each evaluation.

    Attributes:
        points: "centroid", or "agents" for both.
        megabytes: Largest size of the file.
        metrics: Whether each agent is evaluated, too, which takes as long as that of so many centroids.
    """

    points: Literal["centroid", "agents"] = "centroid"
    megabytes: PositiveInt = 1024
    metrics: Annotated[bool | None, BOOLEAN] = None


def _runtime(name: str) -> str:
    """Validate the name of a runtime."""
    if name not in RUNTIMES:
        raise ExperimentError(f"runtime.name: got {shown(name)}; {nearest(name, RUNTIMES)}")
    return name


_Word = Annotated[str, BeforeValidator(lambda given: str(given) if type(given) is int else given)]
"""A text, which may look like a number."""


class EnvPart(_Part):
    """What Ray sets up for the actors of an experiment, on each machine.

    Attributes:
        env_vars: Variables of their environment.
        working_dir: Folder or archive that becomes their current folder.
        py_modules: Folders of packages, files of modules, and wheels that they can import.
        pip: Packages that pip installs, or the file that lists them.
        uv: Packages that uv installs, or the file that lists them.
        conda: Name of an environment of conda, its file, or what that holds.
    """

    env_vars: Mapping[str, _Word] | None = None
    working_dir: str | None = None
    py_modules: list[str] | None = None
    pip: list[str] | str | None = None
    uv: list[str] | str | None = None
    conda: str | dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_installer(self) -> Self:
        given = [key for key in ("pip", "uv", "conda") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ExperimentError(f"runtime.env: got {' and '.join(given)}; allowed is one of pip, uv and conda")
        return self

    def given(self) -> dict[str, Any]:
        """Return what was given, as Ray takes it."""
        return self.model_dump(exclude_none=True)


class RuntimePart(_Part):
    """Where and how a run is executed.

    Attributes:
        name: "inline" (this process), "ray" (actors that host blocks of agents) or "torchrun" (the ranks started by
            torchrun).
        device: "auto" (a GPU if available), "cpu", "cuda", "cuda:1", …
        dtype: Floating type of parameters and data.
        autocast: "bfloat16" or "float16" computes products and convolutions of the gradients in this type, by torch's
            autocast. With "float16" each agent's loss is scaled, and an agent whose gradient overflows skips the step.
        engine: How the agents' forward and backward passes are executed; "auto" takes the fastest engine.
        threads: Most threads that each worker uses, if its work is large enough; None for as many as its processors.
        partitioner: How the agents of a replica are split among workers: "auto" so that few rows travel between them,
            by a search within seconds; "metis" by METIS, which is better on large irregular graphs and needs the
            package pymetis; "none" in the graph's order. It makes no difference to the results.
        shares: How many agents each of several workers hosts in relation to the others, in the order of their numbers,
            such as `[2, 1]` if the first one is twice as fast; None for all alike. It makes no difference to the
            results.
        actors: Number of Ray actors that share the agents of a run.
        cpus_per_actor: Processors that Ray reserves for an actor.
        gpus_per_actor: GPUs that Ray reserves for an actor; fractions are allowed.
        env: What Ray sets up for the actors on each machine, such as `{pip: [einops], env_vars: {MODE: fast}}`: any of
            env_vars, working_dir, py_modules, pip, uv and conda. The user's modules are found without it.
        readers: Number of processes of each worker that read the samples of the next steps, where samples are read when
            they are needed; 0 to read them in turn with the steps.
        prefetch: Steps that each of these processes reads ahead; up to 16 if their batches are small.
    """

    LISTS: ClassVar[tuple[str, ...]] = ("shares",)
    """Keys whose values are lists themselves rather than axes of a grid."""

    name: Annotated[str, AfterValidator(_runtime)] = "inline"
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    autocast: Literal["bfloat16", "float16"] | None = None
    engine: EngineName = "auto"
    threads: PositiveInt | None = None
    partitioner: Partitioner = "auto"
    shares: Annotated[list[PositiveFloat], Field(min_length=1)] | None = None
    actors: PositiveInt = 1
    cpus_per_actor: PositiveFloat = 1.0
    gpus_per_actor: Annotated[float, NUMBER, Field(ge=0)] = 0.0
    env: EnvPart | None = None
    readers: Annotated[int, Field(ge=0, le=1024, strict=True)] = 0
    prefetch: Annotated[int, Field(ge=1, le=1024, strict=True)] = 2


class Config(_Part):
    """One run: every component chosen, every value single.

    Attributes:
        case: Name of its case, if the experiment has cases.
        strategy_keys: Keys that the experiment sets for its strategy only, and that are therefore not conditions of a
            comparison.
        task: The task, and how its data are split among the agents.
        validation: Share of the training samples that are held out and measured instead of the test data; None for
            none. Or a mapping of `share` and `seed`: that of task and graph, if it is not the run's.
        tuned: Keys whose values were chosen by tuning, and that are therefore not conditions of a comparison.
        model: The model; None takes the task's own default.
        adapters: Small trained additions to the model's layers, whose own parameters are then frozen unless `trained`
            names them; None for no adapters.
        frozen: Parameters that are neither trained nor sent, by name, where * stands for any characters. All agents
            share their values.
        trained: If given, the only parameters of the model that are trained, by name; all others are frozen.
        start: Where the agents of each replica start: at the end of another run, at values in a file, or at given ones
            (see `basinet.sim.setup.start.Start.parse`). None draws the model's own initial values, anew for each
            replica.
        topology: The graph, its agents and their combination policy.
        network: Latency and bandwidth of the links between the agents, how a sum over all of them is made
            (`all_reduce`), and whether they compute while they send (`overlap`). With it or `compute`, each evaluation
            has a simulated time, in which messages take none without a network.
        compute: Law of the time that an agent takes for the gradient of a batch in simulated time; None for no time.
        faults: What goes wrong in the simulated network, such as messages that are lost; None for nothing.
        strategy: The distributed part of the algorithm.
        attack: How some agents try to spoil the training, and which; only the honest agents are measured.
        optimizer: The local part of the algorithm.
        gradient_noise: Noise of each agent's gradient, as attributes of `basinet.sim.tasks.Noise` by name: it becomes
            (1 + ε) g + s, with one draw per agent and step, whatever the batch. All gradients of a step share the
            draw; gradients over all of an agent's data, and the analysis, have no noise.
        clipping: What each agent's stochastic gradients are clipped at, after noise is added; a gradient over all of an
            agent's data is not. An optimizer or strategy that evaluates at several points gets each gradient clipped.
            `clipped_share` is the share of gradients clipped since the last evaluation.
        accumulate: Number of parts in which the gradient of a batch is computed, one after another, to save memory; it
            is that of the whole batch, except that running statistics follow the parts.
        averaging: How each agent's parameters are averaged over the steps; None for not at all. The steps are taken
            from the parameters themselves; running statistics are not averaged.
        optimizer_state: What happens to an optimizer's state of an agent (momentum, second moments) when parameters are
            combined or averaged: it is kept, mixed like them, or reset to zero.
        buffers: The same for the model's running statistics: kept or mixed.
        personal: Parameters that each agent keeps to itself, neither sent nor mixed, by name, where * stands for any
            characters, such as "head.*". The run then measures the mean over the agents' own models.
        schedule: Learning-rate schedule.
        batch_size: Samples per agent and step.
        sampling: "independent" (with replacement) or "epochs" (each sample once per epoch).
        steps: Number of steps. This key, `epochs`, `samples` and `bytes` are alternatives; with none of them, a run has
            1000 steps.
        epochs: Average number of passes of an agent over its data.
        samples: Samples in the batches of all agents of a replica together, so that runs with other batch sizes and
            numbers of agents see equally many: the run ends with the step that reaches this number.
        bytes: Bytes that all agents of a replica together send: the run ends with the step that reaches this number.
            Known before it starts, if what the strategy sends repeats from step to step.
        replicas: Number of independent repetitions, which run together.
        seed: Seed of all random draws.
        evaluate_every: Steps between two evaluations; None for ten evaluations in the run.
        evaluate_samples: Size of the fixed random subset of the training samples that evaluations measure, for training
            data that are large; None for all.
        metrics: What is measured at each evaluation besides the loss, the main metric first; None for the task's own,
            which is the accuracy if it is a classification.
        metrics_on: On which data, "test" and "train"; None for the test data.
        keep_every: Steps between two checkpoints that are kept in addition to the last one, each of which is analysed;
            None keeps no others.
        escape: When a replica's centroid has escaped: the first step at which it is outside is its `escape_step`.
            `every` is the number of steps between two checks; with `stop`, the run ends once all have escaped.
        stop_early: When the run ends before its last step; None for never.
        trajectory: What is recorded of the run's trajectory at each evaluation; None for nothing.
        analysis: What is measured at the end of the run, in the last checkpoint and all kept ones.
        analysis_points: Where to measure: at the centroid, and optionally at each agent.
        analysis_views: On which samples: "all", and at each agent "own" for those that it holds.
        analysis_mode: Mode of the model: "evaluation", or "training", where layers normalise by the statistics of
            all samples as one batch.
        analysis_dtype: Floating type of the analysis.
        analysis_products: How products with curvature matrices are computed: "exact", by autograd; or "differences" of
            its gradients, for models whose second derivative autograd lacks, in float64.
        analysis_samples: Size of the fixed random subset of the training samples to use; None for all.
        analysis_memory: Memory budget of the analysis in each worker, besides model and data, in MiB.
        runtime: Where and how the run is executed.
    """

    case: str | None = None
    strategy_keys: tuple[str, ...] | None = None
    task: Annotated[TaskPart, _unpack("task")]
    validation: Annotated[
        ValidationPart | None,
        BeforeValidator(lambda given: {"share": given} if isinstance(given, int | float | str) else given),
    ] = None
    tuned: tuple[str, ...] | None = None
    model: Annotated[Component | None, _component("model")] = None
    adapters: Annotated[Component | None, _component("adapters")] = None
    frozen: tuple[str, ...] | None = None
    trained: tuple[str, ...] | None = None
    start: Annotated[Start | None, BeforeValidator(Start.parse)] = None
    topology: Annotated[TopologyPart, _unpack("topology")]
    network: Annotated[NetworkPart | None, _unpack("network")] = None
    compute: Annotated[Component | None, _component("compute")] = None
    faults: Annotated[tuple[InstanceOf[Component], ...] | None, _components("faults")] = None
    strategy: Annotated[Component, _component("strategy")]
    attack: Annotated[Component, _component("attack")] = Field(default=DEFAULTS["attack"], validate_default=True)
    optimizer: Annotated[Component, _component("optimizer")] = Field(
        default=DEFAULTS["optimizer"], validate_default=True
    )
    gradient_noise: Annotated[InstanceOf[Noise] | None, BeforeValidator(_noise)] = None
    clipping: ClippingPart | None = None
    accumulate: PositiveInt | None = None
    averaging: Annotated[AveragingPart | None, _unpack("averaging")] = None
    optimizer_state: Literal["keep", "mix", "reset"] = "keep"
    buffers: Literal["keep", "mix"] = "keep"
    personal: tuple[str, ...] = ()
    schedule: Annotated[Component, _component("schedule")] = Field(default=DEFAULTS["schedule"], validate_default=True)
    batch_size: PositiveInt = 32
    sampling: Sampling = "independent"
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    samples: Budget | None = None
    bytes: Budget | None = None
    replicas: PositiveInt = 5
    seed: Seed = 0
    evaluate_every: PositiveInt | None = None
    evaluate_samples: PositiveInt | None = None
    metrics: Annotated[tuple[InstanceOf[Component], ...] | None, _components("metrics")] = None
    metrics_on: Annotated[tuple[Where, ...] | None, Field(min_length=1)] = None
    keep_every: PositiveInt | None = None
    escape: Annotated[EscapePart | None, _unpack("escape")] = None
    stop_early: StopPart | None = None
    trajectory: Annotated[
        TrajectoryPart | None, BeforeValidator(lambda given: {"points": given} if isinstance(given, str) else given)
    ] = None
    analysis: Annotated[tuple[InstanceOf[Component], ...], _components("analysis")] = Field(
        default_factory=lambda: tuple(map(KINDS["analysis"].parse, plugged("default analysis")))
    )
    analysis_points: Annotated[tuple[Literal["centroid", "agents"], ...], Field(min_length=1)] = ("centroid",)
    analysis_views: Annotated[tuple[Literal["all", "own"], ...], Field(min_length=1)] = ("all",)
    analysis_mode: Literal["evaluation", "training"] = "evaluation"
    analysis_dtype: Literal["float32", "float64"] = "float64"
    analysis_products: Literal["exact", "differences"] = "exact"
    analysis_samples: PositiveInt | None = None
    analysis_memory: PositiveInt = 1024
    runtime: Annotated[
        RuntimePart, BeforeValidator(lambda given: {"name": given} if isinstance(given, str) else given)
    ] = RuntimePart()

    @model_validator(mode="after")
    def _length(self) -> Self:
        given = [key for key in LENGTHS if getattr(self, key) is not None]
        if len(given) > 1:
            raise ExperimentError(f"{given[0]}: give {' or '.join(given)}, not both")
        return self

    @classmethod
    def parse(cls, description: Mapping[str, Any]) -> Self:
        """Validate a description with single values.

        Args:
            description: Keys and values as written by the user.

        Returns:
            The configuration.

        Raises:
            ExperimentError: Something in it is not allowed; the message is one sentence.
        """
        unknown = next((key for key in description if key not in cls.model_fields), None)
        if unknown == "stages":
            raise ExperimentError("stages: an experiment in stages is a basinet.Pipeline, which basinet.run also takes")
        if unknown is not None:
            allowed = nearest(unknown, [*cls.model_fields, *BESIDE_RUNS, "stages"])
            raise ExperimentError(f"{unknown}: an experiment has no key '{unknown}'; {allowed}")
        missing = [key for key in ("task", "topology", "strategy") if key not in description]
        if missing:
            raise ExperimentError(f"{missing[0]}: an experiment needs the key '{missing[0]}'")
        try:
            return cls.model_validate(dict(description))
        except ValidationError as error:
            raise ExperimentError(_complaint(error)) from None

    @property
    def measures(self) -> dict[str, Any]:
        """The measures of the analysis by component name, each made to compute what its name asks for."""
        return {asked.name: asked.make(wanted=frozenset([asked.name])) for asked in self.analysis}

    @property
    def data_seed(self) -> int:
        """Seed of the task and of the graph."""
        given = None if self.validation is None else self.validation.seed
        return self.seed if given is None else given

    @property
    def part_size(self) -> int:
        """The smallest number of an agent's samples that pass through the model together in a step."""
        return self.batch_size // (self.accumulate or 1)

    @property
    def largest_part(self) -> int:
        """The largest such number."""
        return -(-self.batch_size // (self.accumulate or 1))

    def describe(self) -> dict[str, Any]:
        """Describe the run in plain values.

        Returns:
            What `Config.parse` reads, provided that components have names; defaults are filled in.
        """
        plain: dict[str, Any] = {}
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, Component):
                value = value.describe()
            elif isinstance(value, Start):
                value = value.description
            elif isinstance(value, TaskPart | TopologyPart | NetworkPart | AveragingPart | EscapePart):
                companions = {
                    name: part.describe() if isinstance(part := getattr(value, name), Component) else part
                    for name in type(value).model_fields
                    if name != "component" and getattr(value, name) is not None
                }
                value = {**value.component.describe(), **companions}
            elif isinstance(value, Noise):
                value = {name: held for name, held in vars(value).items() if held is not None}
            elif isinstance(value, BaseModel):
                value = value.model_dump(exclude_none=isinstance(value, ClippingPart | TrajectoryPart | ValidationPart))
                sparse = {"env", "shares"}  # which earlier versions did not have
                value = {name: held for name, held in value.items() if name not in sparse or held is not None}
            elif isinstance(value, tuple):
                brief = key == "analysis"  # which records the code of measures by itself
                value = [
                    part if not isinstance(part, Component) else part.brief() if brief else part.describe()
                    for part in value
                ]
            if value is not None:
                plain[key] = value
        return plain


_KEYED: dict[str, type[BaseModel]] = {
    "clipping": ClippingPart,
    "runtime": RuntimePart,
    "runtime.env": EnvPart,
    "stop_early": StopPart,
    "trajectory": TrajectoryPart,
    "validation": ValidationPart,
}
"""Keys that are mappings of keys of their own."""


def _complaint(error: ValidationError) -> str:
    """Turn pydantic's first error in a configuration into a sentence."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ExperimentError):
        return str(cause)
    places = [str(part) for part in first["loc"] if part not in ("component",)]
    outer = ".".join(places[:-1])
    part = _KEYED.get(outer) if first["type"] == "extra_forbidden" else None
    if part is not None:
        return f"{outer}.{places[-1]}: {outer} has no key '{places[-1]}'; {nearest(places[-1], part.model_fields)}"
    if first["type"] == "literal_error":
        expected = str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
        given = first["input"] if isinstance(first["input"], str) else shown(first["input"])
        return f"{'.'.join(places)}: got {shown(first['input'])}; {nearest(given, expected.split(', '))}"
    return sentence(error, "", Config.model_fields)
