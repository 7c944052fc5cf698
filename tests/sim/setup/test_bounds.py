"""Numbers that make no sense, and sizes that nothing can hold, are refused at once, in one short sentence."""

import inspect
import math
import shutil
from contextlib import nullcontext
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pytest
import torch
from pydantic import Field

from basinet.sim.experiment.component import ExperimentError, Kind
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.mistakes import shown
from basinet.sim.run.simulation import prepare
from basinet.sim.setup import room
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.memory import memory, require_memory

BASE: dict[str, Any] = {
    "task": {"name": "digits", "partition": {"name": "dirichlet"}},
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "ring", "agents": 4, "policy": "lazy"},
    "strategy": "diffusion",
    "analysis": [],
    "steps": 4,
    "replicas": 1,
    "runtime": {"device": "cpu"},
}

LINK = {"bandwidth": "1 Gb/s", "latency": "1 us"}

NEEDED = {
    "passes": {"value": 1.0},
    "risk_above": {"level": 1.0},
    "resnet": {"norm": "none"},
    **{
        name: {"path": "x"} for name in ("huggingface", "image_folder", "shards", "astra", "links", "simai", "underlay")
    },
    "bursts": {"loss": 0.1, "burst": 2.0},
    "crashes": {"probability": 0.1},
    "link_delay": {"steps": 3},
    "pauses": {"agents": [0], "at": 3},
    "stalls": {"agents": [0], "at": 3, "time": "1 s"},
    "latencies": {"path": "x", "kind": "rtt", "unit": "ms"},
    "positions": {"path": "x", "bandwidth": "1 Gb/s"},
    "published": {"table": "gaia"},
    "fat_tree": {"leaves": 2, "hosts_per_leaf": 2, "uplinks": 1, "host": LINK, "spine": LINK},
    "hierarchy": {"nodes": 2, "agents_per_node": 2, "inside": LINK, "between": LINK},
    "table": {"path": "x", "target": "y"},
}
NEEDED["wide_resnet"] = NEEDED["resnet"]
NEEDED["flops"] = {"rate": "1 TFLOP/s"}
NEEDED["rails"] = NEEDED["hierarchy"]

NONSENSE = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    np.True_,
    np.float32("nan"),
    1e300,
    -1e300,
    10**40,
    -(10**40),
    10**5000,
]


def kinds_of_number(annotation: Any) -> set[type]:
    """Find which numbers a type of a signature takes; those of a Literal say themselves what they may be."""
    if annotation in (int, float):
        return {annotation}
    if annotation is Literal:
        return set()
    return set().union(*(kinds_of_number(part) for part in get_args(annotation) if not isinstance(part, str)))


NUMERIC = [
    (kind, name, setting, kinds_of_number(parameter.annotation))
    for kind in KINDS.values()
    for name in kind.registry
    for setting, parameter in kind.settings(name).items()
    if kinds_of_number(parameter.annotation)
]


@pytest.mark.parametrize(
    ("kind", "name", "setting", "numbers"),
    NUMERIC,
    ids=[f"{kind.key}-{name}-{setting}" for kind, name, setting, _ in NUMERIC],
)
def test_no_component_takes_a_number_that_makes_no_sense(kind, name, setting, numbers):
    needed = NEEDED.get(name, {"mean": "1 ms"} if kind.key == "compute" else {})
    for value in NONSENSE:
        if setting == "clip" and type(value) in (int, float) and value > 0:  # none is too large
            continue
        for given in (value, [value], [1, value]):
            with pytest.raises(ExperimentError) as error:
                kind.parse({"name": name, **needed, setting: given})
            said = str(error.value)
            assert said.startswith(f"{kind.key}.{setting}: ") and len(said) <= 300 and "\n" not in said
    if numbers == {int}:
        with pytest.raises(ExperimentError, match=rf"^{kind.key}.{setting}: "):
            kind.parse({"name": name, **needed, setting: 1.5})


def test_no_clipping_is_a_norm_that_may_be_infinite():
    for name in ("nsgd", "nsgdc", "clipped_sgd"):
        assert KINDS["optimizer"].parse({"name": name, "clip": math.inf}).settings == {"clip": math.inf}


def test_the_sweep_finds_what_there_is_to_set():
    found = {f"{kind.key}.{name}.{setting}" for kind, name, setting, _ in NUMERIC}
    assert len(found) > 150
    assert {"optimizer.sgd.lr", "model.mlp.hidden", "schedule.cosine.warmup", "escape.risk_above.level"} <= found


KEYS = [
    "seed", "steps", "epochs", "replicas", "batch_size", "evaluate_every", "keep_every", "analysis_samples",
    "evaluate_samples",
    "analysis_memory", "runtime.threads", "runtime.actors", "runtime.cpus_per_actor", "runtime.gpus_per_actor",
    "topology.agents", "escape.every", "trajectory.megabytes", "gradient_noise.tail", "gradient_noise.size",
    "gradient_noise.p", "gradient_noise.multiplicative",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_no_key_takes_a_number_that_makes_no_sense(key):
    outer, _, last = key.rpartition(".")
    parts = {
        "escape": {"name": "risk_above", "level": 1},
        "gradient_noise": {"law": "student", "tail": 3, "size": 1},
        "trajectory": {"points": "centroid"},
    }
    for value in [*NONSENSE, -1, [[1]]]:
        changed = {
            **BASE,
            **({outer: {**BASE.get(outer, parts.get(outer, {})), last: value}} if outer else {key: value}),
        }
        if key == "epochs":
            del changed["steps"]
        with pytest.raises(ExperimentError) as error:
            Experiment(changed)
        assert str(error.value).startswith((f"{key}: ", f"{key} is ")) and len(str(error.value)) <= 300


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 1.0}}, r"^optimizer.momentum: got 1.0, which"),
        ({"optimizer": {"name": "sgd", "lr": 0.1, "dampening": 2}}, r"^optimizer.dampening: "),
        ({"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": -1}}, r"^optimizer.weight_decay: got -1"),
        ({"optimizer": {"name": "adam", "betas": [0.9, 1.0]}}, r"^optimizer.betas: got 1.0"),
        ({"optimizer": {"name": "torch.optim:RMSprop", "lr": math.nan}}, r"^optimizer.lr: got nan"),
        ({"optimizer": {"name": "torch.optim:RMSprop", "momentum": 2}}, r"^optimizer.momentum: got 2"),
        ({"optimizer": {"name": "nsgdm", "tuned": {"steps": math.inf}}}, r"^optimizer.tuned: got inf, which"),
        ({"task": {"name": "quadratic", "noise": {"law": "student", "tail": math.nan}}}, r"^task.noise: got nan"),
        ({"task": {"name": "quadratic", "curvature": []}}, r"^task: curvature has 0 values"),
        ({"trajectory": 5}, r"^trajectory: got 5, where a name or a mapping is needed$"),
        ({"attack": {"name": "dissensus", "agents": []}}, r"^attack: give either agents, .* such as 0.2$"),
        ({"steps": 10**18}, r"^steps: got 10{18}, which should be less than or equal to 10{12}$"),
        ({"steps": None, "epochs": 1e30}, r"^epochs: got 1e\+30, which are .* steps; allowed are 1e\+12"),
        ({"schedule": {"name": "constant", "warmup": 10**18}}, r"^schedule.warmup: "),
        ({"analysis_points": []}, r"^analysis_points: got \[\], where more values are needed"),
        ({"analysis_views": []}, r"^analysis_views: got \[\]"),
        ({"seed": []}, r"^seed: an empty list leaves nothing to run"),
        ({"topology": {"name": "ring", "agents": []}}, r"^topology.agents: an empty list leaves nothing to run"),
        ({"seed": [[1]]}, r"^seed: got \[1\] as one of several values; allowed are single values"),
        ({"strategy": ["diffusion", ["consensus"]]}, r"^strategy: got \['consensus'\] as one of several values"),
        ({"batch_size": 1438}, r"^batch_size: got 1438, but the task has 1437 training samples; allowed are at most"),
        ({"topology": {"name": "complete", "agents": 20_000}}, r"^topology: .* 199,990,000 edges, .* 10,000,000$"),
        ({"topology": {"name": "barbell", "agents": 20_000}}, r"^topology: barbell: there would be 99,990,000 edges"),
        ({"topology": {"name": "random_geometric", "agents": 20_000, "radius": 1.0}}, r"^topology: .* edges"),
        ({"topology": {"name": "paley", "agents": 1_000_033}}, r"^topology: paley: .* edges"),
        ({"topology": {"name": "random_matchings", "agents": 16, "period": 10**9}}, r"^topology: .* 8,000,000,000 "),
        ({"topology": {"name": "hyper_hypercube", "agents": 2**14, "peers": 2**14}}, r"^topology: .* 134,209,536 "),
        ({"topology": {"name": "ring", "agents": 10**9}}, r"^topology: ring: topology.agents is 10{9}, but"),
        ({"task": {"name": "logistic", "samples": 10**9, "dimension": 10**6}}, r"^task: logistic: the samples would "),
        ({"model": {"name": "mlp", "hidden": [10**6] * 3}}, r"^replicas: .* 2,000,077,000,010 parameters "),
        ({"replicas": 10**9}, r"^replicas: 1,000,000,000 replicas of 4 agents with 460 parameters"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_or_cannot_fit_is_refused(change, sentence):
    with pytest.raises(ExperimentError, match=sentence) as error:
        for config in Experiment({**BASE, **change}).runs.values():
            build_setup(config)
    assert len(str(error.value)) <= 300


def own(
    params=None,
    *,
    plain: float = 1.0,
    any_float: Annotated[float, Field(allow_inf_nan=True)] = 1.0,
    maybe: float | None = None,
    many: tuple[float, ...] = (),
    unsaid=1.0,
    **more: Any,
) -> None:
    """A maker of the user's own."""


@pytest.mark.parametrize("setting", inspect.signature(own).parameters)
def test_settings_of_the_users_own_are_finite_unless_they_say_otherwise(setting):
    kind = Kind("thing", {}, ("params",))
    for value in (math.nan, math.inf, -math.inf):
        given = {"name": own, setting: [value] if setting == "many" else value}
        if setting == "any_float":
            assert repr(kind.parse(given).settings[setting]) == repr(value)
        elif setting != "params":
            with pytest.raises(ExperimentError, match=rf"^thing.{setting}: got {value}, which should "):
                kind.parse(given)


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, [1.0] * 1000, {str(n): n for n in range(1000)}, 10**5000, [[[[10**5000]]]], "x y " * 9999],
    ids=["text", "list", "mapping", "integer", "nested", "words"],
)
def test_what_was_given_is_repeated_in_short(value):
    assert len(shown(value)) <= 100
    for key in ("optimizer", "seed", "skip", "trajectory", "analysis", "gradient_noise", "task", "model", "start"):
        with pytest.raises(ExperimentError) as error:
            Experiment({**BASE, key: value})
        assert len(str(error.value)) <= 1000, key
    with pytest.raises(ExperimentError) as error:
        Experiment({**BASE, "x" * 100_000: 1})
    assert len(str(error.value)) <= 1000


def test_what_the_machine_has_decides(monkeypatch):
    assert 0 < memory() < 2**60
    with pytest.raises(ValueError, match=r"^the rows would take 16 PiB of memory, and this process has [0-9.]+ .iB$"):
        require_memory(2**54, "the rows")
    config = Config.parse({**BASE, "replicas": 3, "optimizer": "adam"})
    setup = build_setup(config)
    assert setup.num_parameters == 64 * 6 + 6 + 6 * 10 + 10
    # Two moments, and the number of steps that have been taken.
    assert 8 * setup.num_parameters <= setup.remembered <= 8 * setup.num_parameters + 8 * 4
    samples, batch = len(setup.task.train[0]), config.batch_size * (64 * 4 + 8)
    wanted = 3 * (4 * (8 * setup.num_parameters + setup.remembered + batch) + 8 * samples)
    monkeypatch.setattr(room, "memory", lambda: wanted)
    build_setup(config)
    monkeypatch.setattr(room, "memory", lambda: wanted - 1)
    with pytest.raises(ExperimentError, match=r"^replicas: 3 replicas of 4 agents with 460 parameters each take"):
        build_setup(config)
    # Of the machines of a cluster nothing is known.
    build_setup(Config.parse({**BASE, "replicas": 3, "optimizer": "adam", "runtime": {"name": "ray", "actors": 2}}))


def test_a_share_of_the_ranks_is_on_this_machine(monkeypatch):
    config = Config.parse({**BASE, "runtime": {"name": "torchrun", "device": "cpu"}}).runtime
    sizes = {"replicas": 1, "agents": 8, "parameters": 100}
    monkeypatch.setattr(room, "memory", lambda: 8 * 800 - 1)
    room.check_memory(config, **sizes)  # without ranks nothing is known of their machines
    world = {"RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234"}
    for name, value in (world | {"LOCAL_WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    room.check_memory(config, **sizes)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(ExperimentError, match=r"6.25 KiB of memory or more"):
        room.check_memory(config, **sizes)


@pytest.mark.parametrize("name", ["inline", "torchrun"])
def test_the_memory_of_a_gpu_bounds_the_share_of_its_rank(monkeypatch, name):
    config = Config.parse({**BASE, "runtime": {"name": name, "device": "cuda"}}).runtime
    world = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1234", "LOCAL_RANK": "0"}
    for variable, value in world.items():
        monkeypatch.setenv(variable, value)
    agents = 8 * (4 if name == "torchrun" else 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(room, "memory", lambda: 0)  # that of the host does not matter
    for size, fits in ((8 * 800, True), (8 * 800 - 1, False)):
        found = type("Properties", (), {"total_memory": size})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=found: found)
        with nullcontext() if fits else pytest.raises(ExperimentError, match=r"and cuda(:0)? has 6.25 KiB"):
            room.check_memory(config, replicas=1, agents=agents, parameters=100)


def test_what_the_disk_cannot_hold_is_refused_before_anything_is_written(monkeypatch, tmp_path):
    parameters = 460 * 4
    keys = {**BASE, "steps": 100, "keep_every": 1, "evaluate_every": 1, "trajectory": "agents", "replicas": 2}
    # The last checkpoint but one is there as well, as long as the run goes on.
    wanted = 102 * 2 * 4 * parameters + (256 + 101 * 2 * 5 * parameters) + 101 * 2 * 60
    free = wanted
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    out = tmp_path / "not" / "yet" / "there"
    free = wanted - 1
    with pytest.raises(
        ExperimentError, match=r"^--out: the experiment writes 3.22 MiB or more \(checkpoints 1.43 MiB, "
    ):
        prepare(Experiment(keys), out)
    assert not any(tmp_path.iterdir())
    free = wanted
    prepare(Experiment(keys), out)
    free = wanted - 1  # what the folder holds already counts as room
    prepare(Experiment(keys), out)


def test_meta_tensors_count_the_parameters_of_all_built_in_models():
    for name, settings in {
        "mlp": {},
        "cnn": {},
        "softmax": {},
        "linear": {},
        "point": {"start": 2.0},
        **NEEDED,
    }.items():
        if name in KINDS["model"].registry:
            component = KINDS["model"].parse({"name": name, **settings})
            given = {"input_shape": (5,) if name == "linear" else (3, 8, 8), "num_outputs": 4}
            task = type("Images", (), {"model_arguments": given, "model": "mlp"})()
            with torch.random.fork_rng(devices=[]):
                made = component.make(**given)
            config = Config.parse(BASE | {"model": component})
            assert room.parameters_of(config, task) == sum(p.numel() for p in made.parameters()) > 0
