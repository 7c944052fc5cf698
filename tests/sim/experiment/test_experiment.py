"""Experiments: grids, overrides, and one sentence for each mistake."""

import sys

import networkx as nx
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from basinet.algorithms.optimizers import OptimizerTraits
from basinet.algorithms.strategies import STRATEGIES, baselines
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.launch.listing import list_components
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.grids.run_names import run_name
from basinet.sim.experiment.words import override
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from basinet.topologies import GraphSequence

BASE = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "steps": 5,
    "replicas": 1,
}


def test_a_list_makes_a_grid():
    e = Experiment(
        BASE | {"strategy": ["centralized", {"name": "diffusion", "order": ["atc", "cta"]}], "batch_size": [4, 8]}
    )
    assert list(e.runs) == [
        "centralized_batch_size=4",
        "centralized_batch_size=8",
        "diffusion-atc_batch_size=4",
        "diffusion-cta_batch_size=4",
        "diffusion-atc_batch_size=8",
        "diffusion-cta_batch_size=8",
    ]
    assert e.runs["centralized_batch_size=8"].batch_size == 8


CONFIG = Config.parse(BASE)


def graph(kind, name=""):
    made = kind(4)
    made.graph["name"] = name
    return made


class Heavy:
    def __init__(self, beta):
        self.beta = beta

    def step(self, block):
        block.adapt(block.gradients())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            lambda: {"topology": [graph(nx.cycle_graph), graph(nx.complete_graph)]},
            ["diffusion-atc_topology=Graph-1", "diffusion-atc_topology=Graph-2"],
        ),
        (
            lambda: {"topology": [graph(nx.cycle_graph, "my ring"), graph(nx.complete_graph)]},
            ["diffusion-atc_topology=my-ring", "diffusion-atc_topology=Graph"],
        ),
        (
            lambda: {
                "topology": [
                    GraphSequence([graph(kind), graph(nx.path_graph)]) for kind in (nx.cycle_graph, nx.complete_graph)
                ]
            },
            ["diffusion-atc_topology=GraphSequence-1", "diffusion-atc_topology=GraphSequence-2"],
        ),
        (
            lambda: {"model": [nn.Linear(64, 10), nn.Linear(64, 10)], "seed": [0, 1]},
            [f"diffusion-atc_model=Linear-{model}_seed={seed}" for model in (1, 2) for seed in (0, 1)],
        ),
        (lambda: {"strategy": [Heavy(0.1), Heavy(0.2), "diffusion"]}, ["Heavy-1", "Heavy-2", "diffusion-atc"]),
        (
            lambda: {"cases": {"a/b": {}, "a b": {}, "..": {}, "A/B": {"seed": 1}, "α": {}}},
            [f"diffusion-atc_{text}" for text in ("a-b-1", "a-b-2", "value-1", "A-B", "α")],
        ),
        (
            lambda: {"cases": {"A": {}, "a": {}}},  # one folder, where upper and lower case are the same
            ["diffusion-atc_A", "diffusion-atc_a-2"],
        ),
    ],
)  # fmt: skip
def test_runs_have_safe_names_of_their_own(change, names):
    assert list(Experiment(BASE | change()).runs) == names
    assert list(Experiment(BASE | change()).runs) == names


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "mlp", "hidden": [[64] * 90, [64] * 91]}},
        {"cases": {f"{'é字' * 90}{number}": {} for number in range(3)}},
        {"strategy": {"name": Heavy, "beta": ["../" * 90, "..\\" * 90]}},
        {"topology": [graph(nx.cycle_graph, "x" * 300), graph(nx.path_graph, "x" * 300)]},
    ],
)
def test_names_of_runs_are_bounded(change):
    check_names(list(Experiment(BASE | change).runs))


def test_names_of_runs_on_many_axes_are_bounded():
    check_names([run_name(CONFIG, dict.fromkeys(map(str, range(count)), "字" * 40)) for count in (1, 30)])


def check_names(names):
    assert len(set(names)) == len(names) > 1
    for name in names:
        assert len(name.encode()) < 200 and not set(name) & set("/\\\0 ")
        assert not name.startswith((".", "-")) and name.strip("-_=.+")


def test_equal_runs_are_refused():
    with pytest.raises(ExperimentError, match="two runs of the grid are the same"):
        Experiment(BASE | {"topology": [graph(nx.cycle_graph), graph(nx.cycle_graph)]})


def test_an_absurd_grid_is_refused_with_its_size():
    with pytest.raises(ExperimentError, match="the grid has 1,000,000,000 runs or more; allowed are at most 100,000"):
        Experiment(BASE | {key: list(range(1, 1001)) for key in ("seed", "batch_size", "steps")})


def test_a_strategy_brings_settings_of_the_experiment():
    e = Experiment(
        BASE
        | {
            "strategy": [
                {"name": "diffusion", "order": "cta", "optimizer.lr": 0.4},
                {"name": "consensus", "optimizer.lr": [0.2, 0.3], "batch_size": 8, "epochs": 2},
                "centralized",
            ],
            "batch_size": [4, 16],
        }
    )
    found = [(name, c.optimizer.settings["lr"], c.batch_size, c.epochs) for name, c in e.runs.items()]
    assert found == [
        ("diffusion-cta_batch_size=4", 0.4, 4, None),
        ("diffusion-cta_batch_size=16", 0.4, 16, None),
        ("consensus_lr=0.2", 0.2, 8, 2),
        ("consensus_lr=0.3", 0.3, 8, 2),
        ("centralized_batch_size=4", 0.1, 4, None),
        ("centralized_batch_size=16", 0.1, 16, None),
    ]
    assert e.runs["consensus_lr=0.2"].strategy_keys == ("optimizer.lr", "batch_size", "epochs")
    same = [{"name": "diffusion", "optimizer.lr": lr} for lr in (0.1, 0.2)]
    assert list(Experiment(BASE | {"strategy": same}).runs) == ["diffusion-atc_lr=0.1", "diffusion-atc_lr=0.2"]


def test_the_command_line_sets_and_overrules_what_a_strategy_brings(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(BASE))
    word = "strategy=[{name: diffusion, optimizer.lr: 0.5}, {name: slowmo, momentum: 0.3}]"
    rates = [c.optimizer.settings["lr"] for c in Experiment.load(file, [word]).runs.values()]
    assert rates == [0.5, 0.1]
    runs = Experiment.load(file, [word, "optimizer.lr=0.7"]).runs.values()
    assert [c.optimizer.settings["lr"] for c in runs] == [0.7, 0.7]
    assert [c.strategy.settings for c in runs] == [{}, {"momentum": 0.3}]


def test_a_list_that_is_one_value_is_no_grid():
    e = Experiment(
        BASE
        | {
            "model": {"name": "mlp", "hidden": [5, 6]},
            "topology": {"name": "torus", "agents": 4, "shape": [2, 2]},
        }
    )
    assert list(e.runs) == ["diffusion-atc"]
    e = Experiment(BASE | {"model": {"name": "mlp", "hidden": [[5], [6, 7]]}})
    assert list(e.runs) == ["diffusion-atc_hidden=5", "diffusion-atc_hidden=6x7"]
    assert e.runs["diffusion-atc_hidden=6x7"].model.settings["hidden"] == [6, 7]


def test_cases_change_several_keys_together():
    e = Experiment(BASE | {"cases": {"small": {"batch_size": 2, "optimizer.lr": 0.5}, "large": {"batch_size": 16}}})
    assert list(e.runs) == ["diffusion-atc_small", "diffusion-atc_large"]
    assert e.runs["diffusion-atc_small"].optimizer.settings == {"lr": 0.5}
    assert e.runs["diffusion-atc_large"].batch_size == 16


def test_overrides_from_the_command_line(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(BASE))
    e = Experiment.load(
        file,
        ["strategy=centralized,consensus", "model.hidden=[7,8]", "optimizer.lr=0.5", "task.partition.name=dirichlet",
         "task.partition.alpha=0.3", "topology.agents=6", "analysis=[]", "runtime.dtype=float64"],
    )  # fmt: skip
    config = e.runs["consensus"]
    assert list(e.runs) == ["centralized", "consensus"]
    assert config.model.settings["hidden"] == [7, 8]
    assert config.task.partition.settings == {"alpha": 0.3}
    assert (config.topology.agents, config.analysis, config.runtime.dtype) == (6, (), "float64")
    assert config.optimizer.settings["lr"] == 0.5


@pytest.mark.parametrize(
    ("case", "words", "expected"),
    [
        ({"optimizer.lr": 2.0}, ["optimizer={name: sgd, lr: 0.5}"], {"name": "sgd", "lr": 0.5}),
        ({"optimizer.lr": 2.0}, ["optimizer={name: sgd, momentum: 0.5}"], {"name": "sgd", "momentum": 0.5}),
        ({"optimizer.lr": 2.0}, ["optimizer=[{name: sgd, lr: 0.5}]"], {"name": "sgd", "lr": 0.5}),
        ({"optimizer.lr": 2.0}, ["optimizer=adam"], {"name": "adam", "lr": 2.0}),
        ({"optimizer": {"name": "sgd", "lr": 2.0}}, ["optimizer=adam"], {"name": "adam"}),
        ({"optimizer": {"name": "sgd", "lr": 2.0}}, ["optimizer.lr=0.5"], {"name": "sgd", "lr": 0.5}),
        (
            {"optimizer": {"name": "sgd", "lr": 2.0}, "optimizer.momentum": 0.9},
            ["optimizer.momentum=0.5"],
            {"name": "sgd", "lr": 2.0, "momentum": 0.5},
        ),
        ({"optimizer": "adam"}, ["optimizer.lr=0.5"], {"name": "adam", "lr": 0.5}),
        ({"batch_size": 2}, ["optimizer.lr=0.5"], {"name": "sgd", "lr": 0.5}),
    ],
)
def test_the_command_line_goes_before_a_case(tmp_path, case, words, expected):
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(BASE | {"optimizer": {"name": "sgd", "lr": 1.0}, "cases": {"a": case, "b": {}}}))
    runs = list(Experiment.load(file, words).runs.values())
    optimizer = next(run for run in runs if run.case == "a").optimizer
    assert {"name": optimizer.name, **optimizer.settings} == expected


@pytest.mark.parametrize("case", [{"task": {"name": "digits", "partition": "dirichlet"}}, {"task.partition": "iid"}])
def test_the_command_line_reaches_inside_what_a_case_nests(tmp_path, case):
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(BASE | {"cases": {"a": case}}))
    (run,) = Experiment.load(file, ["task.partition.name=dirichlet", "task.partition.alpha=0.25"]).runs.values()
    assert (run.task.partition.name, run.task.partition.settings) == ("dirichlet", {"alpha": 0.25})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batchsize": 3}, "batchsize: an experiment has no key 'batchsize'; allowed: .*; did you mean 'batch_size'"),
        ({"strategy": "difusion"}, "strategy: there is no strategy 'difusion'; allowed: .*; did you mean 'diffusion'"),
        ({"strategy": {"name": "diffusion", "order": "act"}}, "strategy.order: got 'act', which should be 'atc'"),
        ({"optimizer": {"name": "sgd", "lrr": 1}}, "optimizer.lrr: sgd has no setting 'lrr'; .*did you mean 'lr'"),
        ({"optimizer": {"name": "sgd", "lr": "fast"}}, "optimizer.lr: got 'fast', which should be a number"),
        ({"optimizer": {"name": "sgd", "lr": -1}}, "optimizer.lr: got -1, which should be greater than or equal to 0"),
        ({"batch_size": 0}, "batch_size: got 0, which should be greater than 0"),
        ({"steps": 2.5}, "steps: got 2.5, which should be a valid integer"),
        ({"steps": 5, "epochs": 3}, "give steps or epochs, not both"),
        ({"steps": 5, "samples": 3}, "give steps or samples, not both"),
        ({"topology": {"name": "ring"}}, "topology.agents: a value is needed"),
        ({"topology": {"name": "hypercube", "agents": 12}}, "topology: hypercube: topology.agents is 12, but must be"),
        ({"task": {"name": "quadratic", "num_agents": 3}}, "task.num_agents: quadratic has no setting 'num_agents'"),
        ({"topology": {"name": "ring", "agents": 4, "polcy": "uniform"}}, "polcy: ring has no setting 'polcy'"),
        ({"topology": {"name": "hypercube", "agents": 12}}, "topology: .*12.*power of two"),
        ({"topology": {"name": "torus", "agents": 12, "shape": [5, 2]}}, "topology: .*12"),
        ({"topology": nx.DiGraph([(0, 1), (1, 2), (2, 0)])}, "topology.policy: .*undirected.*uniform"),
        ({"topology": {"name": "ring", "agents": 2000}}, "task.partition: .*2000.*1437"),
        ({"topology": {"agents": 4}}, "topology.name: a mapping needs the key 'name'"),
        ({"task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": -1}}}, "task.partition.alpha: got -1"),
        ({"task": "mnist5"}, "task: there is no task 'mnist5'"),
        ({"model": "nowhere:Net"}, "model: the module of 'nowhere:Net' cannot be imported"),
        ({"model": "torch.nn:Linearr"}, "model: torch.nn has no attribute 'Linearr'; .*did you mean 'Linear'"),
        ({"model": {"name": "torch.nn:Linear", "in_features": 5, "out_features": 9}}, "Linear cannot be trained"),
        ({"model": "torch.optim:SGD"}, "model.params: torch.optim:SGD needs the setting 'params'"),
        ({"runtime": {"name": "slurm"}}, "runtime.name: got 'slurm'; allowed: inline, ray, torchrun"),
        ({"runtime": {"nam": "ray"}}, "runtime.nam: runtime has no key 'nam'; .*did you mean 'name'"),
        ({"runtime": {"device": "gpu0"}}, "runtime.device: got 'gpu0'; allowed are auto, cpu, cuda"),
        ({"runtime": {"name": "ray", "actors": 9}}, "runtime.actors: got 9; allowed are at most 4"),
        ({"analysis": ["hessian_trac"]}, "analysis: there is no measure 'hessian_trac'; .*mean 'hessian_trace'"),
        ({"schedule": "cosin"}, "schedule: there is no schedule 'cosin'"),
        (
            {"strategy": {"name": "diffusion", "bach_size": 3}},
            r"strategy.bach_size: diffusion has no setting 'bach_size', nor is it a key of the experiment; allowed are"
            r" its own settings \(order, rounds\) and keys of the experiment, .*did you mean 'batch_size'",
        ),
        ({"strategy": {"name": "diffusion", "optimizer.lrr": 3}}, "optimizer.lrr: sgd has no setting 'lrr'"),
        ({"strategy": {"name": "diffusion", "strategy.order": "cta"}}, "strategy.strategy.order: diffusion has no"),
        ({"skip": "all"}, "skip: got 'all'; allowed is impossible"),
        ({"strategy": []}, "strategy: an empty list leaves nothing to run"),
        ({"cases": [1, 2]}, "cases: allowed is a mapping"),
        ({3: [1, 2]}, "3: an experiment has no key '3'"),
        ({"optimizer": {"name": "sgd", 1: [2, 3]}}, "optimizer.1: sgd has no setting '1'"),
        ({"optimizer": {"name": "sgd", "lr": []}}, r"optimizer.lr: got \[\], which"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(change, sentence):
    with pytest.raises(ExperimentError, match=sentence) as error:
        for config in Experiment({key: value for key, value in (BASE | change).items()}).runs.values():
            build_setup(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("boolean", [True, False, np.True_])
@pytest.mark.parametrize(
    "key",
    [
        "seed", "steps", "epochs", "replicas", "batch_size", "evaluate_every", "keep_every", "analysis_samples",
        "analysis_memory", "runtime.threads", "runtime.actors", "runtime.cpus_per_actor", "runtime.gpus_per_actor",
        "topology.agents", "topology.policy.keep", "task.train_size", "task.label_noise", "task.partition.alpha",
        "optimizer.lr", "optimizer.momentum", "model.hidden", "model.dropout", "schedule.milestones",
        "schedule.warmup", "strategy.rounds", "attack.share", "attack.agents", "escape.level", "escape.every",
        "trajectory.megabytes", "gradient_noise.tail",
    ],
)  # fmt: skip
def test_no_boolean_is_a_number(key, boolean):
    changed = BASE | {
        "topology": {"name": "ring", "agents": 4, "policy": "lazy"},
        "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1}},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "model": {"name": "mlp", "hidden": [6]},
        "schedule": {"name": "step"},
        "attack": {"name": "gaussian"},
        "gradient_noise": {"law": "student", "tail": 3, "size": 1},
        "escape": {"name": "risk_above", "level": 1},
        "trajectory": {"points": "centroid"},
    }
    if key == "epochs":
        del changed["steps"]
    *outer, last = key.split(".")
    inner = changed
    for word in outer:
        inner[word] = dict(inner[word]) if isinstance(inner.get(word), dict) else {"name": inner.get(word, "inline")}
        inner = inner[word]
    for value in (
        boolean,
        [boolean] if last in ("hidden", "milestones", "agents") and outer != ["topology"] else boolean,
    ):
        inner[last] = value
        with pytest.raises(ExperimentError, match=f"^{key}(: got|.*is) .*{boolean!r}") as error:
            Experiment(changed)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [1, 0, 1.0, "yes", "true", None])
@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("optimizer", {"name": "sgd", "nesterov": ...}),
        ("optimizer", {"name": "torch.optim:RMSprop", "centered": ...}),
        ("topology", {"name": "equitopo", "agents": 4, "directed": ...}),
        ("escape", {"name": "risk_above", "level": 1, "stop": ...}),
        ("model", {"name": "linear", "bias": ...}),
    ],
)
def test_nothing_else_than_a_boolean_is_one(key, settings, given):
    (setting,) = (name for name, value in settings.items() if value is ...)
    with pytest.raises(ExperimentError, match=rf"^{key}\.{setting}: got {given!r}, which should be true or false$"):
        Experiment(BASE | {key: settings | {setting: given}})
    for boolean in (True, np.False_):
        (config,) = Experiment(BASE | {key: settings | {setting: boolean}}).runs.values()
        assert config.describe()[key][setting] is bool(boolean)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps: 3\nsteps: 4\n", "cannot be read: line 2: the key 'steps' is written twice, first on line 1"),
        ("optimizer: {name: sgd, lr: 1, lr: 2}", "line 1: the key 'lr' is written twice"),
        ("true: 3", "line 1: got true, where a key must be a name"),
        ("optimizer: &a {name: *a}", "line 1: 'a' contains itself"),
        ("a: " + "[" * 3000, "line 1: more than 50 lists and mappings are nested"),
        ('about: "\\ud800"', r"line 1: got the character '\\ud800', which no file can hold"),
        ('about: "\\0"', r"line 1: got the character '\\x00', which no file can hold"),
        ("steps: " + "9" * 5000, "line 1: got a number of 5000 digits"),
        (b"about: f\xfcr", "line 1: it is not text in UTF-8"),
        ("- 3", "an experiment is a mapping of keys to values"),
    ],
)
def test_files_are_read_strictly(tmp_path, text, sentence):
    (tmp_path / "e.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ExperimentError, match=f"e.yaml: .*{sentence}") as error:
        Experiment.load(tmp_path / "e.yaml")
    assert "\n" not in str(error.value)


def test_a_name_is_a_name_and_a_number_a_number(tmp_path):
    text = "\ufefftask: digits\ntopology: {name: ring, agents: 4}\nstrategy: diffusion\nsteps: 010\n"
    text += "optimizer: {name: sgd, lr: 1e-3}\nanalysis: []\ncases: {on: {}, off: {seed: 2}, 1:30: {seed: 3}}\n"
    (tmp_path / "e.yaml").write_text(text, encoding="utf-8")
    runs = Experiment.load(tmp_path / "e.yaml").runs.values()
    assert [run.case for run in runs] == ["on", "off", "1:30"]
    assert {(run.steps, run.optimizer.settings["lr"]) for run in runs} == {(10, 0.001)}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("about='a, b'", "a, b"),
        ('about="1,2"', "1,2"),
        ("model.hidden=[5],[6, 7]", [[5], [6, 7]]),
        ("strategy={name: diffusion, order: cta},isolated", [{"name": "diffusion", "order": "cta"}, "isolated"]),
        ("strategy=isolated, consensus", ["isolated", "consensus"]),
        ("optimizer.lr=1e-3,.5", [0.001, 0.5]),
        ("case=1:30", "1:30"),
        ("about='no'", "no"),
        ("personal=", None),
        ("personal=[a,b", None),
        ("personal=[a]]", None),
        ("personal={a: 1, a: 2}", None),
    ],
)
def test_words_of_the_command_line(word, value):
    description = {}
    if value is None:
        with pytest.raises(ExperimentError, match=r"^personal: "):
            override(description, [word])
        return
    override(description, [word])
    for key in word.partition("=")[0].split("."):
        description = description[key]
    assert description == value


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "It reaches 29 dB after 300 steps."),
        (
            ["steps=20", "task.size=8"],
            "Changed here: `steps=20`, `task.size=8`. What follows is about the experiment as it comes.\n\nIt reaches"
            " 29 dB after 300 steps.",
        ),
        (["steps=20", "about=Short."], "Short."),
    ],
)
def test_the_text_of_an_experiment_says_what_was_changed(words, told):
    description = {"about": "It reaches 29 dB after 300 steps.", "steps": 300}
    override(description, words)
    assert description["about"] == told


def test_null_is_undone_by_another_length():
    description = {"steps": 5}
    override(description, ["steps=null", "samples=40"])
    assert description["samples"] == 40 and description.get("steps") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["steps=3", "steps=4"], "steps=4: it would undo steps=3; give one of them"),
        (["steps=3", "epochs=4"], "epochs=4: it would undo steps=3; give one of them"),
        (["optimizer.lr=3", "optimizer=adam"], "optimizer=adam: it would undo optimizer.lr=3; give it first"),
        (["schedule.name=cosine"], "schedule.name=cosine: .*e.yaml sets schedule.milestones: cosine has no setting"),
        (["optimizer=adam"], "optimizer=adam: .*e.yaml sets optimizer.momentum: adam has no setting 'momentum'"),
        (["schedule.name=cosine", "schedule.gamma=1"], "schedule.name=cosine: .*sets schedule.milestones: "),
        (["optimizer.mu=1"], "optimizer.mu: sgd has no setting 'mu'"),
        (["optimizer={name: adam, mu: 1}"], "optimizer.mu: adam has no setting 'mu'"),
    ],
)
def test_a_message_names_what_was_typed(tmp_path, words, sentence):
    step = {"name": "step", "milestones": [0.5]}
    (tmp_path / "e.yaml").write_text(
        yaml.safe_dump(BASE | {"schedule": step, "cases": {"a": {"optimizer.momentum": 0.5}}})
    )
    with pytest.raises(ExperimentError, match=f"^{sentence}"):
        Experiment.load(tmp_path / "e.yaml", words)


@pytest.mark.parametrize(
    "change",
    [
        {"topology": {"name": "rign", "agents": 4}},
        {"analysis": ["hessian"]},
        {"nothing": 3},
        {"strategy": "difusion"},
        {"optimizer": {"name": "galore", "lrr": 3}},
    ],
)
def test_messages_show_all_that_is_allowed(change):
    with pytest.raises(ExperimentError) as error:
        Experiment(BASE | change)
    assert "…" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [(torch.zeros(3, 2), torch.zeros(4)), ((torch.zeros(3, 2),) * 2,) * 3, (torch.zeros(2, 3), torch.tensor([0, -1]))],
)
def test_messages_about_data_name_the_task(data):
    with pytest.raises(ExperimentError, match=r"^task: (?!supervised)"):
        build_setup(Config.parse(BASE | {"task": data}))


@pytest.mark.parametrize(
    ("graph", "policy", "sentence"),
    [
        (nx.Graph([(0, 1), (2, 3)]), "metropolis", "topology: .*2 "),
        (nx.MultiGraph([(0, 1)]), "metropolis", "topology: .*[Mm]ulti"),
        (nx.DiGraph([(0, 1), (1, 0)]), "metropolis", "topology.policy: .*undirected"),
        (nx.path_graph(2), np.array([[0.5, 0.5], [0.5, 0.4]]), "topology.policy: .*row 1.*0.9"),
        (nx.path_graph(3), np.full((3, 3), 1 / 3), "topology.policy: "),
    ],
)
def test_graphs_and_weights_are_checked(graph, policy, sentence):
    with pytest.raises(ExperimentError, match=sentence) as error:
        build_setup(Config.parse(BASE | {"topology": {"name": graph, "policy": policy}}))
    assert "\n" not in str(error.value)


class TinyNet(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))

    def forward(self, x):
        return self.layers(x)


def test_objects_of_the_users_own():
    x, y = torch.randn(40, 64), torch.randint(3, (40,))
    e = Experiment(
        task=torch.utils.data.TensorDataset(x, y),
        model=nn.Linear(64, 3),
        topology=nx.petersen_graph(),
        strategy="diffusion",
        optimizer={"name": torch.optim.RMSprop, "lr": 0.01},
        steps=3,
        replicas=1,
    )
    (config,) = e.runs.values()
    setup = build_setup(config)
    assert setup.num_agents == 10 and setup.task.num_outputs == 3
    assert isinstance(setup.optimizer([nn.Parameter(torch.zeros(1))]), torch.optim.RMSprop)
    described = yaml.safe_load(yaml.safe_dump(config.describe()))
    assert described["model"]["digest"]
    with pytest.raises(ExperimentError, match=r"task: .*TensorDataset was given as an object from Python, which"):
        Config.parse(described)
    # a model class gets its settings checked, and fresh values for each replica
    config = Config.parse(BASE | {"model": {"name": TinyNet, "width": 4}})
    assert build_setup(config).model().layers[1].out_features == 4
    with pytest.raises(ExperimentError, match="has no setting 'widht'"):
        Config.parse(BASE | {"model": {"name": TinyNet, "widht": 4}})


def test_the_description_reads_back_as_itself():
    config = Config.parse(
        BASE | {"schedule": {"name": "cosine", "warmup": 2}, "task": {"name": "digits", "partition": "shards"}}
    )
    plain = yaml.safe_load(yaml.safe_dump(config.describe()))
    assert Config.parse(plain).describe() == config.describe()


def test_epochs_are_passes_of_an_agent_over_its_own_data():
    setup = build_setup(Config.parse({k: v for k, v in BASE.items() if k != "steps"} | {"epochs": 4, "batch_size": 10}))
    assert setup.num_steps == round(4 * (1437 / 4) / 10)


def test_tasks_that_differ_in_code_alone_are_not_shared():
    def maker(scale):
        return lambda: (scale * torch.ones(40, 64), torch.arange(40) % 3)

    first, second = (build_setup(Config.parse(BASE | {"task": {"name": maker(scale)}})) for scale in (1.0, 2.0))
    assert float(second.task.train[0][0, 0]) == 2 * float(first.task.train[0][0, 0])
    assert first.config.describe()["task"] != second.config.describe()["task"]


class OnlyPositions(torch.optim.Optimizer):
    def __init__(self, params, step_size=0.1):
        super().__init__(params, {"step_size": step_size})

    def step(self, closure=None):
        pass


class Hoarder(torch.optim.SGD):
    def step(self, closure=None):
        self.state[self.param_groups[0]["params"][0]]["who"] = TinyNet


class Unled(torch.optim.SGD):
    traits = OptimizerTraits(stacked="layers")

    def __init__(self, params, lr=0.1, agents=None):
        super().__init__(params, lr)

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p]["basis"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("optimizer", "sentence"),
    [
        (torch.optim.LBFGS, "optimizer: torch.optim.lbfgs:LBFGS cannot work here .*no closure"),
        (OnlyPositions, "optimizer: .*OnlyPositions cannot work here .*have an 'lr'"),
        (Hoarder, "optimizer: .*Hoarder keeps state that no checkpoint can hold"),
        (Unled, "optimizer: .*Unled cannot work here .*'basis'.*shared_state"),
    ],
)
def test_an_optimizer_that_cannot_work_is_refused(optimizer, sentence):
    with pytest.raises(ExperimentError, match=sentence) as error:
        build_setup(Config.parse(BASE | {"optimizer": optimizer}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("partition", "sentence"),
    [
        (lambda labels, num_agents: [np.arange(9)] * 3, "must return 4 index arrays"),
        (lambda labels, num_agents: [np.arange(9), [], [1], [2]], "agent 1 no index array"),
        (lambda labels, num_agents: [np.arange(9), np.arange(0), [1], [2]], "agent 1 0 indices; allowed are one"),
        (lambda labels, num_agents: [[1], [1437], [1], [2]], "from 0 to 1436"),
        (lambda labels, num_agents: None, "must return 4 index arrays"),
    ],
)
def test_a_partition_of_the_users_own_is_checked(partition, sentence):
    with pytest.raises(ExperimentError, match=f"task.partition: .*{sentence}"):
        build_setup(Config.parse(BASE | {"task": {"name": "digits", "partition": partition}}))


def test_targets_of_several_numbers_have_no_classes():
    pixels = (torch.randn(40, 6), torch.randint(3, (40, 4)))
    config = Config.parse(
        BASE | {"task": pixels, "model": {"name": nn.Unflatten, "dim": 1, "unflattened_size": (4, 3)}}
    )
    assert config.task.component.is_ready
    from basinet.sim.tasks import supervised

    assert supervised(pixels).labels is None


def test_lists_of_names_make_no_grid():
    experiment = Experiment(
        task="digits", topology={"name": "ring", "agents": 4}, strategy="diffusion", personal=["3.*"]
    )
    (config,) = experiment.runs.values()
    assert config.personal == ("3.*",)


MADE = []


def pairs(scale=1.0, seed=0):
    MADE.append(scale)
    return scale * torch.ones(40, 64), torch.arange(40) % 3


def net(input_shape):
    MADE.append("net")
    return nn.Linear(64, 3)


def test_runs_that_agree_in_what_a_part_depends_on_share_it():
    e = Experiment(
        BASE
        | {
            "task": {"name": pairs, "scale": [1.0, 2.0], "partition": ["iid", {"name": "dirichlet", "alpha": 9.0}]},
            "model": net,
            "topology": [{"name": "ring", "agents": 4}, {"name": "complete", "agents": 4}],
            "strategy": ["diffusion", "push_sum"],
            "optimizer": {"name": "sgd", "lr": [0.1, 0.2]},
        }
    )
    MADE.clear()
    shared = Shared()
    setups = {name: build_setup(config, shared) for name, config in e.runs.items()}
    assert len(setups) == 32
    trials = MADE.count("net")
    assert [part for part in MADE if part != "net"] == [1.0, 2.0]
    assert len({id(setup.task) for setup in setups.values()}) == 2
    assert len({id(setup.graph) for setup in setups.values()}) == 2
    assert len({id(setup.sequence) for setup in setups.values()}) == 4  # rows that sum to one, or columns
    assert len({id(setup.holdings) for setup in setups.values()}) == 4
    first, other = (next(c for c in e.runs.values() if c.optimizer.settings["lr"] == lr) for lr in (0.1, 0.2))
    again, counts = Shared(), []
    for config in (first, other):
        MADE.clear()
        build_setup(config, again)
        counts.append(MADE.count("net"))
    # A trial for each task, strategy and rate, but of the model alone for each task only.
    assert trials == 2 * counts[0] + 6 * counts[1]
    assert 0 < counts[1] < counts[0]
    for name in list(setups)[::7]:
        own, setup = build_setup(e.runs[name]), setups[name]
        assert torch.equal(own.task.train[0], setup.task.train[0]) and nx.utils.graphs_equal(own.graph, setup.graph)
        for a, b in zip(own.sequence, setup.sequence, strict=True):
            np.testing.assert_array_equal(a.toarray(), b.toarray())
        for a, b in zip(own.holdings[0], setup.holdings[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": {"name": "sgd", "nesterov": [False, True]}}, "optimizer: sgd refuses"),
        ({"topology": [{"name": "ring", "agents": 4}, {"name": "hypercube", "agents": 6}]}, "power of two"),
        ({"strategy": ["diffusion", "relay"]}, "strategy: relay"),
        ({"model": {"name": "mlp", "dropout": [0.0, 0.5]}, "analysis_mode": "training"}, "analysis_mode"),
        ({"task": {"name": "digits", "partition": ["iid", lambda labels: [[0]]]}}, "must return 4"),
        ({"trajectory": [None, {"points": "agents", "megabytes": 1}], "replicas": 90}, "trajectory.megabytes"),
    ],
)  # fmt: skip
def test_what_is_shared_hides_no_mistake(change, sentence):
    shared = Shared()
    good, bad = (config for config in Experiment(BASE | change).runs.values())
    build_setup(good, shared)
    for _ in range(2):
        with pytest.raises(ExperimentError, match=sentence):
            check_analysis(build_setup(bad, shared))


def test_a_strategy_is_one_file(tmp_path, monkeypatch):
    """A module in a folder of strategies, which nothing else mentions."""
    text = '''
from basinet.algorithms.strategies.strategy import STRATEGIES


@STRATEGIES.register("follow_the_mean")
class FollowTheMean:
    """Average."""

    def step(self, block):
        block.average(block.x)
'''
    (tmp_path / "one_more.py").write_text(text)
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    STRATEGIES.fill("basinet.algorithms.strategies")
    try:
        assert Config.parse(BASE | {"strategy": "follow_the_mean"}).strategy.describe() == {"name": "follow_the_mean"}
        assert list_components(["strategies"])["strategies"]["follow_the_mean"]["about"] == "Average."
    finally:
        del STRATEGIES["follow_the_mean"], sys.modules["basinet.algorithms.strategies.baselines.one_more"]


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("strategy", "basinet.algorithms.strategies.diffusion:Diffusion"),
        ("optimizer", "basinet.algorithms.optimizers.normalized:NSGDm"),
        ("topology", "basinet.topologies.classic:ring"),
    ],
)
def test_what_a_run_has_written_down_is_found_where_it_is_now(key, given):
    whole = {"topology": {"name": given, "agents": 4}}.get(key, given)
    found = getattr(Config.parse(BASE | {key: whole}), key)
    found = found.component if key == "topology" else found
    assert found.target.__qualname__ == given.partition(":")[2] and found.describe()["name"] == given
