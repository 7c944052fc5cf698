"""Experiments in stages: which keys a stage has, and from which run each of its runs starts."""

import pytest
import yaml

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import Pipeline, read_experiment

COMMON = {"task": "digits", "topology": {"name": "ring", "agents": 4}, "strategy": "diffusion", "steps": 10}
NAME = "diffusion-atc"


def pipeline(*stages, **common):
    return Pipeline({**COMMON, **common, "stages": {f"s{n}": stage for n, stage in enumerate(stages, 1)}})


def sources(found, stage="2-s2"):
    return {run: source.run for run, source in found.sources[stage].items()}


def test_a_stage_has_the_common_keys_that_it_does_not_set(tmp_path):
    (tmp_path / "first.yaml").write_text(yaml.safe_dump({"epochs": 2, "batch_size": 8}))
    (tmp_path / "p.yaml").write_text(
        yaml.safe_dump({**COMMON, "start": "weights.pt", "stages": ["first.yaml", {"optimizer": "adam"}]})
    )
    (tmp_path / "weights.pt").write_text("nothing")
    with pytest.raises(ExperimentError, match=r"^first: start.file: weights.pt cannot be read"):
        read_experiment(tmp_path / "p.yaml")  # the common start is that of the first stage
    found = read_experiment(
        tmp_path / "p.yaml", ["start={stage: previous}", "stage.start=null", "first.start=null", "seed=3"]
    )
    first, second = (next(iter(stage.runs.values())) for stage in found.stages.values())
    assert list(found.stages) == ["1-first", "2-stage"] and list(found.runs) == [f"1-first/{NAME}", f"2-stage/{NAME}"]
    assert (first.epochs, first.steps, first.batch_size) == (2, None, 8)
    assert first.seed == second.seed == 3 and first.start is second.start is None
    assert (second.epochs, second.steps, second.optimizer.name) == (None, 10, "adam")


def test_words_override_all_stages_or_one():
    stages = {"a": {"steps": 20}, "b": {"optimizer": {"name": "sgd", "lr": 0.1}}}
    found = Pipeline({**COMMON, "stages": stages}, words=["steps=3", "b.optimizer.lr=0.5", "optimizer.momentum=0.9"])
    first, second = (next(iter(stage.runs.values())) for stage in found.stages.values())
    assert first.steps == second.steps == 3
    assert first.optimizer.settings == {"lr": 0.1, "momentum": 0.9}
    assert second.optimizer.settings == {"lr": 0.5, "momentum": 0.9}
    with pytest.raises(ExperimentError, match=r"^b: batch_sise: an experiment has no key"):
        Pipeline({**COMMON, "stages": stages}, words=["b.batch_sise=3"])
    with pytest.raises(ExperimentError, match=r"^bb: got neither a key of an experiment nor a stage; allowed: a, b,"):
        Pipeline({**COMMON, "stages": stages}, words=["bb.steps=3"])


def test_a_run_starts_from_the_one_with_the_same_values():
    both = {"strategy": ["isolated", "diffusion"]}
    assert sources(pipeline({}, {}, **both)) == {"isolated": "isolated", NAME: NAME}
    assert sources(pipeline({}, both)) == {"isolated": NAME, NAME: NAME}  # there is only one
    assert sources(pipeline(both, {})) == {NAME: NAME}
    rates = {"optimizer": {"name": "sgd", "lr": [0.1, 0.2]}}
    assert sources(pipeline(rates, rates, **both)) == {
        f"{name}_lr={lr}": f"{name}_lr={lr}" for name in ("isolated", NAME) for lr in (0.1, 0.2)
    }
    cases = {"small": {"batch_size": 2}, "large": {"batch_size": 8}}
    assert sources(pipeline(both, {"cases": cases}, **both))[f"{NAME}_small"] == NAME
    three = pipeline({}, {}, {"start": {"stage": "s1"}})
    assert three.sources["3-s3"][NAME] == ("1-s1", NAME) and three.sources["2-s2"][NAME] == ("1-s1", NAME)


def test_options_of_a_start_alone_mean_the_stage_before():
    found = pipeline({}, {"start": {"reinitialize": ["3.*"], "replica": 0}})
    start = next(iter(found.stages["2-s2"].runs.values())).start
    assert start.description["stage"] == "previous" and start.description["reinitialize"] == ["3.*"]
    assert not pipeline({}, {"start": None}).sources["2-s2"]


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        (
            [{"optimizer": {"name": "sgd", "lr": [0.1, 0.2]}}, {"optimizer": {"name": "sgd", "lr": 0.01}}],
            "s2: start.stage: of the runs of 1-s1, diffusion-atc corresponds to 2 of them: diffusion-atc_lr=0.1, diff",
        ),
        ([{}, {"start": {"stage": "pretrain"}}], "s2: start.stage: got 'pretrain'; allowed: previous, s1"),
        ([{}, {"start": {"stage": "s1", "run": "consensus"}}], "s2: start.run: 1-s1 has no run 'consensus'; allowed"),
        ([{}, {"start": {"replica": 5}}], "s2: start.replica: got 5, but 1-s1/diffusion-atc has 5 replicas"),
        ([{"personal": ["1.*"]}, {}], "s2: start.point: agents of 1-s1/diffusion-atc have personal parameters"),
        ([{"keep_every": 4}, {"start": {"step": 6}}], "s2: start.step: got 6, but 1-s1/diffusion-atc keeps the states"),
        ([{"start": {"stage": "previous"}}], "s1: start.stage: got 'previous', but there is no stage before the first"),
        ([{}, {"start": {"stage": "previous", "repilca": 0}}], "s2: start.repilca: start has no key 'repilca'"),
        ([{}, {"batch_sise": 3}], "s2: batch_sise: an experiment has no key 'batch_sise'"),
        ([{"stages": [{}]}], "stages.s1: a stage cannot have stages of its own"),
        ([3], "stages.s1: got 3; allowed are a file"),
        (["nowhere.yaml"], "nowhere.yaml: the experiment cannot be read: No such file"),
    ],
)
def test_what_is_not_clear_is_refused(stages, sentence):
    with pytest.raises(ExperimentError) as error:
        pipeline(*stages)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("stages", [[], {}, "a.yaml", {"task": {}}, {"../a": {}}])
def test_stages_have_names_for_folders(stages):
    with pytest.raises(ExperimentError, match=r"^stages: got "):
        Pipeline({**COMMON, "stages": stages})


def test_an_experiment_without_stages_is_none(tmp_path):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(COMMON))
    assert isinstance(read_experiment(tmp_path / "e.yaml"), Experiment)
    with pytest.raises(ExperimentError, match=r"e.yaml: stages: a value is needed"):
        Pipeline.load(tmp_path / "e.yaml")
    with pytest.raises(ExperimentError, match=r"^stages: an experiment in stages is a basinet.Pipeline"):
        Experiment({**COMMON, "stages": [{}]})


def test_no_other_experiment_has_a_stage_to_start_from(tmp_path):
    experiment = Experiment({**COMMON, "start": {"stage": "previous"}})
    from basinet.sim.run.simulation import prepare

    with pytest.raises(ExperimentError, match=r"start.stage: got 'previous', but the experiment is not one of several"):
        prepare(experiment, tmp_path / "out")
    assert not (tmp_path / "out").exists()
