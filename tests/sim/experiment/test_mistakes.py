"""What code of the user's own raises becomes one sentence: key, name, what was raised, and the line in their code."""

import sys
import threading

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from basinet.algorithms.attacks import Attack
from basinet.algorithms.strategies import Diffusion
from basinet.sim.experiment.component import ExperimentError, Kind
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.mistakes import first_line, user_code
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Task

INPUTS, TARGETS = torch.linspace(-1, 1, 48).view(12, 4), torch.arange(12) % 3

BASE = {
    "task": (INPUTS, TARGETS),
    "model": nn.Linear(4, 3),
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "batch_size": 2,
    "steps": 4,
    "replicas": 1,
    "analysis": [],
    "runtime": {"device": "cpu"},
}


class OddError(Exception):
    """An error of the user's own, with a text of many lines."""

    def __str__(self):
        return "\n\n  it went wrong:\n  the second line\n  the third line"


error: type[Exception] = OddError
armed = True


def fail(*_, **__):
    if armed:
        raise error("it went wrong")


PLACE = f"test_mistakes.py:{fail.__code__.co_firstlineno + 2})"


class Net(nn.Linear):
    def __init__(self, begins=True):
        super().__init__(4, 3)
        if not begins:
            fail()

    def forward(self, x):
        fail()
        return super().forward(x)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        fail()


class OfLoss(Task):
    def objective(self, model, batch):
        fail()
        return super().objective(model, batch)


class OfMetrics(Task):
    def evaluate(self, model, *, chunk=4096):
        fail()
        return super().evaluate(model, chunk=chunk)


class Strategy:
    def __init__(self, begins=True, checks=True):
        self.checks = checks
        if not begins:
            fail()

    def check(self, weights):
        if not self.checks:
            fail()

    def step(self, block):
        fail()
        Diffusion().step(block)


class Optimizer(torch.optim.SGD):
    def __init__(self, params, lr=0.1, begins=True):
        super().__init__(params, lr)
        if not begins:
            fail()

    def step(self, closure=None):
        fail()
        return super().step(closure)


class Choosing(Attack):
    lies = True

    def attackers(self, num_agents, seed, replica):
        fail()
        return np.arange(num_agents) == 0

    def messages(self, sent):
        return sent.true


class Lying(Choosing):
    def attackers(self, num_agents, seed, replica):
        return np.arange(num_agents) == 0

    def messages(self, sent):
        fail()
        return sent.true


def task(kind):
    return kind(train=(INPUTS, TARGETS), num_outputs=3)


def generator(num_agents):
    yield [0]
    fail()


COMPONENTS = {
    "model: ": {"model": {"name": Net, "begins": False}},
    "model: Net": {"model": Net},
    "task: ": {"task": lambda: fail()},
    "task: Data": {"task": Data()},
    "task: OfLoss": {"task": task(OfLoss)},
    "task: OfMetrics": {"task": task(OfMetrics)},
    "task.partition: ": {"task": {"name": lambda: (INPUTS, TARGETS), "partition": lambda num_agents: fail()}},
    "task.partition: generator": {"task": {"name": lambda: (INPUTS, TARGETS), "partition": generator}},
    "task.augmentation: ": {
        "task": {"name": lambda: (INPUTS.view(12, 1, 2, 2), TARGETS), "augmentation": lambda images: fail()},
        "model": nn.Sequential(nn.Flatten(), nn.Linear(4, 3)),
    },
    "topology: ": {"topology": {"name": lambda num_agents: fail(), "agents": 4}},
    "topology.policy: ": {"topology": {"name": nx.cycle_graph(4), "policy": lambda graph: fail()}},
    "strategy: begins": {"strategy": {"name": Strategy, "begins": False}},
    "strategy: checks": {"strategy": {"name": Strategy, "checks": False}},
    "strategy: Strategy": {"strategy": Strategy},
    "optimizer: begins": {"optimizer": {"name": Optimizer, "begins": False}},
    "optimizer: Optimizer": {"optimizer": Optimizer},
    "schedule: ": {"schedule": lambda t: fail()},
    "escape: ": {"escape": lambda centroids: fail()},
    "attack: Choosing": {"attack": {"name": Choosing, "agents": [0]}},
    "attack: Lying": {"attack": {"name": Lying, "agents": [0]}},
}


@pytest.mark.parametrize("raised", [OddError, StopIteration, ValueError])
@pytest.mark.parametrize("what", COMPONENTS)
def test_what_a_component_raises_is_a_sentence_with_the_place(what, raised, monkeypatch):
    monkeypatch.setattr(f"{__name__}.error", raised)
    with pytest.raises(ExperimentError) as found:
        build_setup(Config.parse(BASE | COMPONENTS[what]))
    said = str(found.value)
    named = "item 0 of train" if what == "task: Data" else f"{__name__}:"
    assert said.startswith(f"{what.split(':')[0]}: ") and named in said and PLACE in said
    assert "\n" not in said and "third line" not in said
    causes = [found.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], raised)


@pytest.mark.parametrize("what", ["model: Net", "task: OfLoss", "task: OfMetrics", "strategy: Strategy", "schedule: ",
                                  "optimizer: Optimizer", "attack: Lying"])  # fmt: skip
def test_what_fails_in_a_run_is_the_same_sentence_and_the_traceback_is_kept(what, monkeypatch, tmp_path):
    monkeypatch.setattr(f"{__name__}.armed", False)
    setups = prepare(Experiment(BASE | WORKING.get(what, COMPONENTS[what])), tmp_path)
    monkeypatch.setattr(f"{__name__}.armed", True)
    (state,) = simulate(setups, tmp_path, Silent(), threading.Event()).values()
    (name,) = setups
    status = load_run(tmp_path / name).status
    assert state == "failed" == status["state"]
    assert status["error"].startswith(f"{what.split(':')[0]}: {__name__}:") and PLACE in status["error"]
    assert "OddError: it went wrong: the second line" in status["error"] and "third" not in status["error"]
    assert "raise error" in status["traceback"] and "the direct cause" in status["traceback"]


def falling(t):
    fail()
    return 1.0


WORKING = {"schedule: ": {"schedule": falling}}
"""Those that do what they should when nothing fails."""


class Silent:
    def started(self, *_):
        pass

    advanced = waiting = analyzing = finished = started


def test_an_interruption_is_none_of_it():
    with pytest.raises(KeyboardInterrupt), user_code(built_in(None)):
        raise KeyboardInterrupt


def built_in(error):
    def make():
        raise error

    return Kind("thing", {"given": make}).parse("given")


def test_a_defect_of_what_is_built_in_stays_what_it_is():
    with pytest.raises(ExperimentError, match=r"^thing: too wide \(") as found:
        built_in(ValueError("too wide")).make()
    assert isinstance(found.value.__cause__, ValueError)
    for defect in (KeyError("width"), TypeError("no"), AssertionError(), ZeroDivisionError()):
        with pytest.raises(type(defect)) as raised:
            built_in(defect).make()
        assert raised.value is defect


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (ValueError("too wide"), "too wide"),
        (KeyError("width"), "KeyError: 'width'"),
        (AssertionError(), "AssertionError"),
        (OddError(), "it went wrong: the second line"),
        (RuntimeError("one\ntwo"), "one"),
        (RuntimeError("x" * 1000), "x" * 300 + "…"),
        (ExperimentError("y " * 400), "y " * 400),
    ],
)
def test_any_text_gives_one_good_line(raised, line):
    assert first_line(raised) == line


def test_a_module_that_cannot_be_imported_names_the_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text, said in [
        ("raises_early", "import torch\n\nwidth = {}['width']\n", r"'width' \(raises_early.py:3\)"),
        ("does_not_parse", "import torch\ndef net(:\n", r"invalid syntax.* \(does_not_parse.py:2\)"),
    ]:
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(ExperimentError, match=rf"the module of '{name}:Net' cannot be imported: .*{said}"):
            Config.parse(BASE | {"model": f"{name}:Net"})


class OfAll(Task):
    def evaluate(self, model, *, chunk=4096):
        assert len(self.train[0]) == 12
        return {"train_loss": torch.tensor(1.5), "rank": np.float32(2)}


class Hub:
    """Knows how many agents there are."""

    def step(self, block):
        block.adapt(block.gradients())
        block.x.copy_(block.x[3].expand_as(block.x))


def test_a_strategy_may_be_for_as_many_agents_as_there_are():
    topology = {"name": "ring", "agents": 6}
    build_setup(Config.parse(BASE | {"strategy": Hub, "topology": topology, "replicas": 1}))
    with pytest.raises(ExperimentError, match=r"^strategy: .*Hub raises IndexError: "):
        build_setup(Config.parse(BASE | {"strategy": Hub, "topology": topology | {"agents": 3}, "replicas": 1}))


class Leaves(nn.Linear):
    def forward(self, x):
        sys.exit(0)


class Unnamed(nn.Linear):
    def named_parameters(self, *args, **kwargs):
        return {}["name"]


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


class Broken(nn.Linear):
    def forward(self, x):
        raise Mute


class Trained(nn.Linear):
    def forward(self, x):
        return super().forward(x) if self.training else {}["evaluation"]


def word(t, num_steps):
    return "fast"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"model": Leaves(4, 3)}, r"^your code asks to end the process \(SystemExit: 0 \(.*test_mistakes.py:\d+\)\)"),
        ({"model": Unnamed(4, 3)}, r"^model: .*Unnamed raises KeyError: 'name' \(.*test_mistakes.py:\d+\)"),
        ({"model": Broken(4, 3)}, r"^model: .*: Mute \(.*test_mistakes.py:\d+\)"),
        ({"model": Trained(4, 3)}, r"^model: .*Trained raises KeyError: 'evaluation' \(.*test_mistakes.py:\d+\)"),
        ({"schedule": word}, r"^schedule: .*word returns 'fast', where a number is wanted"),
    ],
)
def test_odd_code_gets_a_sentence_too(keys, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        build_setup(Config.parse(BASE | keys))


class OfNothing(Task):
    def evaluate(self, model, *, chunk=4096):
        return {"accuracy": 1.0}


def test_a_task_may_measure_what_a_few_samples_do_not_have(tmp_path):
    setups = prepare(Experiment(BASE | {"task": task(OfAll)}), tmp_path)
    assert set(simulate(setups, tmp_path, Silent(), threading.Event()).values()) == {"done"}
    (name,) = setups
    row = load_run(tmp_path / name).metrics[-1]
    assert (row["train_loss"], row["rank"]) == (1.5, 2.0)
    with pytest.raises(ExperimentError, match=r"^task: .*OfNothing does not measure train_loss, .* but \['accuracy'"):
        build_setup(Config.parse(BASE | {"task": task(OfNothing)}))
