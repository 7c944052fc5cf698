"""What is tuned: values, series of them, rungs, groups, and mistakes in them."""

import pytest

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import make_experiment, read_experiment
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment, combined
from basinet.sim.experiment.tuning.tuning_request import Tuning, beyond

BASE = {
    "task": "digits",
    "topology": {"name": ["ring", "star"], "agents": 4},
    "strategy": ["relay", "diffusion"],
    "seed": [0, 1],
    "steps": 10,
}
RATES = {"optimizer.lr": [0.1, 0.3, 1.0]}


def tuned(tune, **changes):
    return TunedExperiment(BASE | changes | {"tune": tune})


@pytest.mark.parametrize(
    "values, lower, upper",
    [
        ([0.01, 0.1, 1.0], 0.001, 10.0),
        ([1.0, 0.01, 0.1], 0.001, 10.0),
        ([0.01, 0.03, 0.1, 0.3], 0.003, 1.0),
        ([8, 16, 32], 4, 64),
        ([1, 2, 4], None, 8),  # no half
        ([1, 2, 3], 0, 4),
        ([0.0, 0.5, 0.9], None, None),  # neither linear nor geometric
        ([0.1, 0.2, 0.3], None, 0.4),  # a rate of nothing
        ([0.01, 0.1, 0.2], None, None),
        ([0.1, 1.0], None, None),
        (["a", "b", "c"], None, None),
        ([True, False, True], None, None),
    ],
)
def test_series_go_on_by_one_step(values, lower, upper):
    found = [beyond(values, up=up) for up in (False, True)]
    assert found == [lower if lower is None else pytest.approx(lower), upper if upper is None else pytest.approx(upper)]
    assert all(isinstance(value, type(values[0])) for value in found if value is not None)


@pytest.mark.parametrize(
    "count, halving, rungs",
    [
        (9, 3, [(1.0, 9)]),
        (10, None, [(1.0, 10)]),
        (10, 3, [(1 / 3, 10), (1.0, 4)]),
        (27, 3, [(1 / 9, 27), (1 / 3, 9), (1.0, 3)]),
        (16, 2, [(1 / 8, 16), (1 / 4, 8), (1 / 2, 4), (1.0, 2)]),
        (10, 20, [(1 / 20, 10), (1.0, 1)]),
    ],
)
def test_rungs_shrink_by_the_factor_to_some_at_the_end(count, halving, rungs):
    found = Tuning({"optimizer.lr": []}, halving=halving).rungs(count)
    assert [keep for _, keep in found] == [keep for _, keep in rungs]
    assert [share for share, _ in found] == pytest.approx([share for share, _ in rungs])


@pytest.mark.parametrize(
    "per, groups",
    [
        ("run", ["relay_name=ring", "diffusion-atc_name=ring", "relay_name=star", "diffusion-atc_name=star"]),
        (["run"], ["relay_name=ring", "diffusion-atc_name=ring", "relay_name=star", "diffusion-atc_name=star"]),
        (["strategy"], ["relay", "diffusion-atc"]),
        ("topology.name", ["ring", "star"]),
        (["seed", "strategy"], ["0, relay", "1, relay", "0, diffusion-atc", "1, diffusion-atc"]),
        ([], ["all runs"]),
    ],
)
def test_runs_that_agree_in_the_keys_share_a_choice(per, groups):
    found = tuned(RATES | {"per": per})
    assert set(found.groups) == set(groups)
    assert sorted(name for names in found.groups.values() for name in names) == sorted(found.runs)
    if "run" in per:
        assert all(len({found.runs[name].seed for name in names}) == 2 for names in found.groups.values())


def test_the_search_shares_data_and_seeds_which_are_not_those_of_the_final_runs():
    found = tuned(RATES | {"replicas": 2, "share": 0.3, "batch_size": [4, 8]}, keep_every=5, analysis=["hessian_trace"])
    experiment, places = found.search(found.candidates)
    assert len(experiment.runs) == len(found.runs) * 6 == len(places) == 48
    final = {config.seed for config in found.runs.values()}
    seeds = {(config.validation.seed, config.seed) for config in experiment.runs.values()}
    assert len(seeds) == 2 and {data for data, _ in seeds} == final and not {seed for _, seed in seeds} & final
    for name, config in experiment.runs.items():
        run, number = places[name]
        values = found.candidates[number]
        assert config.optimizer.settings["lr"] == values["optimizer.lr"] and config.batch_size == values["batch_size"]
        assert config.validation.seed == found.runs[run].seed and config.strategy.name == found.runs[run].strategy.name
        assert (config.replicas, config.validation.share, config.analysis, config.keep_every) == (2, 0.3, (), None)


def test_what_was_chosen_belongs_to_the_run():
    found = tuned(RATES)
    choices = {group: values for group, values in zip(found.groups, combined(RATES) * 2, strict=False)}
    runs = found.chosen(choices).runs
    plain = Experiment({**BASE, "optimizer": {"name": "sgd", "lr": 1.0}}).runs
    for group, names in found.groups.items():
        for name in names:
            assert runs[name].optimizer.settings["lr"] == choices[group]["optimizer.lr"]
            assert runs[name].tuned == runs[name].strategy_keys == ("optimizer.lr",)
            own = runs[name].describe() | {"optimizer": plain[name].describe()["optimizer"]}
            assert {k: v for k, v in own.items() if k not in ("tuned", "strategy_keys")} == plain[name].describe()


@pytest.mark.parametrize(
    "tune, changes, said",
    [
        ([1], {}, r"tune: got \[1\]; allowed is a mapping"),
        ({"on": "validation"}, {}, r"tune: no key is left to be tuned"),
        ({"optimizr.lr": [1, 2]}, {}, r"tune: got 'optimizr'; .*did you mean 'optimizer'"),
        (RATES | {"halvng": 2}, {}, r"tune: got 'halvng'; allowed: on, share, .*; did you mean 'halving'"),
        (RATES | {"extend": 2}, {}, r"tune: got 'extend'; allowed: on, (?!.*\b(seed|runtime|metrics|analysis)\b)"),
        ({"optimizer.lr": {"lin": [1, 2, 3]}}, {}, r"optimizer\.lr: got {'lin': 1.*, or a range; .*mean 'linear'"),
        ({"optimizer.speed": [1, 2]}, {}, r"optimizer\.speed: sgd has no setting 'speed'"),
        ({"optimizer.lr": 0.1}, {}, r"tune\.optimizer\.lr: got 0\.1; allowed are lists and ranges"),
        ({"optimizer.lr": [0.1]}, {}, r"tune\.optimizer\.lr: got \[0\.1\]; allowed are two or more different values"),
        ({"optimizer.lr": [0.1, 0.1]}, {}, r"tune\.optimizer\.lr: .* two or more different values"),
        ({"optimizer.lr": [0.1, -1]}, {}, r"optimizer\.lr: got -1"),
        ({"seed": [1, 2]}, {}, r"tune\.seed: it is no part of the training"),
        ({"task.train_size": [10, 20]}, {}, r"tune\.task\.train_size: it is no part of the training"),
        (RATES | {"on": "test"}, {}, r"tune\.on: got 'test'; allowed is validation"),
        (RATES | {"share": 1.0}, {}, r"tune\.share: got 1\.0; allowed are numbers between 0 and 1"),
        (RATES | {"share": 0}, {}, r"tune\.share: got 0;"),
        (RATES | {"replicas": 0}, {}, r"tune\.replicas: got 0; allowed are integers from 1 on"),
        (RATES | {"halving": 1}, {}, r"tune\.halving: got 1; allowed are integers from 2 on, and false"),
        (RATES | {"halving": True}, {}, r"tune\.halving: got True;"),
        (RATES | {"by": 3}, {}, r"tune\.by: got 3; allowed is the name of a metric"),
        (RATES | {"per": "sed"}, {}, r"tune\.per: an experiment has no key 'sed'; .*did you mean 'seed'"),
        (RATES | {"per": ["case", "sed"]}, {}, r"tune\.per: an experiment has no key 'sed'; (?!.*\b(\w+), .*\b\1,)"),
        (RATES | {"per": ["optimizer.lr"]}, {}, r"tune\.per: got 'optimizer\.lr', which is tuned"),
        (RATES | {"per": ["topology.nam"]}, {}, r"tune\.per: got 'topology\.nam', a key that no run has"),
        (RATES | {"per": 3}, {}, r"tune\.per: got 3; allowed are run, and a list of keys"),
        (
            RATES,
            {"optimizer": {"name": "sgd", "lr": [1, 2]}},
            r"tune\.optimizer\.lr: .* is on an axis of the grid, too",
        ),
        (RATES, {"axes": {"size": {"optimizer.lr": [1, 2]}}}, r"tune\.optimizer\.lr: the axis size sets .*, too"),
        (RATES, {"cases": {"a": {"optimizer.lr": 1}}}, r"tune\.optimizer\.lr: the case a sets .*, too"),
        (
            RATES,
            {"strategy": [{"name": "relay", "optimizer.lr": 2}]},
            r"tune\.optimizer\.lr: a strategy or a case sets",
        ),
        (RATES, {"validation": 0.1}, r"validation: the search holds samples out by itself"),
    ],
)
def test_mistakes_are_said_in_a_sentence(tune, changes, said):
    with pytest.raises(ExperimentError, match=said) as error:
        tuned(tune, **changes)
    assert "\n" not in str(error.value)


def test_stages_are_not_tuned_and_only_a_tuned_experiment_is():
    with pytest.raises(ExperimentError, match="tune: stages cannot be tuned"):
        make_experiment(BASE | {"stages": [{"steps": 2}, {"tune": RATES}]})
    with pytest.raises(ExperimentError, match="TunedExperiment"):
        Experiment(BASE | {"tune": RATES})
    assert type(make_experiment(BASE | {"tune": None})) is Experiment


@pytest.mark.parametrize(
    "words, values",
    [
        (["tune.optimizer.lr=[0.2,0.4]"], {"optimizer.lr": [0.2, 0.4], "batch_size": [4, 8]}),
        (["tune.optimizer.lr={log: [0.1, 10, 3]}"], {"optimizer.lr": [0.1, 1.0, 10.0], "batch_size": [4, 8]}),
        (["optimizer.lr=0.5"], {"batch_size": [4, 8]}),
        (["tune={optimizer.lr: [1, 2]}"], {"optimizer.lr": [1, 2]}),
        (["replicas=2", "tune.replicas=1"], {"optimizer.lr": [0.1, 0.3], "batch_size": [4, 8]}),
    ],
)
def test_words_change_what_is_tuned(tmp_path, words, values):
    file = tmp_path / "tuned.yaml"
    file.write_text(
        "task: digits\ntopology: {name: ring, agents: 4}\nstrategy: relay\n"
        "tune:\n  optimizer.lr: [0.1, 0.3]\n  batch_size: [4, 8]\n  replicas: 4\n"
    )
    found = read_experiment(file, words)
    assert found.tuning.values == values
    if "replicas=2" in words:
        assert (found.tuning.replicas, found.runs["relay"].replicas) == (1, 2)
    assert type(read_experiment(file, ["tune=null"])) is Experiment
