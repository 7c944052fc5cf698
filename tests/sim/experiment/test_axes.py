"""Ranges, named axes and exclusions of grids."""

import re

import numpy as np
import pytest
import yaml

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.grids.exclusions import agrees
from basinet.sim.experiment.grids.ranges import choices

BASE = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "ring", "agents": 9},
    "strategy": "diffusion",
    "steps": 5,
    "replicas": 1,
}
SIZE = {"size": {"batch_size": [8, 32], "optimizer.lr": [0.1, 0.4]}}


def found(key, **change):
    """Return what `key` says of each run of a grid."""
    return [key(config) for config in Experiment(BASE | change).runs.values()]


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"range": [0, 6, 2]}, [0, 2, 4]),
        ({"range": [5, 0, -2]}, [5, 3, 1]),
        ({"range": [0.1, 0.4, 0.1]}, [0.1, 0.2, 0.3]),  # exactly, and without the stop
        ({"range": [0, 1, 0.25]}, [0.0, 0.25, 0.5, 0.75]),
        ({"linear": [8, 32, 4]}, [8, 16, 24, 32]),
        ({"linear": [0, 1, 3]}, [0.0, 0.5, 1.0]),
        ({"linear": [0.1, 0.5, 5]}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"linear": [np.int64(1), np.float64(0), 2]}, [1.0, 0.0]),
        ({"log": [8, 64, 4]}, [8, 16, 32, 64]),
        ({"log": [0.001, 1, 4]}, [0.001, 0.01, 0.1, 1.0]),
        ({"log": [1, 10, 3]}, [1.0, 3.16227766017, 10.0]),
    ],
)
def test_ranges(given, values):
    made = choices("key", given)
    assert made == values
    assert [type(value) for value in made] == [type(value) for value in values]


@pytest.mark.parametrize("given", [3, {}, {"name": "sgd"}, {"range": [0, 3, 1], "log": [1, 2, 3]}])
def test_what_is_no_range_is_a_single_value(given):
    assert choices("key", given) is None


RING = {"name": "ring", "agents": 4}


@pytest.mark.parametrize(
    ("value", "wanted", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (None, None, True),
        (RING, "ring", True),
        (RING, {"agents": 4}, True),
        (RING, {"name": "ring", "agents": 5}, False),
        ("ring", {"name": "ring"}, True),
        ("ring", RING, False),
        (RING, ["torus", "ring"], True),
        ([6], [6], True),
        ([6], [[5], [6]], True),
        ([6], 6, False),
    ],
)
def test_values_agree_with_what_is_asked_for(value, wanted, same):
    assert agrees(value, wanted) is same


@pytest.mark.parametrize(
    ("path", "given", "values"),
    [
        ("seed", {"range": [0, 3, 1]}, [0, 1, 2]),
        ("optimizer.lr", {"log": [0.01, 1, 3]}, [0.01, 0.1, 1.0]),
        ("task.partition.alpha", {"linear": [0.5, 1.5, 3]}, [0.5, 1.0, 1.5]),
        ("gradient_noise.size", {"linear": [0.5, 1, 2]}, [0.5, 1.0]),
    ],
)
def test_a_range_is_an_axis_on_any_key(tmp_path, path, given, values):
    extra = {"task": {"name": "digits", "partition": "dirichlet"}, "gradient_noise": {"law": "gaussian", "size": 1}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(BASE | extra))
    runs = Experiment.load(tmp_path / "e.yaml", [f"{path}={given}".replace("'", "")]).runs
    assert list(runs) == [f"diffusion-atc_{path.split('.')[-1]}={value}" for value in values]
    described = [config.describe() for config in runs.values()]
    for word in path.split("."):
        described = [part[word] for part in described]
    assert described == values


def test_the_keys_of_a_named_axis_go_together():
    pairs = found(lambda run: (run.batch_size, run.optimizer.settings["lr"]), axes=SIZE)
    assert pairs == [(8, 0.1), (32, 0.4)]
    nested = {"size": {"batch_size": {"log": [8, 32, 2]}, "optimizer": {"lr": {"linear": [0.1, 0.4, 2]}}}}
    assert found(lambda run: (run.batch_size, run.optimizer.settings["lr"]), axes=nested) == pairs
    both = Experiment(BASE | {"axes": SIZE, "seed": [0, 1], "strategy": ["centralized", "consensus"]})
    assert list(both.runs)[:3] == [
        "centralized_size=8-0.1_seed=0",
        "centralized_size=8-0.1_seed=1",
        *list(both.runs)[2:3],
    ]
    assert len(both.runs) == 8


def test_an_axis_of_strategies_leaves_them_comparable():
    axes = {"method": {"strategy": ["diffusion", "consensus"], "optimizer.lr": [0.1, 0.4]}}
    runs = Experiment(BASE | {"axes": axes}).runs.values()
    assert [(run.strategy.name, run.strategy_keys) for run in runs] == [
        ("diffusion", ("optimizer.lr",)),
        ("consensus", ("optimizer.lr",)),
    ]


def test_the_command_line_goes_before_axes_and_exclusions(tmp_path):
    given = {
        "axes": SIZE,
        "strategy": ["centralized", "diffusion"],
        "exclude": [{"strategy": "centralized", "seed": 0}],
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(BASE | given | {"seed": [0, 1]}))

    def runs(*words):
        return list(Experiment.load(tmp_path / "e.yaml", words).runs)

    assert runs("batch_size=4", "strategy=diffusion", "seed=0") == ["diffusion-atc_size=0.1", "diffusion-atc_size=0.4"]
    assert runs("batch_size=4", "optimizer.lr=1", "seed=1") == ["centralized", "diffusion-atc"]
    assert runs("axes.size.batch_size=[1,2]", "seed=0") == ["diffusion-atc_size=1-0.1", "diffusion-atc_size=2-0.4"]
    with pytest.raises(ExperimentError, match=r"axes\.a: an axis without values"):
        runs("axes={a: {}}")
    given["exclude"][0]["strategy.name"] = given["exclude"][0].pop("strategy")
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(BASE | given | {"seed": [0, 1]}))
    assert len(runs("strategy=diffusion")) == 4
    with pytest.raises(ExperimentError, match="'seed': 7} leaves out nothing"):
        runs("seed=0", "exclude={seed: 7}")


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        (
            {"strategy": "centralized", "topology.name": ["ring", "torus"]},
            ["c complete", "d ring", "d torus", "d complete"],
        ),
        ([{"strategy": {"name": "centralized"}}, {"topology": "ring"}], ["d torus", "d complete"]),
        ({"optimizer.lr": 0.1, "topology": ["ring", "torus"]}, ["c complete", "d complete"]),  # a default
        ({"model.hidden": [6], "strategy": "diffusion"}, ["c ring", "c torus", "c complete"]),  # a list is one value
    ],
)
def test_exclusions(excluded, left):
    grid = {"strategy": ["centralized", "diffusion"], "topology": {"name": ["ring", "torus", "complete"], "agents": 9}}
    names = found(lambda run: f"{run.strategy.name[0]} {run.topology.component.name}", **grid, exclude=excluded)
    assert sorted(names) == sorted(left)


def test_exclusions_know_cases_and_named_axes():
    cases = {"a": {"seed": 1}, "b": {"seed": 2}}
    excluded = [{"case": "a", "size": "8-0.1"}, {"case": "b", "batch_size": {"linear": [32, 64, 2]}}]
    runs = found(lambda run: (run.case, run.batch_size), cases=cases, axes=SIZE, exclude=excluded)
    assert runs == [("a", 32), ("b", 8)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": {"range": [0, 6, 0]}}, "seed: got {'range': [0, 6, 0]}; a range with a step of 0 never ends"),
        ({"seed": {"range": [0, 6, -1]}}, "its step leads away from its stop"),
        ({"seed": {"range": [3, 3, 1]}}, "or there is no way to go"),
        ({"seed": {"linear": [0, 1, 1]}}, "the number of values must be an integer of 2 or more"),
        ({"optimizer": {"name": "sgd", "lr": {"log": [1, -1, 3]}}}, "the ends of a logarithmic range must be positive"),
        ({"seed": {"range": [0, 1e9, 1]}}, "it has 1,000,000,000 values, and a grid has at most 100,000 runs"),
        ({"seed": {"linear": [0, 1, 1e6]}}, "the number of values must be an integer of 2 or more"),
        ({"seed": {"linear": [0, 1, 10**9]}}, "it has 1,000,000,000 values"),
        ({"seed": {"range": [0, 6]}}, "allowed is range: [start, stop, step], three finite numbers"),
        ({"seed": {"linear": [0, float("inf"), 3]}}, "three finite numbers"),
        ({"seed": {"log": [0, 1, True]}}, "three finite numbers"),
        ({"optimizer": {"name": "sgd", "lr": {"log": [0, 1, 3]}}}, "optimizer.lr: got {'log': [0, 1, 3]}; the ends of"),
        ({"seed": {"range": [0, 1000, 1]}, "batch_size": {"range": [1, 102, 1]}}, "the grid has 101,000 runs or more"),
        ({"axes": {"a": {"seed": {"range": [0, 1000, 1]}}, "b": {"batch_size": {"range": [1, 102, 1]}}}}, "101,000"),
        ({"axes": []}, "axes: got []; allowed is a mapping from names of axes"),
        (
            {"axes": {"size": {"batch_size": [8, 32], "seed": [1]}}},
            "need equally many values, got 2 of batch_size, 1 of",
        ),
        ({"axes": {"size": {"batch": [8, 32]}}}, "axes.size: an experiment has no key 'batch'"),
        ({"axes": {"size": {"batch_size": 8}}}, "axes.size.batch_size: got 8; allowed are lists and ranges"),
        ({"axes": {"size": {"batch_size": []}}}, "axes.size: an axis without values leaves nothing to run"),
        ({"axes": {"seed": {"batch_size": [8]}}}, "axes: got the name 'seed'; an axis needs one without dots that is"),
        ({"axes": {"": {"batch_size": [8]}}}, "axes: got the name ''"),
        ({"axes": {"a.b": {"batch_size": [8]}}}, "axes: got the name 'a.b'"),
        ({"seed": {"range": [0, 10**400, 1]}}, "three finite numbers"),
        ({"optimizer": {"name": "sgd", "lr": [1, 0.1, 1.0]}}, "optimizer.lr: got [1, 0.1, 1.0], where 1 is twice"),
        ({"strategy": ["diffusion", "diffusion"]}, "strategy: got ['diffusion', 'diffusion'], where 'diffusion' is"),
        ({"axes": SIZE | {"b": {"batch_size": [1]}}}, "axes.b: batch_size is on the axis size, too"),
        ({"axes": SIZE, "cases": {"x": {"batch_size": 1}}}, "axes.size: batch_size is set by the case x, too"),
        ({"exclude": "ring"}, "exclude: got 'ring'; allowed is a list of mappings"),
        ({"exclude": {"strategie": "diffusion"}}, "exclude: an experiment has no key 'strategie'"),
        ({"exclude": {"seed": 3}}, "exclude: {'seed': 3} leaves out nothing: no run has these values"),
        ({"exclude": {"optimizer.rate": 3}}, "leaves out nothing: no run has the key 'optimizer.rate'"),
        ({"exclude": {"seed": 0}}, "exclude: all runs of the grid are left out"),
    ],
)
def test_a_mistake_is_one_sentence(change, sentence):
    with pytest.raises(ExperimentError, match=re.escape(sentence)):
        Experiment(BASE | change)
