"""The study of videos and language on planted scores, of which its verdicts are known, and two short trainings."""

from dataclasses import replace

import pytest

from basinet.analysis.studies.flatness_tradeoff.trainings import carry_out
from basinet.analysis.studies.vision import told_procedures
from basinet.analysis.studies.vision.scale import IID
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import Run

TINY = replace(
    told_procedures.SCALES["small"],
    task={**told_procedures.SCALES["small"].task, "videos": 12, "test_videos": 1, "phase_every": 1, "video_every": 1},
    model={"name": "video_text", "channels": [2], "features": 4, "width": 4, "dimension": 4, "layers": 0},
    agents=3,
    batch=2,
    steps=2,
    of_agents=1,
    experiment={
        "evaluate_every": 2,
        "evaluate_samples": 2,
        "analysis": [],
        "runtime": {"device": "cpu", "engine": "loop"},
    },
)

BY_CASE = {"1 × 6": 0.7, "clips alone": 0.6, "hard": 0.2, "hard, clips alone": 0.2, "hard, one shared space": 0.3}
BY_STRATEGY = {
    "centralized": 0.8,
    "consensus": 0.5,
    "diffusion": 0.6,
    "exact_diffusion": 0.7,
    "gradient_tracking": 0.6,
    "local_sgd": 0.7,
    "isolated": 0.3,
}
ENDS = {"": 1.0, "_other_kind": 0.9, "_other_centre": 0.1}

VERDICTS = {
    "above 3 times chance": "agrees",
    "above 2 times chance": "falls short",
    "most frequent phase (1.000; difference, easy videos)": "reversed",
    "above clips alone (accuracy, easy videos)": "agrees",
    "above clips alone (macro F1, hard videos)": "not shown",
    "one shared space (accuracy, hard videos)": "reversed",
    "above chance in the other kind of procedure (0.125; difference, easy": "agrees",
    "above chance at the other centre (0.125; difference, easy": "reversed",
    "centralized scores above diffusion ATC": "agrees",
    "diffusion scores above consensus": "agrees",
    "exact diffusion scores above diffusion": "agrees",
    "gradient tracking ATC scores above diffusion": "not shown",
    "diffusion ATC scores above local SGD": "reversed",
    "consensus ends where it is flatter": "reversed",
    "diffusion ATC ends where it is flatter": "agrees",
    "another loss than that of all samples, InfoNCE": "agrees",
    "the loss of all samples, cross-entropy": "agrees",
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    out, told = tmp_path_factory.mktemp("out"), []
    described = TINY.describe({IID: TINY.conditions()[IID]}, strategy=["centralized", "diffusion"])
    true = carry_out(out, "iid", described, lambda *_: None)
    trivial = {f"test_phase_{name}{end}": 0.125 for name in ("accuracy", "f1") for end in ENDS}
    baselines = {"chance": trivial, "most frequent phase": dict.fromkeys(trivial, 1.0)}
    for run in true:
        run.status["baselines"] = baselines

    def planted(folder, name, description, progress):
        progress(1.0, name)
        return true if name == "iid" else [made(config.describe()) for config in Experiment(description).runs.values()]

    def made(config):
        strategy = config["strategy"]["name"]
        score = BY_CASE.get(config["case"], BY_STRATEGY[strategy])
        flat = {"consensus": 4.0, "diffusion": 1.0}.get(strategy, 2.0)
        rows = []
        for replica in range(config["replicas"]):
            for step, value in ((0, 0.125 + 0.01 * (replica - 1)), (config["steps"], score)):
                scores = {
                    f"test_phase_{name}{end}": value * by for name in ("accuracy", "f1") for end, by in ENDS.items()
                }
                rows.append({"step": step, "replica": replica, "communicated_bytes": step, **scores})
            if config["case"] == TINY.apart_name:
                rows[-1] |= {"hessian_top_eigenvalue": flat + 0.01 * replica, "excess_risk": 1 + 0.1 * replica}
        return Run("planted", true[1].path, config, {**true[1].status, "baselines": baselines}, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_procedures, "carry_out", planted)
        yield told_procedures.find_out(lambda done, what: told.append(done), out, TINY)
    assert told == sorted(told) and told[-1] == pytest.approx(1)


@pytest.mark.parametrize(("words", "verdict"), VERDICTS.items())
def test_verdicts_are_those_of_the_planted_scores(words, verdict, findings):
    (check,) = (check for check in findings.checks if words in check.claim)
    assert check.verdict == verdict, str(check)


def test_untrained_models_are_compared_with_chance(findings):
    easy, hard = (check for check in findings.checks if "an untrained model" in check.claim)
    assert easy.agrees and hard.agrees


def test_trivial_baselines_stand_beside_all_scores(findings):
    drawn = {drawing.name: drawing.rows for drawing in findings.drawings}
    for name, rows in drawn.items():
        assert name == "objective" or all({"chance", "most frequent phase"} <= row.keys() for row in rows), name
    assert {row["set"] for row in drawn["levels"]} == {"test", "other kind of procedure", "other centre"}
    assert {row["case"] for row in drawn["levels"]} == {"three levels", "hard, three levels", *BY_CASE} - {
        "1 × 6",
        "hard",
    }
    assert {row["batches"] for row in drawn["batches"]} == {"1 × 6", "3 × 2"}
