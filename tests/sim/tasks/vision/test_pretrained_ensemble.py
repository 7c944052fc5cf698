"""Ensembles of frozen extractors: the ICID loss, how extractors are judged, the task, and its model in all engines."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import davies_bouldin_score
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cosine_similarity

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.metrics import default_metrics
from basinet.sim.agents.state import load_vector
from basinet.sim.models import EnsembleRegressor
from basinet.sim.tasks import pretrained_ensemble
from basinet.sim.tasks.vision.ensemble.chosen_extractors import Chosen
from basinet.sim.tasks.vision.ensemble.extractor_ranking import cross_validated, davies_bouldin, without_content
from basinet.sim.tasks.vision.ensemble.icid import (
    batch_cosines,
    cluster_edges,
    clusters_of,
    inter_divisibility,
    intra_consistency,
)
from basinet.sim.tasks.vision.ensemble.pretrained_ensemble import ensemble_of
from basinet.sim.tasks.vision.quality.batch_losses import plcc_loss
from basinet.sim.tasks.vision.quality.statistics_ridge import Ridge
from basinet.sim.tasks.vision.videos.clips import rated_clips
from basinet.sim.tasks.vision.videos.video_views import Rated
from basinet.sim.vision.extractors.extracted import features as pool_features
from basinet.sim.vision.extractors.pool import POOL
from tests.sim.engines.one_agent_at_a_time import check_engines

F64 = torch.float64
TRAIN, TEST = 42, 14


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=F64)


@pytest.fixture(scope="module")
def rated():
    """Videos of 8 contents, with distinct scores."""
    scores = 1 + 4 * torch.rand(TRAIN + TEST, 1, generator=torch.Generator().manual_seed(2))
    columns = {"content": np.arange(TRAIN) // 7, "photo": np.array([f"p{row // 14}" for row in range(TRAIN)])}
    rows = dict(zip(("train", "test"), torch.split(torch.arange(TRAIN + TEST), [TRAIN, TEST]), strict=True))
    return Rated(None, rows, scores, tuple(f"v{n}" for n in range(TEST)), {}, columns, "tests tell little")


@pytest.fixture(scope="module")
def features(rated):
    """Of a good extractor, of one that sees content, and of a random one."""
    content = 5 * random(8, 4)[torch.arange(TRAIN + TEST) // 7]
    good = rated.scores.double() * random(1, 6, seed=9) + 0.1 * random(TRAIN + TEST, 6)
    parts = {"good": good, "content": content + 0.5 * random(TRAIN + TEST, 4), "random": random(TRAIN + TEST, 5)}
    return {name: part[:, None].repeat(1, 2, 1).float() for name, part in parts.items()}


def made(features, rated, weights="uniform", **settings):
    """A task in float64, and a model of it."""
    task = ensemble_of(features, rated, **settings).to("cpu", F64)
    torch.manual_seed(3)
    given = {key: task.model_arguments[key] for key in ("input_shapes", "num_outputs", "clusters", "davies_bouldin")}
    return task, EnsembleRegressor(**given, width=5, weights=weights).double()


# The loss


def test_the_loss_is_that_of_loops():
    z, weights = random(9, 3, 4), torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    u, clusters = (weights[:, None] * z).sum(1), torch.tensor([0, 2, 2, 0, 1, 1, 0, 2, 1])
    pairs = [*permutations(range(3), 2)]
    intra = [sum(1 - cosine_similarity(z[i, m], z[i, n], 0) for m, n in pairs) / len(pairs) for i in range(9)]
    torch.testing.assert_close(intra_consistency(z), torch.stack(intra))
    centres = [torch.stack([u[i] / u[i].norm() for i in range(9) if clusters[i] == c]).mean(0) for c in range(3)]
    inter = []
    for i in range(9):
        distances = [1 - float(cosine_similarity(u[i], centre, 0)) for centre in centres]
        own = distances.pop(int(clusters[i]))
        inter.append(max(0.0, own - min(distances) + 0.3))
    found = inter_divisibility(batch_cosines(u, clusters, 3), clusters, 0.3)
    torch.testing.assert_close(found, torch.tensor(inter, dtype=F64))
    assert 0 < (found == 0).sum() < 9  # of both kinds
    empty = batch_cosines(u, clusters, 5)  # clusters without samples are no neighbours
    torch.testing.assert_close(inter_divisibility(empty, clusters, 0.3), found)


def test_the_zeros_of_the_loss():
    direction, lengths = random(6, 1, 4), random(6, 3, 1).abs() + 0.1
    assert intra_consistency(direction * lengths).abs().max() < 1e-14  # same directions, any lengths
    assert intra_consistency(torch.stack([direction[:, 0], -direction[:, 0]], 1)) == pytest.approx(2)
    assert torch.equal(intra_consistency(direction), torch.zeros(6, dtype=F64))  # of one extractor
    clusters = torch.tensor([0, 0, 1, 1, 2, 2])
    apart = torch.eye(3, dtype=F64)[clusters]
    assert (inter_divisibility(batch_cosines(apart, clusters, 3), clusters, 1.0) == 0).all()
    assert inter_divisibility(batch_cosines(apart, clusters, 3), clusters, 1.5) == pytest.approx(0.5)
    same = torch.ones(6, 3, dtype=F64)  # not told apart
    assert inter_divisibility(batch_cosines(same, clusters, 3), clusters, 0.3) == pytest.approx(0.3)
    alone = clusters * 0  # a single cluster is next to none
    assert (inter_divisibility(batch_cosines(apart, alone, 3), alone, 2.0) == 0).all()


def test_derivatives_of_the_loss_are_right_and_finite():
    clusters = torch.tensor([0, 1, 1, 3, 0])  # none in cluster 2

    def loss(z):
        return intra_consistency(z) + inter_divisibility(batch_cosines(z.mean(1), clusters, 4), clusters, 0.3)

    z = random(5, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, z) and torch.autograd.gradgradcheck(loss, z)


def test_clusters_are_quantiles_and_equal_scores_stay_together():
    scores = random(20, 1)
    clusters = clusters_of(scores, cluster_edges(scores, 4))
    assert clusters.bincount().tolist() == [5, 5, 5, 5]
    assert (scores[:, 0].sort().indices[:5].sort().values == (clusters == 0).nonzero()[:, 0]).all()
    equal = torch.tensor([1.0, 2, 2, 2, 2, 3])[:, None]
    assert clusters_of(equal, cluster_edges(equal, 3)).tolist() == [0, 2, 2, 2, 2, 2]


# Judging extractors


def test_the_index_is_that_of_scikit_learn():
    points, clusters = random(30, 4), torch.arange(30) % 3
    assert davies_bouldin(points, clusters) == pytest.approx(davies_bouldin_score(points, clusters), rel=1e-12)
    assert davies_bouldin(points[:1].repeat(30, 1), clusters) == math.inf  # where scikit-learn says 0
    means = without_content(points, np.arange(30) // 6)
    assert means.view(5, 6, 4).mean(1).abs().max() < 1e-15
    torch.testing.assert_close(means[:6], points[:6] - points[:6].mean(0))


def test_the_ridge_predicts_groups_that_it_has_not_seen():
    x, groups = random(40, 5), np.arange(40) // 4
    y = x[:, 0] + 0.3 * random(40)
    wanted = []
    for fold in range(4):
        held = groups % 4 == fold
        ridge = Ridge(x[~held], y[~held])
        mean, scale = x[~held].mean(0), x[~held].std(0, correction=0)
        fitted = SklearnRidge(alpha=ridge.strength * int((~held).sum())).fit((x[~held] - mean) / scale, y[~held])
        wanted.append(spearmanr(fitted.predict((x[held] - mean) / scale), y[held]).statistic)
    assert cross_validated(x, y, groups) == pytest.approx(np.mean(wanted), abs=1e-9)
    assert cross_validated(torch.ones(40, 5, dtype=F64), y, groups) == 0
    assert math.isnan(cross_validated(x, y, groups * 0))


def test_an_extractor_is_judged_by_features_of_one_scale_without_those_of_content(features, rated):
    scaled = features["good"] * torch.tensor([1.0, 10, 100, 1, 1, 1])
    (judged,) = ensemble_of({"good": scaled}, rated).chosen.ranked
    x = StandardScaler().fit_transform(scaled[:TRAIN].double().mean(1).numpy())
    for content in range(TRAIN // 7):
        x[7 * content : 7 * content + 7] -= x[7 * content : 7 * content + 7].mean(0)
    clusters = quartiles(rated.scores[:TRAIN, 0].numpy())
    assert judged.davies_bouldin == pytest.approx(davies_bouldin_score(x, clusters), rel=1e-9)
    noisy, y = features["random"][:, :1], rated.scores[:TRAIN, 0].double()
    for known in (["content", "photo"], ["content"]):  # left out together, photos if they are known
        columns = {name: rated.columns[name] for name in known}
        (judged,) = ensemble_of({"noisy": noisy}, rated._replace(columns=columns)).chosen.ranked
        assert judged.ridge_srocc == cross_validated(noisy[:TRAIN, 0].double(), y, columns[known[-1]])


def quartiles(scores):
    """Four clusters of the same size, by rank; 42 scores are 10, 11, 10 and 11."""
    return np.searchsorted([10, 21, 31], np.argsort(np.argsort(scores)), side="right")


def test_content_hides_quality_from_the_index_unless_it_is_removed(features, rated):
    task = ensemble_of(features, rated)
    good, content, chance = task.chosen.ranked
    assert good.davies_bouldin < min(content.davies_bouldin, chance.davies_bouldin)
    assert good.ridge_srocc > 0.9 > max(content.ridge_srocc, chance.ridge_srocc)
    hidden = {"both": features["good"][..., :4] + features["content"]}
    known, unknown = (ensemble_of(hidden, some).chosen.ranked[0] for some in (rated, rated._replace(columns={})))
    assert known.davies_bouldin < unknown.davies_bouldin / 2


@pytest.mark.parametrize("select", ["davies_bouldin", "ridge"])
def test_the_best_are_selected(features, rated, select):
    task = ensemble_of(features, rated, select=select, top=1)
    assert [extractor.selected for extractor in task.chosen.ranked] == [True, False, False]
    assert len(task.train) == 2 and task.input_shapes == ((2, 6),)
    assert task.kept != ensemble_of(features, rated).kept


# The task and its model


LOSSES = {
    "fixed": {},
    "batch": {"clusters": "batch"},
    "plcc": {"loss": "plcc"},
    "no icid": {"icid": 0.0},
    "no icid, plcc": {"icid": 0.0, "loss": "plcc"},
}


@pytest.mark.parametrize("case", LOSSES)
def test_the_objective_is_a_mean_over_samples_or_says_that_it_is_none(features, rated, case):
    task, model = made(features, rated, **LOSSES[case])
    batch = tuple(part[:12] for part in task.train)
    outputs = task.outputs(model, batch)
    halves = [task.objective(model, tuple(part[rows] for part in batch)) for rows in (slice(6), slice(6, 12))]
    whole = task.objective(model, batch)
    whole, apart = whole.detach(), torch.stack(halves).mean().detach()
    adds_up = case in ("fixed", "no icid")
    assert task.mean_over == ("samples" if adds_up else "batch")
    assert (float(apart) == pytest.approx(float(whole), rel=1e-12)) == adds_up
    scores, wanted = batch[-1], (outputs[0] - batch[-1]).abs().mean()
    if "plcc" in case:
        wanted = plcc_loss(outputs[0], scores)
    if "no icid" not in case:
        edges = cluster_edges(scores if case == "batch" else task.train[-1], 4)
        clusters = clusters_of(scores, edges)
        cosines = batch_cosines(outputs[2], clusters, 4) if case == "batch" else outputs[3]
        wanted = wanted + 0.3 * (intra_consistency(outputs[1]) + inter_divisibility(cosines, clusters, 0.3)).mean()
    torch.testing.assert_close(whole, wanted.detach(), rtol=1e-12, atol=0)
    assert ("which is no mean over samples" in task.about_loss) != adds_up
    assert ("our reading" in task.about_loss) == ("no icid" not in case)
    assert task.about_loss.count("tests tell little") == 1
    alone = replace(task, chosen=Chosen(task.chosen.ranked[:1], task.chosen.standards[:1]))
    assert ("has no pair" in alone.about_loss) == ("no icid" not in case) and "has no pair" not in task.about_loss
    assert task.least_batch == {"batch": 4, "plcc": 2, "no icid, plcc": 2}.get(case, 1)


CASES = {
    "fixed": ("uniform", {}),
    "batch": ("davies_bouldin", {"clusters": "batch"}),
    "plcc": ("learnt", {"loss": "plcc"}),
}


@pytest.mark.parametrize("case", CASES)
def test_engines_agree_with_autograd_one_agent_at_a_time(features, rated, case):
    weights, settings = CASES[case]
    task, model = made(features, rated, weights, **settings)
    check_engines(task, model, tuple(part[: 2 * 9] for part in task.train), agents=2)


@pytest.mark.parametrize("case", CASES)
def test_products_with_the_hessian_are_differences_of_gradients(features, rated, case):
    weights, settings = CASES[case]
    task, model = made(features, rated, weights, **settings)
    batch = tuple(part[:9] for part in task.train)
    hessian = HessianOperator(model.eval(), task.objective, batch)
    point = nn.utils.parameters_to_vector(model.parameters()).detach()
    direction, step = random(len(point)) / 5, 1e-6
    nearby = []
    for shift in (step, -step):
        model = load_vector(model, point + shift * direction, dict(model.named_buffers()))
        found = torch.autograd.grad(task.objective(model, batch), list(model.parameters()))
        nearby.append(torch.cat([part.flatten() for part in found]).numpy())
    estimate = (nearby[0] - nearby[1]) / (2 * step)
    # Gradients of order 1 are rounded to 1e-15 or so, divided by the step; no kink of the loss lies in between.
    assert np.linalg.norm(hessian @ direction.numpy() - estimate) < 1e-6 * max(1.0, np.linalg.norm(estimate))


def test_weights_are_alike_or_in_proportion_to_the_index_or_learnt(features, rated):
    indices = torch.tensor(
        [extractor.davies_bouldin for extractor in ensemble_of(features, rated).chosen.ranked]
    ).double()
    wanted = {
        "uniform": torch.full((3,), 1 / 3, dtype=F64),
        "davies_bouldin": (1 / indices) / (1 / indices).sum(),
        "learnt": torch.full((3,), 1 / 3, dtype=F64),
    }
    for weights, shares in wanted.items():
        task, model = made(features, rated, weights)
        _, z, u, cosines = task.outputs(model, task.test)
        torch.testing.assert_close(cosines, cosine_similarity(u[:, None], model.centres[None], -1))
        # The logarithms of the indices are float32.
        torch.testing.assert_close(u, (shares[:, None] * z).sum(1), rtol=1e-5, atol=1e-6)
        assert ("logits" in dict(model.named_parameters())) == (weights == "learnt")


def test_the_usual_model_has_the_stated_parts():
    model = EnsembleRegressor([(2, 36), (1, 12)], 1, clusters=4, davies_bouldin=(5.0, 7.0))
    modules = sum((length + 1) * 64 + 64 * 65 + 4 * 64 for length in (36, 12))
    assert sum(p.numel() for p in model.parameters()) == modules + 4 * 64 + 64 * 65 + 65
    kinds = [type(layer) for layer in model.transformations[0]]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.GELU] * 2
    for useless in ((math.inf, math.inf), (0.0, 1.0)):
        with pytest.raises(ValueError, match="indices are positive, and one that is finite, but got"):
            EnsembleRegressor([(2, 36), (1, 12)], 1, clusters=4, davies_bouldin=useless, weights="davies_bouldin")
    with pytest.raises(ValueError, match="of 1 extractor, but got"):
        EnsembleRegressor([(2, 36), (1, 12)], 1, clusters=4, davies_bouldin=(5.0,))


def test_baselines_are_the_mean_and_two_ridges(features, rated):
    task = ensemble_of(features, rated)
    task = replace(task, metrics=default_metrics(task))
    found = task.baselines()
    assert [*found] == ["mean target", "ridge on all features", "ridge on good"]
    assert {key for row in found.values() for key in row} == {"test_srocc", "test_plcc"}
    alone = replace(task, icid=0.0).baselines()["mean target"]  # whose loss is that of scores
    truth, mean = task.test[-1].double(), task.train[-1].double().mean()
    assert alone["test_loss"] == pytest.approx(float((truth - mean).abs().mean()), rel=1e-6)
    of_some = replace(task, icid=0.0, evaluated_samples=20)  # as of the model, but fitted to all
    errors = (of_some.evaluated[-1].double() - mean).abs().mean()
    assert of_some.baselines()["mean target"]["train_loss"] == pytest.approx(float(errors), rel=1e-6)
    x, z = (part[0].double().mean(1) for part in (task.train, task.test))
    ridge = Ridge(x, task.train[-1][:, 0].double())
    wanted = spearmanr(ridge(z), task.test[-1][:, 0]).statistic
    assert found["ridge on good"]["test_srocc"] == pytest.approx(wanted) and found["mean target"]["test_srocc"] == 0


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    few = {"extractors": ("random", "scene_statistics@clip"), "key_frames": 1}
    return {"contents": 6, "size": 32, "frames": 3, "cache": str(tmp_path_factory.mktemp("cache")), **few}


def test_clips_are_rated_by_the_features_of_the_pool(clips):
    task = pretrained_ensemble(**clips)
    assert [part.shape[0] for part in task.train] == [28] * (len(task.chosen.used) + 1)
    assert [*task.columns] == ["content", "photo", "distortion"] and len(task.names) == 7
    for part in task.train[:-1]:
        torch.testing.assert_close(part.mean((0, 1)), torch.zeros(part.shape[2]), atol=1e-4, rtol=0)
    made = rated_clips(6, 32, 3, "test")
    for where, data in task.measured().items():
        rows = made.rows[where]
        seen = pool_features(["random"], made.source, rows=rows, frames=1, cache=clips["cache"])["random"]
        torch.testing.assert_close(data[0], task.chosen.standards[0](seen).float())
        assert torch.equal(data[-1], made.scores[rows])


def test_what_a_run_keeps_makes_the_same_of_other_videos(clips, tmp_path):
    task = pretrained_ensemble(**clips, select="ridge", top=1)
    kept = tmp_path / "standards.json"
    kept.write_text(task.kept["standards"].content)
    other = clips | {"contents": 7}
    taken = {"extractors": POOL, "standards": str(kept)}
    given = pretrained_ensemble(**other | taken)
    assert given.kept == task.kept != pretrained_ensemble(**other, select="ridge", top=1).kept
    assert len(given.train) == 2 and given.model_arguments["davies_bouldin"] == task.model_arguments["davies_bouldin"]
    (standard,) = task.chosen.standards
    first, again = (some.test[0].double() for some in (task, pretrained_ensemble(**clips | taken)))
    assert torch.equal(first, again) and len(standard.shift) == first.shape[-1]
    with pytest.raises(ValueError, match="select is 'ridge', which is chosen in the file of standards"):
        pretrained_ensemble(**clips | taken, select="ridge")
    with pytest.raises(ValueError, match=r"extractors is \['random'\], which is chosen in the file of standards"):
        pretrained_ensemble(**clips | taken | {"extractors": ("random",)})
    for damaged in ("{}", '{"extractors": [], "standards": []}', kept.read_text().replace("shift", "sift")):
        kept.write_text(damaged)
        with pytest.raises(ValueError, match=r"standards: .*standards.json cannot be read"):
            pretrained_ensemble(**clips | taken)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"extractors": ("vgg",)}, "extractors: there is no extractor 'vgg'"),
        ({"select": "ridge"}, "top is None; allowed are 1 to"),
        ({"select": "ridge", "top": 99}, "top is 99; allowed are 1 to"),
        ({"top": 1}, "top is 1, which is for extractors that are selected"),
        (
            {"standards": "nowhere.json", "extractors": ("random",)},
            "standards: nowhere.json cannot be read: No such",
        ),
        ({"icid": 0.0, "margin": 0.1}, "margin is 0.1, which is for the ICID loss"),
        ({"num_clusters": 40}, "num_clusters is 40, and too many training scores are equal"),
        ({"key_frames": 9}, "key_frames is 9; allowed are at most 3"),
        ({"path": "nowhere"}, "which is for samples made here"),
        ({"pairs": "p.csv"}, "^pretrained_ensemble: pairs is 'p.csv', which is for samples that are read"),
    ],
)
def test_what_does_not_fit_is_refused_before_features_are_found(clips, settings, sentence, monkeypatch):
    if "extractors" not in settings:
        monkeypatch.delattr("basinet.sim.tasks.vision.ensemble.pretrained_ensemble.features")
    with pytest.raises(ValueError, match=sentence):
        pretrained_ensemble(**clips | settings)


def test_mistakes_in_files_are_told_of_this_task(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "train.csv").write_text("filename,score\na.mp4,3\n")
    (tmp_path / "test.csv").write_text("filename,score\nb.mp4,6\n")
    files = {"path": str(tmp_path), "train_scores": str(tmp_path / "train.csv")}
    with pytest.raises(ValueError, match=r"^pretrained_ensemble: line 2 of .*test.csv has the score '6'; allowed are"):
        pretrained_ensemble(**files, test_scores=str(tmp_path / "test.csv"))
    with pytest.raises(ValueError, match=r"^pretrained_ensemble: train_scores is missing"):
        pretrained_ensemble(path=str(tmp_path))


def test_a_ridge_needs_several_groups(features, rated):
    one = rated._replace(columns={"photo": np.zeros(TRAIN)})
    assert all(math.isnan(extractor.ridge_srocc) for extractor in ensemble_of(features, one).chosen.ranked)
    with pytest.raises(ValueError, match="select is 'ridge', which needs training videos of several photos"):
        ensemble_of(features, one, select="ridge", top=1)
    assert [*ensemble_of(features, one).baselines()] == ["mean target", "ridge on all features"]


def test_the_index_needs_several_videos_of_a_content(features, rated):
    each = rated._replace(columns={"content": np.arange(TRAIN)})
    assert all(math.isinf(extractor.davies_bouldin) for extractor in ensemble_of(features, each).chosen.ranked)
    with pytest.raises(
        ValueError, match="select is 'davies_bouldin', which needs several training videos of a content"
    ):
        ensemble_of(features, each, select="davies_bouldin", top=1)


@pytest.mark.parametrize(("values", "allowed"), [((2.0, 3.0), "allowed is 2"), ((2.0,), "different scores are needed")])
def test_more_clusters_than_scores_are_refused(features, rated, values, allowed):
    scores = torch.tensor(values * (TRAIN + TEST))[: TRAIN + TEST, None]
    with pytest.raises(ValueError, match=f"num_clusters is 4, and too many training scores are equal; {allowed}"):
        ensemble_of(features, rated._replace(scores=scores))


def test_a_model_without_embeddings_is_refused_unless_icid_does_not_count(features, rated):
    task = ensemble_of(features, rated)
    with pytest.raises(ValueError, match="the ICID loss needs 4 outputs of a model, such as ensemble_regressor"):
        task.loss(task.test[-1], task.test)
    assert ensemble_of(features, rated, icid=0.0).loss(task.test[-1], task.test).shape == (TEST,)
