"""Videos of procedures and what is told of them at three levels, and recognition of phases by what they are called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.data.memory_map import cache_folder
from basinet.sim.evaluation.measuring import measure
from basinet.sim.experiment.mistakes import nearest, shown
from basinet.sim.models.vision.languages.video_text import Level
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.task import TASKS, Batch, MeanOver, Task
from basinet.sim.tasks.vision.procedures.composed import KINDS
from basinet.sim.tasks.vision.procedures.contrastive import (
    children_mean,
    cosines,
    info_nce,
    mil_nce,
    nt_xent,
    present,
    same_texts,
)
from basinet.sim.tasks.vision.procedures.labelled_frames import Frames, Labelled
from basinet.sim.tasks.vision.procedures.procedure_sets import composed_sets, read_sets
from basinet.sim.tasks.vision.procedures.procedure_stages import CENTRES
from basinet.sim.tasks.vision.procedures.text_features import TextModel, TextModelName
from basinet.sim.tasks.vision.procedures.told_videos import Alternation, Extent
from basinet.sim.tasks.vision.procedures.vocabulary import PADDING, Words

__all__ = ["ClipTerm", "PartsTerm", "VideoLanguage", "video_language"]

ClipTerm = Literal["symmetric", "weighted", "candidates"]
"""Loss of a clip and its narrations: of the first one, either way or weighted; or of all, any of which may be right."""

PartsTerm = Literal["symmetric", "weighted", "video_parts", "text_parts"]
"""Loss of a phase or a video: of it and its text, either way or weighted; of it, or its text, and the parts' texts."""

_PLACES: dict[Level, int] = {level: place for place, level in enumerate(get_args(Level))}
"""Place of each level in a batch."""

_TEXT_SHARE = 0.75
"""How much finding texts counts in a weighted loss, beside finding videos."""

_VIEWS = 3
"""Views of a clip: itself, and two augmented ones."""

_DRAWS = 32
"""Number of times that phases are guessed for the baseline of chance."""


@dataclass(frozen=True, kw_only=True)
class VideoLanguage(Task):
    """Learning from videos and texts at three levels, by contrast in a batch; tests ask for phases that were not named.

    Training data make batches (clip, phase, video, weights); texts are words, int64, padded with 0, or vectors. A clip
    is (frames [B, F, 3, H, W] from 0 to 1, candidates for its narration [B, C, T], the first of which there is), a
    phase (frames, its text [B, T], texts of its steps [B, S, T]), a video (frames, abstract [B, T], texts of its phases
    [B, P, T]). Weights [B, 3] say how much the loss of each level counts, alike in all of a batch; levels whose parts
    have a last dimension of 0 do not count. Test data make batches `Frames`.

    The loss is the weighted sum over the levels of the mean of their terms. A batch of another size has other
    negatives, and is another objective. Samples of a batch that share a text are no negatives of each other at that
    level. With augmented views of clips, the mean of the terms is taken of each of the three views, and averaged with
    the loss of SimCLR of the augmented ones. The published levels take turns with steps of their own, where here the
    losses of those that count in a step are added (our reading).

    Attributes:
        words: The vocabulary; None if texts are vectors.
        phases: Names of the phases.
        prompts: Sentences of what each phase is called in tests, int64 [K, P, T], of which some may be padding; or
            vectors.
        sets: The set of each test video, such as "test", or "other_centre" for transfer.
        levels: The levels that count at all.
        clip_terms: The losses of clips.
        parts_terms: The losses of phases and of videos.
        augmented: Whether the frames of a clip are those of three views, one after another: the clip, and two
            augmented ones.
        prompt_level: The level whose space tests compare frames and prompts in.
    """

    classification: bool = False
    mean_over: MeanOver = "batch"
    model: str = "video_text"
    words: Words | None = None
    phases: tuple[str, ...]
    prompts: Tensor
    sets: tuple[str, ...]
    levels: tuple[Level, ...] = get_args(Level)
    clip_terms: tuple[ClipTerm, ...] = get_args(ClipTerm)
    parts_terms: tuple[PartsTerm, ...] = get_args(PartsTerm)
    augmented: bool = False
    prompt_level: Level = "phase"

    same_loss: ClassVar[bool] = False
    loss_words: ClassVar[str] = (
        "weighted sum over the levels of contrastive losses of the batch, whose size sets the negatives; on test data"
        " the cross-entropy of phases by prompts, which is another loss"
    )

    def hold_out(self, share: float, seed: int) -> Self:
        """Raise ValueError: training data have another form than test data."""
        raise ValueError(
            "no training samples can be held out, since videos with texts are trained on, but frames with phases tested"
        )

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps: the vocabulary, if there is one."""
        return {} if self.words is None else {"words": self.words.kept}

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the makers of models may ask for; see `Task.model_arguments`."""
        size = None if self.words is None else self.words.size
        return {**super().model_arguments, "vocabulary": size, "padding": PADDING}

    @property
    def least_batch(self) -> int:
        """Smallest number of samples that a batch needs: two, which are each other's negatives."""
        return 2

    @property
    def about_loss(self) -> str:
        """The loss, what it is measured on, and what chance is, in words."""
        words = super().about_loss
        if self.test is None:
            return words
        count, tested = len(self.phases), {*self.test.phase.tolist()}
        absent = [shown(phase) for number, phase in enumerate(self.phases) if number not in tested]
        some = f", {len(absent)} of them in no test video ({', '.join(absent)})" if absent else ""
        return f"{words}; {count} phases{some}, so that chance is {1 / count:.3g}"

    def outputs(self, model: Callable[..., Any], batch: Batch) -> Any:
        """Embed what counts of a batch, or score the phases of frames.

        Args:
            model: The model.
            batch: A batch.

        Returns:
            What the model returns; for frames the scores of the phases, [B, K].
        """
        if isinstance(batch, Frames):
            level = self.prompt_level
            found = model(**{level: (batch.frames, self.prompts)})
            frames, prompts = found[level]
            prompts = children_mean(nn.functional.normalize(prompts, dim=-1), present(self.prompts, PADDING))
            return cosines(frames, prompts, found["scale"])
        return model(**self._counted(batch))

    def _counted(self, batch: Batch) -> dict[Level, tuple[Tensor, ...]]:
        """Return the levels of which there is something in a batch."""
        found = {level: batch[_PLACES[level]] for level in self.levels}
        found = {level: tuple(part) for level, part in found.items() if part[1].shape[-1]}
        if self.augmented and "clip" in found:
            frames, *texts = found["clip"]
            found["clip"] = (torch.unflatten(frames, 1, (_VIEWS, -1)).transpose(0, 1).flatten(0, 1), *texts)
        return found

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Add up the losses of the levels, each with its weight.

        Args:
            outputs: What `outputs` returns.
            batch: The batch.

        Returns:
            A scalar tensor; for frames, the cross-entropy of their phases.
        """
        if isinstance(batch, Frames):
            return nn.functional.cross_entropy(outputs, batch.phase)
        losses = []
        for level, (_, *texts) in self._counted(batch).items():
            of_level = self._clip_loss if level == "clip" else self._parts_loss
            weight = batch[-1][:, _PLACES[level]].mean()
            losses.append(weight * of_level(outputs[level], texts, outputs["scale"]))
        return torch.stack(losses).sum()

    def _clip_loss(self, found: Sequence[Tensor], texts: Sequence[Tensor], scale: Tensor | float) -> Tensor:
        (clips, narrations), (words,) = found, texts
        same = same_texts(words, PADDING)
        if not self.augmented:
            return self._narrated_loss(cosines(clips, narrations, scale), words, same)
        views = torch.unflatten(clips, 0, (_VIEWS, -1))
        losses = [self._narrated_loss(cosines(view, narrations, scale), words, same) for view in views]
        return torch.stack([*losses, nt_xent(views[1], views[2], scale, same)]).mean()

    def _narrated_loss(self, scores: Tensor, words: Tensor, same: Tensor) -> Tensor:
        terms: dict[ClipTerm, Callable[[], Tensor]] = {
            "symmetric": lambda: info_nce(scores[..., 0], same),
            "weighted": lambda: info_nce(scores[..., 0], same, _TEXT_SHARE),
            "candidates": lambda: mil_nce(scores, present(words, PADDING), same),
        }
        return torch.stack([terms[term]() for term in self.clip_terms]).mean()

    def _parts_loss(self, found: Sequence[Tensor], texts: Sequence[Tensor], scale: Tensor | float) -> Tensor:
        (videos, whole, parts), (words, words_of_parts) = found, texts
        scores, same = cosines(videos, whole, scale), same_texts(words[:, None], PADDING)
        children = children_mean(parts, present(words_of_parts, PADDING))
        terms: dict[PartsTerm, Callable[[], Tensor]] = {
            "symmetric": lambda: info_nce(scores, same),
            "weighted": lambda: info_nce(scores, same, _TEXT_SHARE),
            "video_parts": lambda: info_nce(cosines(videos, children, scale), same),
            "text_parts": lambda: info_nce(cosines(whole, children, scale), same),
        }
        return torch.stack([terms[term]() for term in self.parts_terms]).mean()

    def predict(self, outputs: Any) -> Tensor:
        """Choose the phase whose prompts are most like a frame, on average.

        Args:
            outputs: Scores [B, K].

        Returns:
            int64 [B].
        """
        return output_of(outputs).argmax(-1)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what tests measure of guesses, on average over some, and of the most frequent phase of the tests."""
        if self.test is None:
            return {}
        phase, video = self.test.phase, self.test.video
        count = len(self.phases)
        most = int(torch.bincount(phase, minlength=count).argmax())

        def measured(chosen: Tensor) -> dict[str, float]:
            test = Frames(chosen, phase, video)
            return measure(replace(self, test=test), "test", lambda batch: _certain(batch.frames, count))

        keys = torch.tensor([draws.key(0, "guessed phases", turn) for turn in range(_DRAWS)])
        guesses = draws.integers(keys, count, (len(phase),)).to(phase.device)
        found = [measured(guess) for guess in guesses]
        chance = {name: sum(each[name] for each in found) / _DRAWS for name in found[0]}
        rows = {"chance": chance, "most frequent phase": measured(torch.full_like(phase, most))}
        return {label: {k: v for k, v in row.items() if k != "test_loss"} for label, row in rows.items()}


def _certain(chosen: Tensor, count: int) -> Tensor:
    """Make scores that are largest for the chosen phases."""
    return nn.functional.one_hot(chosen, count).float()


@TASKS.register()
def video_language(
    *,
    difficulty: Literal["easy", "hard"] = "easy",
    videos: Annotated[int, Field(ge=2, le=10**6)] | None = None,
    test_videos: Annotated[int, Field(ge=1, le=10**6)] = 24,
    kinds: Sequence[str] = KINDS[:1],
    centres: Sequence[str] = CENTRES[:1],
    path: str | None = None,
    test_path: str | None = None,
    prompts: str | None = None,
    frames: Annotated[int, Field(ge=2, le=10**6)] = 64,
    side: Annotated[int, Field(ge=8, le=1024)] = 64,
    text: Literal["words"] | TextModelName = "words",
    most_words: Annotated[int, Field(ge=1, le=10**7)] | None = None,
    words: str | None = None,
    cache: str | None = None,
    levels: Annotated[Sequence[Level], Field(min_length=1)] = get_args(Level),
    phase_every: Annotated[int, Field(ge=1, le=10**6)] = 3,
    video_every: Annotated[int, Field(ge=1, le=10**6)] = 5,
    epoch: Annotated[int, Field(ge=1, le=10**9)] = 1,
    clip_terms: Annotated[Sequence[ClipTerm], Field(min_length=1)] = get_args(ClipTerm),
    parts_terms: Annotated[Sequence[PartsTerm], Field(min_length=1)] = get_args(PartsTerm),
    augmented: bool = False,
    space: Level | None = None,
    clip_frames: Annotated[int, Field(ge=1, le=10**4)] = 4,
    phase_frames: Annotated[int, Field(ge=1, le=10**4)] = 8,
    video_frames: Annotated[int, Field(ge=1, le=10**4)] = 16,
    narrations: Annotated[int, Field(ge=1, le=100)] = 2,
    steps: Annotated[int, Field(ge=1, le=1000)] = 3,
    phases: Annotated[int, Field(ge=1, le=1000)] = 8,
    text_length: Annotated[int, Field(ge=1, le=10**4)] = 16,
) -> VideoLanguage:
    """Learn from videos of procedures and what is told of them, to recognise phases that were never labelled.

    A sample is a video: a clip with narrations that may fit, a phase with its text and key steps, and the whole with an
    abstract and the texts of its phases; clip, phase and frames are drawn anew each time. Tests compare each frame with
    prompts of unseen wording. Without a path, videos are composed: a tool that moves over the texture of a photo, of
    eight stages that differ in both (easy, where networks are soon near the ceiling), or of sixteen that share four of
    each, in fewer and noisier videos of which less is told (hard). Further tests then show another kind of procedure,
    and videos from another centre, with other textures and noise. Samples may be partitioned by the columns `kind`,
    `centre` and `first_phase`, or of files by `video`.

    Losses are those of a batch, so that the batch size of an agent is part of its objective; see `VideoLanguage`. With
    a schedule of the rate such as `cosine` the rate reaches its end where training ends; in the published code it
    does not, since it counts the steps of all levels in all epochs.

    Args:
        difficulty: Of composed videos.
        videos: Number of composed training videos; by default 160 easy or 80 hard ones.
        test_videos: Number of videos in each composed set for tests.
        kinds: Kinds of composed procedures for training: "removal" and "repair". Tests of transfer are of the other.
        centres: Where composed videos for training are made: "first" and "second".
        path: Folder of training videos that are read instead, with CSV files of intervals in the folders clips, phases
            and abstracts.
        test_path: Folder of test videos, likewise.
        prompts: CSV file of the prompts of phases.
        frames: Number of frames of a file, evenly spaced.
        side: Height and width to which frames of files are resized.
        text: What makes texts numbers: the words of a vocabulary; or the frozen text model of a package, "wordllama" or
            "minilm", whose vectors of whole texts take the place of words.
        most_words: Largest size of the vocabulary of files; by default all words of the training videos.
        words: The file words.json of a run whose vocabulary is to be taken instead, as in training that starts from it.
        cache: Folder for decoded videos and vectors of texts, shared by all runs; by default ~/.cache/basinet.
        levels: Levels that count at all; clips do, in all epochs.
        phase_every: Number of epochs of which phases count in one, but not in the first.
        video_every: The same for videos.
        epoch: Steps of such an epoch.
        clip_terms: Losses of clips, averaged: of the first narration, "symmetric" or "weighted" towards finding texts;
            of "candidates", any of which may be right.
        parts_terms: Losses of phases and of videos, averaged: of their text, "symmetric" or "weighted"; of the mean of
            the texts of their parts, with the video ("video_parts") or the text ("text_parts").
        augmented: Whether the losses of a clip are also those of two augmented views of it, which are compared with
            each other as well, as in HecVL; it takes three times as many frames of clips.
        space: Level of the embeddings in which tests compare frames and prompts; by default that of phases, or of
            clips if phases do not count.
        clip_frames: Frames of a clip.
        phase_frames: Frames of a phase.
        video_frames: Frames of a video.
        narrations: Candidates for the narration of a clip.
        steps: Texts of the parts of a phase.
        phases: Texts of the phases of a video.
        text_length: Words of each text, after which it is cut; all of it becomes a vector.

    Returns:
        A task.

    Raises:
        ImportError: scikit-image is not installed, or PyAV for files, or the package of a text model.
        ValueError: A file cannot be read, or holds something else; or a setting has no meaning.

    References:
        K. Yuan et al.: HecVL: Hierarchical video-language pretraining for zero-shot surgical phase recognition, MICCAI
        2024, arXiv:2405.10075; A. Miech et al.: End-to-end learning of visual representations from uncurated
        instructional videos, CVPR 2020, arXiv:1912.06430.
    """
    for name, given in (("levels", levels), ("clip_terms", clip_terms), ("parts_terms", parts_terms)):
        if len({*given}) < len(given):
            raise ValueError(f"{name}: got {shown([*given])}; allowed are different ones")
    if "clip" not in levels:
        raise ValueError(f"levels: got {shown([*levels])}; allowed are those with clip, which alone counts at first")
    if space is not None and space not in levels:
        raise ValueError(f"space: got {space}; {nearest(space, levels)}")

    def folder() -> Path:
        return cache_folder() if cache is None else Path(cache)

    code: Words | TextModel | None = None
    if text != "words":
        unused = {"most_words": most_words, "words": words, "text_length": text_length}
        check_left_out(video_language, f"for words; allowed with text: {text} is to leave it out", **unused)
        code = TextModel(text, folder())
    elif words is not None:
        code = Words.read(Path(words))
        check_left_out(
            video_language, "for a vocabulary made here; allowed with words is to leave it out", most_words=most_words
        )
    extent = Extent(clip_frames, phase_frames, video_frames, narrations, steps, phases, text_length, augmented)
    alternation = Alternation(epoch, phase=phase_every, video=video_every)
    if path is None:
        files = {"test_path": test_path, "prompts": prompts, "frames": frames, "side": side, "most_words": most_words}
        check_left_out(video_language, READ, **files, **({"cache": cache} if text == "words" else {}))
        sets = composed_sets(
            difficulty, videos=videos, test_videos=test_videos, kinds=kinds, centres=centres, words=code,
            extent=extent, alternation=alternation,
        )  # fmt: skip
    else:
        composed = {"difficulty": difficulty, "videos": videos, "kinds": kinds, "centres": centres}
        check_left_out(video_language, GENERATED, **composed, test_videos=test_videos)
        sets = read_sets(
            Path(path), None if test_path is None else Path(test_path), None if prompts is None else Path(prompts),
            frames=frames, side=side, most_words=most_words, words=code, cache=folder(), extent=extent,
            alternation=alternation,
        )  # fmt: skip
    shown_in = {name.replace(" ", "_"): labelled for name, labelled in sets.recognised.items()}
    task = VideoLanguage(
        train=sets.train,
        test=Labelled.joined([*shown_in.values()]) if shown_in else None,
        num_outputs=max(1, len(sets.phases)),
        columns=sets.columns,
        words=sets.train.words if isinstance(sets.train.words, Words) else None,
        phases=sets.phases,
        prompts=sets.prompts,
        sets=tuple(name for name, labelled in shown_in.items() for _ in range(labelled.videos)),
        levels=tuple(level for level in get_args(Level) if level in levels),
        clip_terms=tuple(clip_terms),
        parts_terms=tuple(parts_terms),
        augmented=augmented,
        prompt_level=space or ("phase" if "phase" in levels else "clip"),
    )
    task.check()
    return task
