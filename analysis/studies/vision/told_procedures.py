"""Videos and language by networks of agents: levels of text, transfer, strategies, and losses of local batches."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike

from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import grid
from basinet.analysis.drawing.style import baseline_style
from basinet.analysis.statistics.replica_values import all_finals
from basinet.analysis.studies.flatness_tradeoff.claims import part_of
from basinet.analysis.studies.flatness_tradeoff.comparisons import Difference, larger
from basinet.analysis.studies.flatness_tradeoff.trainings import by_case, carry_out
from basinet.analysis.studies.study import Check, Count, Findings, Progress
from basinet.analysis.studies.vision.local_batches import LocalBatches, draw_batches, draw_objective, other_batches
from basinet.analysis.studies.vision.scale import IID, Scale, Steps
from basinet.analysis.studies.vision.strategies_compared import DIFFUSION, LOCAL, NO_AGENTS, Compared, at_least
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["SCALES", "Scale", "find_out", "video_language"]

_ACCURACY, _F1 = "test_phase_accuracy", "test_phase_f1"

_TRANSFER = {"other kind of procedure": "_other_kind", "other centre": "_other_centre"}
"""What the metrics of the sets for transfer end with, by what these show."""

_CHANCE, _MOST = "chance", "most frequent phase"

_TIMES = {"easy": 3.0, "hard": 2.0}
"""How many times chance recognition should reach."""

_CLIPS, _SHARED = "clips alone", "one shared space"
"""Cases in which training differs."""

_HARD = "hard"
"""What the cases on the hard videos begin with."""

_LONGER = 2
"""How many times as long a training takes on the hard videos."""

_PERIOD = 4
"""Steps between the averages of local steps."""

_FRAMES = 64
"""Test frames on which the control of the objective is computed."""

_EXPERIMENT = {
    "schedule": {"name": "one_cycle", "rise": 0.2, "final": 0.1},
    "analysis": ["hessian_top_eigenvalue", {"name": "excess_risk", "products": 10}],
    "analysis_samples": 16,
    "analysis_dtype": "float32",
}

SCALES = {
    "small": Scale(
        about="Composed videos of 8 stages, each with its own texture and tool (easy; 160 videos), or of 16 that share"
        " 4 textures and 4 tools (hard; 80), and a network of two towers. Some ten minutes on two processors.",
        task={
            "name": "video_language",
            "difficulty": "easy",
            "test_videos": 12,
            "clip_frames": 2,
            "phase_frames": 3,
            "video_frames": 6,
        },
        apart="first_phase",
        apart_as="other first phases per agent",
        model={"name": "video_text", "channels": [8, 16, 32]},
        agents=4,
        batch=8,
        rate=0.004,
        steps=150,
        replicas=3,
        of_agents=3,
        experiment=_EXPERIMENT
        | {"evaluate_every": 75, "evaluate_samples": 16, "runtime": {"device": "cpu", "engine": "loop"}},
    ),
    "large": Scale(
        about="The same videos, 24 in each test, and the default network with a transformer of words, trained ten times"
        " as long. Some processor hours by the time of a step; this size has never been run in full.",
        task={"name": "video_language", "difficulty": "easy"},
        apart="first_phase",
        apart_as="other first phases per agent",
        model={"name": "video_text"},
        agents=4,
        batch=16,
        rate=0.001,
        steps=1200,
        replicas=5,
        of_agents=5,
        experiment=_EXPERIMENT | {"evaluate_every": 300, "evaluate_samples": 64, "analysis_samples": 64, "runtime": {}},
    ),
}
"""The sizes by name."""


def video_language(
    progress: Progress,
    folder: Path,
    *,
    scale: Literal["small", "large"] = "small",
    replicas: Count | None = None,
    steps: Steps | None = None,
) -> Findings:
    """Networks of agents learn from videos and texts: three levels against one, transfer, strategies, local batches.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings; finished ones are not repeated.
        scale: "small" for minutes on two processors; "large" for the default network, hours.
        replicas: Number of replicas, by default that of the scale.
        steps: Number of steps, by default that of the scale.

    Returns:
        The findings.
    """
    return find_out(progress, folder, SCALES[scale].with_length(replicas, steps))


def find_out(progress: Progress, folder: Path, scale: Scale) -> Findings:
    """Train on other levels, by all strategies on data that differ and by some on data of one kind, in other batches.

    Args:
        progress: Called with the fraction done and a description.
        folder: Folder of the trainings.
        scale: The size of the study.

    Returns:
        The findings.
    """
    whole, apart = scale.agents * scale.batch, scale.apart_name
    cases, conditions = {**other_batches(scale), **_variants(scale)}, scale.conditions()
    described = scale.describe(cases, strategy=NO_AGENTS, analysis=[])
    levels = by_case(carry_out(folder, "levels", described, part_of(progress, 0, 0.4)))
    described = scale.describe({IID: conditions[IID]}, strategy=["centralized", "diffusion"])
    alike = carry_out(folder, "iid", described, part_of(progress, 0.4, 0.2))
    described = scale.describe({apart: conditions[apart]})
    unlike = carry_out(folder, "apart", described, part_of(progress, 0.6, 0.3))
    without = [{"name": "local_sgd", "period": _PERIOD}, "isolated"]
    described = scale.describe({apart: conditions[apart]}, strategy=without, analysis=[])
    local = carry_out(folder, "local", described, part_of(progress, 0.9, 0.1))
    found = Compared([*alike, *unlike, *local], _ACCURACY, scale.of_agents)
    other = Compared(found.runs, _ACCURACY + _TRANSFER["other kind of procedure"], 0, "other kind")
    full = {"easy": levels[f"1 × {whole}"], "hard": levels[_HARD]}
    batches = LocalBatches(scale, _ACCURACY, found.outcomes.run(NO_AGENTS, IID), levels)
    objective = batches.gaps("InfoNCE of videos and texts")
    control = batches.gaps("cross-entropy of test frames", "test", _FRAMES)
    trivial = ", ".join(f"{name} {value:.3f}" for name, value in found.baselines.items())
    return Findings(
        title="Videos and language by networks of agents",
        about=[
            scale.about,
            f"Each training takes {scale.steps} steps of Adam, or {_LONGER * scale.steps} on hard videos, under a rate"
            f" that rises to {scale.rate:g} and falls to a tenth. Levels are compared with a single model and batches"
            f" of {whole} videos; strategies on easy videos, with {scale.agents} agents on a ring, each with a batch of"
            f" {scale.batch}. {IID}: videos are dealt out at random. {apart.capitalize()}: the videos of an agent begin"
            " with some of the phases only. Centralised training averages the gradients of the same agents; local"
            f" steps are averaged in every {_PERIOD}. The corrections of exact diffusion and of gradient tracking are"
            f" derived for plain gradients. {scale.replicas} replicas under seed 1, which share initial values and"
            " samples.",
            "Scores are zero-shot: each frame of a test video is compared with prompts in words that training did not"
            " use. The accuracy of each video, and the F1 over its phases, are averaged over the videos. Test videos"
            " show other regions of the same photos; those for transfer another kind of procedure, or other photos"
            f" under other noise. Without a network, on easy videos: {trivial}.",
            "InfoNCE and MIL-NCE are statistics of a batch: its other samples are the negatives. Agents with batches of"
            f" {scale.batch} minimise another objective than a single model with {whole} videos, and losses of"
            " different batches, or their λ_max, cannot be compared.",
            "HecVL's towers, data and training are far larger, and its comparison of augmented views is left out here:"
            " nothing of this says what holds at its size. Each row is a test of its own: of twenty claims without any"
            " truth, one would show by chance.",
        ],
        checks=[
            *_level_checks(levels, full),
            *_transfer_checks(full),
            *_strategy_checks(found, apart),
            found.told(), found.ordered(), other.told(), other.ordered(),
            batches.another(objective, expected=True), batches.another(control, expected=False),
            larger(
                f"a batch of {whole} scores above {scale.agents} local ones of {scale.batch} (difference, centralised)",
                batches.scores(1, whole), batches.scores(scale.agents, scale.batch),
            ),
        ],
        drawings=[
            *found.drawings(),
            _draw_levels(_of_levels(levels, whole)),
            other.against_flatness(),
            draw_objective([objective, control]),
            draw_batches([batches], "accuracy per video", trivial),
        ],
        sources=[
            "K. Yuan et al.: HecVL: Hierarchical video-language pretraining for zero-shot surgical phase recognition,"
            " MICCAI 2024, arXiv:2405.10075.",
            "A. Miech et al.: End-to-end learning of visual representations from uncurated instructional videos,"
            " CVPR 2020, arXiv:1912.06430.",
            "A. Radford et al.: Learning transferable visual models from natural language supervision, ICML 2021,"
            " arXiv:2103.00020.",
            "Y. Cao, Z. Wu, K. Yuan, A. H. Sayed: On the trade-off between flatness and optimization in distributed"
            " learning, 2024, arXiv:2406.20006.",
        ],
    )  # fmt: skip


def _variants(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return the cases of a single model that learns from other videos, levels or spaces, by their names."""
    alone = {"task.partition": IID, "topology.agents": 1, "batch_size": scale.agents * scale.batch}
    own: dict[str, dict[str, Any]] = {
        "": {},
        _CLIPS: {"task.levels": ["clip"]},
        _SHARED: {"model.heads": "shared"},
    }
    hard = {**alone, "task.difficulty": "hard", "steps": _LONGER * scale.steps}
    found = {_named(_HARD, name): {**hard, **keys} for name, keys in own.items()}
    return {_CLIPS: {**alone, **own[_CLIPS]}, **found}


def _named(*words: str) -> str:
    return ", ".join(filter(None, words))


def _baseline(run: Run, name: str, metric: str = _ACCURACY) -> float:
    return float(run.status["baselines"][name][metric])


def _untrained(run: Run, metric: str = _ACCURACY) -> list[float]:
    """Return the scores before the first step, one per replica."""
    return [values[0] for _, (_, values) in sorted(run.series(metric).items())]


def _at_chance(claim: str, scores: ArrayLike, chance: ArrayLike) -> Check:
    """Check that scores are those of chance, by the paired difference."""
    found = Difference(scores, chance)
    otherwise = "too few pairs" if found.pairs < 2 else "above chance" if found.low > 0 else "below chance"
    same = found.pairs > 1 and found.low <= 0 <= found.high
    return Check(claim, 0.0, str(found), "the paired 95 % interval contains 0", same, otherwise)


def _level_checks(levels: Mapping[str, Run], full: Mapping[str, Run]) -> Iterator[Check]:
    for difficulty, run in full.items():
        scores, before = all_finals(run, _ACCURACY), _untrained(run)
        chance, most = ([_baseline(run, name)] * len(scores) for name in (_CHANCE, _MOST))
        times = _TIMES[difficulty]
        claim = f"zero-shot accuracy is above {times:g} times chance ({chance[0]:.3f}; ratio, {difficulty} videos)"
        yield at_least(claim, [score / chance[0] for score in scores], [0.0] * len(scores), times)
        claim = f"it is above that of the most frequent phase ({most[0]:.3f}; difference, {difficulty} videos)"
        yield larger(claim, scores, most)
        yield _at_chance(f"an untrained model is at chance (difference, {difficulty} videos)", before, chance)
    for metric, name in ((_ACCURACY, "accuracy"), (_F1, "macro F1")):
        for difficulty, clips in (("easy", levels[_CLIPS]), ("hard", levels[_named(_HARD, _CLIPS)])):
            claim = f"three levels score above clips alone ({name}, {difficulty} videos)"
            yield larger(claim, all_finals(full[difficulty], metric), all_finals(clips, metric))
        claim = f"spaces of each level score above one shared space ({name}, hard videos)"
        shared = all_finals(levels[_named(_HARD, _SHARED)], metric)
        yield larger(claim, all_finals(full["hard"], metric), shared)


def _transfer_checks(full: Mapping[str, Run]) -> Iterator[Check]:
    for difficulty, run in full.items():
        for name, end in _TRANSFER.items():
            scores, chance = all_finals(run, _ACCURACY + end), _baseline(run, _CHANCE, _ACCURACY + end)
            claim = f"what was learned is above chance in the {name} ({chance:.3f}; difference, {difficulty} videos)"
            yield larger(claim.replace("in the other centre", "at the other centre"), scores, [chance] * len(scores))


def _strategy_checks(found: Compared, apart: str) -> Iterator[Check]:
    yield found.better(apart)
    yield from found.flatter(apart)
    yield found.above(NO_AGENTS, DIFFUSION, apart)
    yield from found.mended(IID, apart)
    yield found.above(DIFFUSION, LOCAL, apart)
    yield found.together(apart)


def _of_levels(levels: Mapping[str, Run], whole: int) -> list[Row]:
    """Return the scores of each replica of single models on each set, beside those without training."""
    named = {f"1 × {whole}": "three levels", _HARD: f"{_HARD}, three levels"}
    rows = []
    for case, run in levels.items():
        for name, end in {"test": "", **_TRANSFER}.items():
            accuracy = _ACCURACY + end
            columns = (all_finals(run, accuracy), all_finals(run, _F1 + end), _untrained(run, accuracy))
            trivial = {each: _baseline(run, each, accuracy) for each in (_CHANCE, _MOST)}
            for replica, (score, f1, before) in enumerate(zip(*columns, strict=True)):
                values = {"replica": replica, "score": score, "f1": f1, "untrained": before}
                rows.append({"case": named.get(case, case), "set": name, **values, **trivial})
    return rows


def _draw_levels(rows: list[Row]) -> Drawing:
    sets, cases = (list(dict.fromkeys(row[name] for row in rows)) for name in ("set", "case"))
    figure, axes = grid(len(sets), share_x=False, share_y=True)
    for ax, name in zip(axes, sets, strict=True):
        own = [row for row in rows if row["set"] == name]
        for key, color, label in (("score", "C0", "trained"), ("untrained", "0.6", "untrained")):
            places = [cases.index(row["case"]) for row in own]
            ax.plot(places, [row[key] for row in own], "o", color=color, fillstyle="none", label=label)
        for place, trivial in enumerate((_CHANCE, _MOST)):
            ends = [next(row[trivial] for row in own if row["case"] == case) for case in cases]
            ax.plot(range(len(cases)), ends, drawstyle="steps-mid", label=trivial, **baseline_style(place))
        ax.set_title(name, fontsize="medium")
        ax.set_xticks(range(len(cases)), cases, rotation=60, ha="right", fontsize="small")
    axes[0].set_ylabel("accuracy per video")
    axes[0].legend(fontsize="small")
    return Drawing(
        "levels",
        "Levels of text, and transfer",
        "Zero-shot accuracy of single models, each mark a replica, beside chance and the most frequent phase of the"
        " tests.",
        figure,
        rows,
    )
