"""Contrastive losses of videos and texts against loops; the towers in all engines; recognition of phases by prompts."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.metrics.phase_scores import PhaseAccuracy, PhaseF1
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import take
from basinet.sim.evaluation.measuring import evaluate, measure
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.models import MODELS
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import Interrupted
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Regression, VideoLanguage, video_language
from basinet.sim.tasks.vision.procedures.contrastive import (
    children_mean,
    cosines,
    info_nce,
    mil_nce,
    nt_xent,
    present,
    same_texts,
)
from basinet.sim.tasks.vision.procedures.labelled_frames import Frames
from basinet.sim.tasks.vision.procedures.vocabulary import Words
from tests.sim.engines.one_agent_at_a_time import check_engines
from tests.sim.run.test_simulation import LOOKS_AT_EVERY_STEP, assert_same, carry_out, final_state

pytestmark = pytest.mark.usefixtures("untried")

F64 = torch.float64
AGENTS, BATCH, WORDS, PHASES = 2, 4, 9, 3
SMALL = {"dimension": 5, "channels": [4], "features": 6, "width": 4, "hidden": 5}
CASES = {
    "separate heads, learned temperature": {"learned_temperature": True},
    "shared head, mean of words": {"heads": "shared", "layers": 0},
    "augmented views, vectors of texts": {},
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=F64)


def words(*shape, seed=0):
    """Texts of 1 to T words, some of which are padding; no two alike but by chance."""
    found = torch.randint(1, WORDS, shape, generator=generator(seed))
    lengths = torch.randint(1, shape[-1] + 1, shape[:-1], generator=generator(seed + 1))
    return found.masked_fill(torch.arange(shape[-1]) >= lengths[..., None], 0)


def frames(*shape, seed=0):
    return torch.rand((*shape, 3, 8, 8), generator=generator(seed), dtype=F64)


def vectors(texts):
    """Vectors of texts in the place of their words: 0 if there are none, and the same of the same words."""
    return (texts.double() @ random(texts.shape[-1], 6, seed=11)).sin()


def made_task(count=8, as_vectors=False, **settings):
    narrations, steps = words(count, 2, 5, seed=1), words(count, 3, 5, seed=2)
    narrations[1, 1] = 0  # there is no second candidate
    steps[2, 1:] = 0
    phase = words(count, 5, seed=3)
    phase[5] = phase[4]
    train = (
        (frames(count, 2, seed=4), narrations),
        (frames(count, 3, seed=5), phase, steps),
        (frames(count, 4, seed=6), words(count, 7, seed=7), words(count, 2, 5, seed=8)),
        torch.tensor([1, 1 / 3, 1 / 5], dtype=F64).expand(count, 3).clone(),
    )
    shown, prompts = torch.arange(60), words(PHASES, 2, 6, seed=10)
    prompts[0, 1] = 0
    vocabulary = Words(tuple("bcdefgh"))
    if settings.get("augmented"):
        train = ((frames(count, 3, seed=4), narrations), *train[1:])
    if as_vectors:
        prompts, vocabulary = vectors(prompts), None
        train = map_nest(lambda t: t if t.is_floating_point() else vectors(t), train)
    test = Frames(frames(60, 1, seed=9), torch.randint(PHASES, (60,), generator=generator(3)), shown // 20)
    return VideoLanguage(
        train=train, test=test, num_outputs=PHASES, words=vocabulary, phases=("i", "ii", "iii"),
        prompts=prompts, sets=("test", "test", "other_centre"), **settings,
    )  # fmt: skip


def made_model(task, case=None, seed=0):
    torch.manual_seed(seed)
    arguments = {name: task.model_arguments[name] for name in ("input_shapes", "vocabulary", "padding")}
    return MODELS["video_text"](**arguments, **SMALL, **CASES.get(case, {})).double()


@pytest.fixture(scope="module")
def task():
    return made_task()


@pytest.fixture(scope="module")
def tasks(task):
    views = made_task(as_vectors=True, augmented=True)
    return {case: views if case.startswith("augmented") else task for case in CASES}


# The losses, against loops.


def loop_info_nce(scores, same, share):
    total, count = 0.0, len(scores)
    for i in range(count):
        others = [j for j in range(count) if j == i or not same[i, j]]
        text = -math.log(math.exp(scores[i, i]) / sum(math.exp(scores[i, j]) for j in others))
        video = -math.log(math.exp(scores[i, i]) / sum(math.exp(scores[j, i]) for j in others))
        total += (share * text + (1 - share) * video) / count
    return total


def loop_mil_nce(scores, there, same):
    total, count = 0.0, len(scores)
    for i in range(count):
        positive = sum(math.exp(scores[i, i, c]) for c in range(scores.shape[2]) if there[i, c])
        negative = 0.0
        for j in range(count):
            if j == i or same[i, j]:
                continue
            negative += sum(math.exp(scores[i, j, c]) for c in range(scores.shape[2]) if there[j, c])
            negative += sum(math.exp(scores[j, i, c]) for c in range(scores.shape[2]) if there[i, c])
        total -= math.log(positive / (positive + negative)) / count
    return total


def loop_nt_xent(a, b, scale, same):
    both, count, total = [*a, *b], len(a), 0.0
    for i, view in enumerate(both):
        scores = [math.exp(scale * nn.functional.cosine_similarity(view, other, dim=0)) for other in both]
        other = (i + count) % (2 * count)
        negatives = [score for j, score in enumerate(scores) if not same[i % count, j % count]]
        total -= math.log(scores[other] / (scores[other] + sum(negatives))) / (2 * count)
    return total


def test_losses_equal_loops():
    texts = words(6, 3, 4, seed=1)
    texts[3, 2], texts[0, 1:], texts[5, 2] = texts[1, 0], 0, 0
    same, there = same_texts(texts, 0), present(texts, 0)
    told = [{tuple(text) for text in sample.tolist() if any(text)} for sample in texts]
    assert same.tolist() == [[bool(a & b) for b in told] for a in told]
    assert same[1, 3] and not same[0, 5]
    scores = random(6, 6, 3, seed=2)
    for share in (0.5, 0.75, 1.0):
        wanted = loop_info_nce(scores[..., 0], same, share)
        assert float(info_nce(scores[..., 0], same, share)) == pytest.approx(wanted, rel=1e-12)
    assert float(mil_nce(scores, there, same)) == pytest.approx(loop_mil_nce(scores, there, same), rel=1e-12)
    rows, columns = random(6, 5, seed=3), random(6, 3, 5, seed=4)
    wanted = loop_nt_xent(rows, columns[:, 0], 3.0, same)
    assert float(nt_xent(rows, columns[:, 0], 3.0, same)) == pytest.approx(wanted, rel=1e-12)
    cosine = nn.functional.cosine_similarity(rows[:, None, None], columns[None], dim=-1)
    torch.testing.assert_close(cosines(rows, columns, 7.0), 7 * cosine, rtol=1e-12, atol=1e-12)
    mean = torch.stack([part[mask].mean(0) for part, mask in zip(columns, there, strict=True)])
    torch.testing.assert_close(children_mean(columns, there), mean, rtol=1e-12, atol=1e-12)


def test_symmetric_loss_is_that_of_clip_without_duplicates_and_one_candidate_is_no_more():
    scores, none = random(5, 5), torch.eye(5, dtype=torch.bool)
    right = torch.arange(5)
    clip = (nn.functional.cross_entropy(scores, right) + nn.functional.cross_entropy(scores.T, right)) / 2
    torch.testing.assert_close(info_nce(scores, none), clip, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info_nce(scores, none, 1.0), nn.functional.cross_entropy(scores, right))
    one = mil_nce(scores[..., None], torch.ones(5, 1, dtype=torch.bool), none)
    more = mil_nce(
        torch.stack((scores, 50 + scores), -1), torch.tensor([[True, False]] * 5), none
    )  # what is not there is not seen
    torch.testing.assert_close(one, more, rtol=1e-12, atol=1e-12)


def test_duplicates_have_no_influence_on_each_other():
    scores, same = random(4, 4).requires_grad_(), torch.eye(4, dtype=torch.bool)
    same[1, 2] = same[2, 1] = True
    for loss in (info_nce(scores, same), mil_nce(scores[..., None], torch.ones(4, 1, dtype=torch.bool), same)):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert gradient[1, 2] == gradient[2, 1] == 0 and (gradient[0, 1:] != 0).all()


def test_a_batch_of_one_has_no_negatives_and_is_too_small(task):
    alone = take(task.train, slice(0, 1))
    model = made_model(task)
    assert task.objective(model, alone).item() == pytest.approx(0, abs=1e-6)
    assert task.least_batch == 2


def test_terms_are_averaged_and_levels_weighted(task):
    model, batch = made_model(task), task.train
    found = model(clip=batch[0], phase=batch[1], video=batch[2])
    clip, (video, text, steps) = found["clip"], found["phase"]
    same = same_texts(batch[1][1][:, None], 0)
    assert same[4, 5] and same.sum() == 10
    parts = children_mean(steps, present(batch[1][2], 0))
    pairs = [(video, text, 0.5), (video, text, 0.75), (video, parts, 0.5), (text, parts, 0.5)]
    phase = np.mean([loop_info_nce(cosines(a, b, 10.0).detach(), same, share) for a, b, share in pairs])
    scores, same = cosines(*clip, 10.0).detach(), same_texts(batch[0][1], 0)
    first = [loop_info_nce(scores[..., 0], same, share) for share in (0.5, 0.75)]
    clips = np.mean([*first, loop_mil_nce(scores, present(batch[0][1], 0), same)])
    two = made_task(levels=("clip", "phase"))
    assert two.objective(model, batch).item() == pytest.approx(clips + phase / 3, rel=1e-10)
    assert task.objective(model, batch).item() > clips + phase / 3  # and the videos
    nothing = (*batch[:2], map_nest(lambda t: t[..., :0], batch[2]), batch[3])
    assert torch.equal(task.objective(model, nothing), two.objective(model, batch))
    only = made_task(levels=("clip",), clip_terms=("symmetric",))
    assert only.objective(model, batch).item() == pytest.approx(first[0], rel=1e-10)


def test_augmented_views_have_the_losses_of_clips_and_that_of_simclr():
    task = made_task(augmented=True, levels=("clip",))
    (frames_, narrations), model = task.train[0], made_model(task)
    same, found, views = same_texts(narrations, 0), [], []
    for view in range(3):
        clip, texts = model(clip=(frames_[:, view : view + 1], narrations))["clip"]
        scores = cosines(clip, texts, 10.0).detach()
        first = [loop_info_nce(scores[..., 0], same, share) for share in (0.5, 0.75)]
        found.append(np.mean([*first, loop_mil_nce(scores, present(narrations, 0), same)]))
        views.append(clip.detach())
    wanted = np.mean([*found, loop_nt_xent(*views[1:], 10.0, same)])
    assert task.objective(model, task.train).item() == pytest.approx(wanted, rel=1e-10)


# The towers.


@pytest.mark.parametrize("case", CASES)
def test_engines_agree_with_autograd_one_agent_at_a_time(tasks, case):
    task = tasks[case]
    batch = take(task.train, slice(AGENTS * BATCH))
    nothing = map_nest(lambda t: t[..., :0], batch[2])  # videos do not count at this step
    check_engines(task, made_model(task, case), (*batch[:2], nothing, batch[-1]), AGENTS)


@pytest.mark.parametrize("case", CASES)
def test_hessian_products_equal_differences_of_gradients(tasks, case):
    task = tasks[case]
    model = made_model(task, case)
    names = dict(model.named_parameters())
    vectors = [random(*p.shape, seed=place) for place, p in enumerate(names.values())]

    def gradient(step):
        moved = {name: p + step * v for (name, p), v in zip(names.items(), vectors, strict=True)}
        moved = {name: p.detach().requires_grad_() for name, p in moved.items()}
        loss = task.objective(lambda *a, **k: torch.func.functional_call(model, moved, a, k), task.train)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(moved.values()))])

    flat = torch.cat([v.flatten() for v in vectors]).numpy()
    product = torch.from_numpy(HessianOperator(model, task.objective, task.train) @ flat)
    step = 1e-5
    wanted = (gradient(step) - gradient(-step)) / (2 * step)
    assert float((product - wanted).norm() / wanted.norm()) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_padding_and_the_rest_of_a_batch_do_not_change_an_embedding(tasks, case):
    model, (video, text, steps) = made_model(tasks[case], case), tasks[case].train[1]
    found = model(phase=(video, text, steps))["phase"]
    assert [part.shape for part in found] == [(8, 5), (8, 5), (8, 3, 5)]
    longer = nn.functional.pad(text, (0, 0 if text.is_floating_point() else 2))
    padded = model(phase=(video[:1], longer, steps[:, 2]))["phase"]
    for part, wanted in zip(padded, (found[0][:1], found[1], found[2][:, 2]), strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-10, atol=1e-12)
    reversed_ = model(phase=(video.flip(1), text, steps))["phase"][0]
    torch.testing.assert_close(reversed_, found[0], rtol=1e-10, atol=1e-12)  # the mean over frames
    frames_ = torch.stack([model(phase=(video[:, t : t + 1], text))["phase"][0] for t in range(3)]).mean(0)
    torch.testing.assert_close(frames_, found[0], rtol=1e-10, atol=1e-12)


def test_heads_of_other_levels_are_separate_or_shared(task):
    for case, others in zip(CASES, (True, False), strict=False):
        model = made_model(task, case)
        clip, phase = (model(**{level: task.train[0]})[level][0] for level in ("clip", "phase"))
        assert bool((clip != phase).any()) is others


def test_a_learned_temperature_starts_where_it_is_set_and_stays_in_bounds(task):
    model = made_model(task, "separate heads, learned temperature")
    assert model(clip=task.train[0])["scale"].item() == pytest.approx(10, rel=1e-6)
    model.log_scale.data.fill_(9.0)
    assert model(clip=task.train[0])["scale"].item() == 100
    assert "log_scale" not in dict(made_model(task).named_parameters())


def test_other_inputs_are_refused():
    with pytest.raises(ValueError, match=r"video_text needs videos of shape \(frames, channels, height, width\)"):
        MODELS["video_text"](((3, 8, 8), (5,)), 9, 0)


# The settings of an experiment.


def test_what_counts_follows_the_epochs():
    task = video_language(videos=2, test_videos=1, epoch=2, phase_every=2, video_every=3)
    assert task.sets == ("test", "other_kind", "other_centre") and task.prompt_level == "phase"
    model, train = made_model(task), task.to("cpu", F64).train
    batch = train.read(torch.arange(2))
    for step in range(14):
        part = train.at_step(batch, step)
        found = set(task.outputs(model, part)) - {"scale"}
        epoch = step // 2
        names = (
            {"phase"} if epoch in (2, 4) else {"video"} if epoch == 3 else {"phase", "video"} if epoch == 6 else set()
        )
        assert found == {"clip"} | names
        assert part[3].tolist() == [[1.0, float("phase" in names), float("video" in names)]] * 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"levels": ["phase"]}, "levels: got \\['phase'\\]; allowed are those with clip, which alone counts at first"),
        ({"levels": ["clip", "clip"]}, "levels: got .*; allowed are different ones"),
        ({"levels": ["clip"], "space": "phase"}, "space: got phase; allowed: clip"),
        ({"test_path": "here"}, "video_language: test_path is 'here', which is for samples that are read"),
        ({"path": "here", "kinds": ["repair"]}, "video_language: kinds is .*, which is for samples made here"),
    ],
)
def test_settings_without_a_meaning_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        video_language(**given)


# Recognition of phases.


def test_scores_are_of_each_video_and_then_averaged(task):
    test, prompt, projection = task.test, random(PHASES, 2, 5), random(3 * 8 * 8, 5)

    def embed(frames):
        return (frames.flatten(1) - 0.5) @ projection

    def model(phase):
        assert torch.equal(phase[1], task.prompts)
        return {"phase": (embed(phase[0]), prompt), "scale": 10.0}

    found = measure(task, "test", partial(task.outputs, model))
    prompt = prompt / prompt.norm(dim=-1, keepdim=True)
    mean = torch.stack([prompt[0, 0], *prompt[1:].mean(1)])
    near = nn.functional.cosine_similarity(embed(test.frames)[:, None], mean, dim=-1).argmax(1)
    rows = [(test.phase[test.video == v].numpy(), near[test.video == v].numpy()) for v in range(3)]
    accuracy = [accuracy_score(*row) for row in rows]
    f1 = [f1_score(*row, average="macro") for row in rows]
    assert {name: value for name, value in found.items() if name != "test_loss"} == pytest.approx(
        {
            "test_phase_accuracy": np.mean(accuracy[:2]),
            "test_phase_f1": np.mean(f1[:2]),
            "test_phase_accuracy_other_centre": accuracy[2],
            "test_phase_f1_other_centre": f1[2],
        }
    )


def test_f1_is_over_the_phases_that_occur_or_are_predicted(task):
    """One phase is predicted where it does not occur, and one neither occurs nor is predicted."""
    wide = replace(task, phases=tuple("abcde"), sets=("test",))
    phase, said = torch.tensor([0, 0, 1, 1, 4, 4]), torch.tensor([0, 2, 1, 1, 0, 2])
    metric = PhaseF1()
    metric.reset()
    metric.update(nn.functional.one_hot(said, 5).double(), Frames(frames(6, 1), phase, torch.zeros_like(phase)), wide)
    assert metric.compute() == pytest.approx(f1_score(phase, said, average="macro"))
    assert metric.compute() == pytest.approx((0.5 + 1 + 0 + 0) / 4)


def test_scores_of_other_tasks_and_sets_are_refused(task):
    for metric, given, sentence in [
        (PhaseAccuracy(), Regression(train=(random(2, 1), random(2, 1)), num_outputs=1), "needs a task of videos and"),
        (
            PhaseF1("away"),
            replace(task, sets=tuple("hgfedcbah")),
            "phase_f1_away is of test videos of the set away; there are h, g, f, e, d, c, b, a$",
        ),
    ]:
        metric.reset()
        with pytest.raises(ValueError, match=sentence):
            metric.update(random(60, PHASES), task.test, given)
    metric = PhaseF1()
    metric.reset()
    assert math.isnan(metric.compute())
    with pytest.raises(ValueError, match=r"phase_f1 needs frames of known phases; allowed is metrics_on: \[test\]"):
        metric.update(None, task.train, task)


def test_phases_that_no_test_shows_are_named(task):
    assert "in no test video" not in task.about_loss
    count = len(task.phases)
    more = replace(task, phases=(*task.phases, "sewing"))
    wanted = f"; {count + 1} phases, 1 of them in no test video ('sewing'), so that chance is {1 / (count + 1):.3g}"
    assert more.about_loss.endswith(wanted)


def test_baselines_are_chance_and_the_most_frequent_phase(task):
    found = task.baselines()
    assert found["chance"]["test_phase_accuracy"] == pytest.approx(1 / PHASES, abs=5 * math.sqrt(2 / 9 / 40 / 32))
    counts = torch.stack([torch.bincount(task.test.phase[task.test.video == v], minlength=PHASES) for v in range(3)])
    most = int(counts.sum(0).argmax())
    counts = counts[:2]
    shares = counts[:, most] / 20
    row = found["most frequent phase"]
    assert row["test_phase_accuracy"] == pytest.approx(float(shares.mean()))
    seen = (counts + torch.nn.functional.one_hot(torch.tensor(most), PHASES) > 0).sum(1)
    assert row["test_phase_f1"] == pytest.approx(float((2 * shares / (1 + shares) / seen).mean()))
    assert "chance is 0.333" in task.about_loss


def test_baselines_of_many_frames(task):
    count = 4100  # more than are measured at a time
    phase = torch.arange(count) % PHASES
    many = replace(task, test=Frames(frames(count, 1)[..., :1, :1], phase, torch.zeros_like(phase)))
    found = many.baselines()
    assert found["chance"]["test_phase_accuracy"] == pytest.approx(1 / PHASES, abs=5 * math.sqrt(2 / 9 / count / 32))
    assert found["most frequent phase"]["test_phase_accuracy"] == pytest.approx(1 / PHASES, abs=1e-3)


def test_untrained_models_are_at_chance(task):
    """On frames that are noise, each of them errs independently."""
    found = np.mean([evaluate(task, made_model(task, seed=seed))["test_phase_accuracy"] for seed in range(12)])
    counts = torch.bincount(task.test.phase).double() / 60  # a model that says one phase throughout is right so often
    spread = float(counts.sub(1 / PHASES).square().mean().sqrt()) + math.sqrt(2 / 9 / 60)
    assert found == pytest.approx(1 / PHASES, abs=4 * spread / math.sqrt(12))


def test_models_of_one_input_are_refused(task, make_setup):
    said = (
        r"^model: mlp cannot take the inputs of .*VideoLanguage, which are clip \[\(2, 3, 8, 8\), \(2, 5\)\], phase .*"
        " and video .*; allowed are models that take these, such as video_text$"
    )
    with pytest.raises(ExperimentError, match=said):
        make_setup(task=task, batch_size=BATCH)


# Runs.


def test_a_run_stopped_between_turns_of_the_levels_ends_like_an_unbroken_one(tmp_path):
    task = {"videos": 6, "test_videos": 1, "epoch": 2, "phase_every": 2, "video_every": 3, "augmented": True}
    changes = {
        "task": {"name": "video_language", **task}, "model": {"name": "video_text", **SMALL, "layers": 0},
        "topology": {"name": "ring", "agents": 2}, "schedule": "cosine", "batch_size": 3, "steps": 10,
        "evaluate_every": 10, "replicas": 1, "analysis": [], "runtime": {"device": "cpu", "engine": "loop"},
    }  # fmt: skip
    carry_out(tmp_path / "whole", rhythm=LOOKS_AT_EVERY_STEP, **changes)
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, at=5, **changes)  # within the epoch of phases
    assert 5 <= load_run(tmp_path / "broken" / "diffusion-atc").status["step"] < 10
    carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, **changes)
    whole, broken = (tmp_path / name / "diffusion-atc" for name in ("whole", "broken"))
    assert_same(final_state(whole), final_state(broken))
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    # However many levels count: the rate ends where training does.
    setup = build_setup(Config.parse(load_run(whole).config), trial=False)
    assert setup.rate_factor(10) == 0 < setup.rate_factor(9) < 0.1
