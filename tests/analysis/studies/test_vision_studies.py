"""The studies of images and videos in a tiny form: what they compare, and what is exact in it."""

from dataclasses import replace

import numpy as np
import pytest

from basinet.analysis.studies import write_findings
from basinet.analysis.studies.vision import pretrained_quality
from basinet.analysis.studies.vision.enlarged_images import SCALES as IMAGES
from basinet.analysis.studies.vision.enlarged_images import find_out as enlarge
from basinet.analysis.studies.vision.pretrained_quality import SCALES as PRETRAINED
from basinet.analysis.studies.vision.pretrained_quality import find_out as pretrain
from basinet.analysis.studies.vision.rated_videos import SCALES as VIDEOS
from basinet.analysis.studies.vision.rated_videos import find_out as rate
from basinet.sim.run.folder import load_run
from basinet.sim.tasks import image_quality
from basinet.sim.vision.photos import read_photo
from basinet.sim.vision.picture_files import Pixels, write_pixels

QUICK = {
    "evaluate_every": 2,
    "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 1}],
    "analysis_samples": 4,
    "runtime": {"device": "cpu", "engine": "loop"},
}

TINY_IMAGES = replace(
    IMAGES["small"],
    model={"name": "residual_upscaler", "features": 2, "blocks": 1},
    agents=3,
    batch=1,
    steps=2,
    replicas=2,
    experiment=QUICK,
)

TINY_VIDEOS = replace(
    VIDEOS["small"],
    task={**VIDEOS["small"].task, "contents": 10, "size": 32, "frames": 3},
    model={"name": "quality_perceptron", "hidden": 4},
    agents=4,
    batch=2,
    steps=2,
    replicas=2,
    of_agents=1,
    experiment=QUICK,
)

_WIDTH = {"width": 4, "depths": [0, 0, 1], "contrast": True}

TINY_PRETRAINING = replace(
    PRETRAINED["small"],
    pretraining=replace(
        PRETRAINED["small"].pretraining,
        task={**PRETRAINED["small"].pretraining.task, "degradations": ["blur", "noise"], "crops": 2, "size": 32},
        model={"name": "masked_hivit", **_WIDTH, "decoder_width": 4},
        agents=2,
        batch=1,
        steps=2,
        replicas=1,
        experiment={"analysis_samples": 2, "evaluate_every": 2, "evaluate_samples": 2, "runtime": QUICK["runtime"]},
    ),
    rating=replace(
        PRETRAINED["small"].rating,
        task={"name": "image_quality", "contents": 6, "levels": 1, "distortions": ["blur"], "size": 32, "patch": 32},
        model={"name": "hivit", **_WIDTH, "hidden": 4},
        batch=2,
        steps=2,
        replicas=1,
        experiment={"evaluate_every": 2, "analysis": [], "runtime": QUICK["runtime"]},
    ),
)


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    told, out, images = [], tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("images")
    for part, names in (("train", "abc"), ("test", "d")):
        (images / part).mkdir()
        for name in names:
            write_pixels(images / part / f"{name}.png", Pixels(read_photo("chelsea")[:, 64:136, 64:136], None))
    task = {"name": "super_resolution", "patch": 6, "path": str(images / "train"), "test_path": str(images / "test")}
    return enlarge(lambda done, what: told.append(done), out, replace(TINY_IMAGES, task=task)), told, out


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    told, out = [], tmp_path_factory.mktemp("videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield rate(lambda done, what: told.append(done), out, TINY_VIDEOS), told, out


@pytest.mark.parametrize("name", ["enlarged", "rated"])
def test_a_study_compares_strategies_beside_trivial_baselines(name, request):
    findings, told, _ = request.getfixturevalue(name)
    assert min(np.diff([0.0, *told])) > -1e-12 and told[-1] == pytest.approx(1)
    trivial = {"enlarged": ["bicubic"], "rated": ["mean target", "ridge on scene statistics"]}[name]
    for drawing in findings.drawings:
        assert drawing.name == "objective" or all({*trivial} <= row.keys() for row in drawing.rows), drawing.name
    curves, ends, agents = (drawing.rows for drawing in findings.drawings[:3])
    strategies = {"centralized", "consensus", "diffusion ATC", "exact diffusion", "gradient tracking ATC"}
    assert {row["strategy"] for row in curves} == {row["strategy"] for row in ends} == strategies
    assert {row["strategy"] for row in agents} == strategies - {"centralized"}  # whose agents are all the same


def test_networks_of_images_begin_as_bicubic_interpolation(enlarged):
    findings, _, out = enlarged
    assert "bicubic" in write_findings(findings, out, command="basinet reproduce", seconds=1.0).read_text()
    for row in findings.drawings[0].rows:
        if row["step"] == 0:
            assert row["score"] == pytest.approx(row["bicubic"], abs=1e-9)
    assert [check.verdict for check in findings.checks[:2]] == ["falls short"] * 2  # after two steps


def test_a_loss_of_the_correlation_is_another_one_on_smaller_batches(rated):
    findings, _, _ = rated
    same, other = (
        check for check in findings.checks if "the loss of all samples" in check.claim or "than that" in check.claim
    )
    assert "l1" in same.claim and same.agrees and "plcc" in other.claim and other.agrees
    rows = next(drawing.rows for drawing in findings.drawings if drawing.name == "batches")
    assert {row["batches"] for row in rows} == {"1 × 8", "4 × 2"}


def test_pretraining_is_compared_with_training_from_scratch_on_photos_that_neither_has_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained_quality, "DISTINCT", pretrained_quality.DISTINCT[:6])  # reading more takes long
    told: list[float] = []
    findings = pretrain(lambda done, what: told.append(done), tmp_path / "out", TINY_PRETRAINING)
    assert min(np.diff([0.0, *told])) > -1e-12 and told[-1] == pytest.approx(1)
    ends, curves, flat, units = (drawing.rows for drawing in findings.drawings[:4])
    starts = {row["start"] for row in ends}
    expected = {"from scratch", "from scratch, l1", "centralized", "diffusion ATC", "consensus", "clean"}
    assert expected < starts
    assert {row["start"] for row in curves} == starts and {row["strategy"] for row in flat} < starts
    assert units and all(row["loss"] > 0 for row in units)
    assert all("ridge on scene statistics" in row for row in ends)
    configs = [load_run(path.parent).config for path in (tmp_path / "out").rglob("config.yaml")]
    before = next(config["task"] for config in configs if config["task"]["name"] == "quality_pretraining")
    rated = image_quality(**{name: value for name, value in TINY_PRETRAINING.rating.task.items() if name != "name"})
    assert {*before["train_photos"]} == {*rated.columns["photo"]}
    assert not {*before["train_photos"]} & {name[4:].split("_")[0] for name in rated.names}
