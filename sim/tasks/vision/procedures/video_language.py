"""Videos of procedures and what is told of them at three levels, and recognition of phases by what they are called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.sim.data.rows import in_memory
from basinet.sim.evaluation.measuring import measure
from basinet.sim.models.vision.languages.video_text import Level
from basinet.sim.tasks.model_outputs import output_of
from basinet.sim.tasks.task import Batch, MeanOver, Task
from basinet.sim.tasks.vision.procedures.contrastive import (
    children_mean,
    cosines,
    info_nce,
    mil_nce,
    present,
    same_texts,
)

__all__ = ["ClipTerm", "Frames", "PartsTerm", "VideoLanguage"]

ClipTerm = Literal["symmetric", "weighted", "candidates"]
"""Loss of a clip and its narrations: of the first one, either way or weighted; or of all, any of which may be right."""

PartsTerm = Literal["symmetric", "weighted", "video_parts", "text_parts"]
"""Loss of a phase or a video: of it and its text, either way or weighted; of it, or its text, and the parts' texts."""

_PLACES: dict[Level, int] = {level: place for place, level in enumerate(get_args(Level))}
"""Place of each level in a batch."""

_TEXT_SHARE = 0.75
"""How much finding texts counts in a weighted loss, beside finding videos."""

_DRAWS = 32
"""Number of times that phases are guessed for the baseline of chance."""


@dataclass(frozen=True)
class Frames:
    """A batch for tests: frames of known phases, in the order of time.

    Attributes:
        frames: A frame or more at each time, [B, F, 3, H, W] from 0 to 1.
        phase: The phase, int64 [B].
        video: The number of the video, int64 [B]; videos of all sets are numbered together.
    """

    frames: Tensor
    phase: Tensor
    video: Tensor


@dataclass(frozen=True, kw_only=True)
class VideoLanguage(Task):
    """Learning from videos and texts at three levels, by contrast in a batch; tests ask for phases that were not named.

    Training data make batches (clip, phase, video, weights); texts are words, int64, padded with 0. A clip is (frames
    [B, F, 3, H, W] from 0 to 1, candidates for its narration [B, C, T], the first of which there is), a phase (frames,
    its text [B, T], texts of its steps [B, S, T]), a video (frames, abstract [B, T], texts of its phases [B, P, T]).
    Weights [B, 3] say how much the loss of each level counts, alike in all of a batch. Test data make batches `Frames`.

    The loss is the weighted sum over the levels of the mean of their terms. A batch of another size has other
    negatives, and is another objective. Samples of a batch that share a text are no negatives of each other at that
    level. The published objective also compares two augmented views of a clip, which this one leaves out; and its
    levels take turns with steps of their own, where here the losses of those that count in a step are added (our
    reading).

    Attributes:
        words: The vocabulary, by token; the first fills up short texts.
        phases: Names of the phases.
        prompts: Sentences of what each phase is called in tests, int64 [K, P, T], of which some may be padding.
        sets: The set of each test video, such as "test", or "other_centre" for transfer.
        levels: The levels that count at all.
        clip_terms: The losses of clips.
        parts_terms: The losses of phases and of videos.
        prompt_level: The level whose space tests compare frames and prompts in.
    """

    classification: bool = False
    mean_over: MeanOver = "batch"
    model: str = "video_text"
    words: tuple[str, ...]
    phases: tuple[str, ...]
    prompts: Tensor
    sets: tuple[str, ...]
    levels: tuple[Level, ...] = get_args(Level)
    clip_terms: tuple[ClipTerm, ...] = get_args(ClipTerm)
    parts_terms: tuple[PartsTerm, ...] = get_args(PartsTerm)
    prompt_level: Level = "phase"

    loss_words: ClassVar[str] = (
        "weighted sum over the levels of contrastive losses of the batch, whose size sets the negatives; on test data"
        " the cross-entropy of phases by prompts, which is another loss"
    )

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the makers of models may ask for; see `Task.model_arguments`."""
        return {**super().model_arguments, "vocabulary": len(self.words), "padding": 0}

    @property
    def about_loss(self) -> str:
        """The loss, what it is measured on, and what chance is, in words."""
        return f"{super().about_loss}; {len(self.phases)} phases, so that chance is {1 / len(self.phases):.3g}"

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
            prompts = children_mean(nn.functional.normalize(prompts, dim=-1), present(self.prompts, 0))
            return cosines(frames, prompts, found["scale"])
        return model(**{level: batch[_PLACES[level]] for level in self.levels})

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
        for level in self.levels:
            place = _PLACES[level]
            of_level = self._clip_loss if level == "clip" else self._parts_loss
            losses.append(batch[-1][:, place].mean() * of_level(outputs[level], batch[place][1:], outputs["scale"]))
        return torch.stack(losses).sum()

    def _clip_loss(self, found: Sequence[Tensor], texts: Sequence[Tensor], scale: Tensor | float) -> Tensor:
        (clips, narrations), (words,) = found, texts
        scores, same = cosines(clips, narrations, scale), same_texts(words, 0)
        terms: dict[ClipTerm, Callable[[], Tensor]] = {
            "symmetric": lambda: info_nce(scores[..., 0], same),
            "weighted": lambda: info_nce(scores[..., 0], same, _TEXT_SHARE),
            "candidates": lambda: mil_nce(scores, present(words, 0), same),
        }
        return torch.stack([terms[term]() for term in self.clip_terms]).mean()

    def _parts_loss(self, found: Sequence[Tensor], texts: Sequence[Tensor], scale: Tensor | float) -> Tensor:
        (videos, whole, parts), (words, words_of_parts) = found, texts
        scores, same = cosines(videos, whole, scale), same_texts(words[:, None], 0)
        children = children_mean(parts, present(words_of_parts, 0))
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
        phase = in_memory(self.test).phase
        count = len(self.phases)
        most = int(torch.bincount(phase, minlength=count).argmax())

        def measured(chosen: Tensor) -> dict[str, float]:
            test = Frames(torch.zeros(len(phase), 1), phase, in_memory(self.test).video)
            return measure(replace(self, test=test, measured_batch=None), "test", lambda _: _certain(chosen, count))

        keys = torch.tensor([draws.key(0, "guessed phases", turn) for turn in range(_DRAWS)])
        guesses = draws.integers(keys, count, (len(phase),)).to(phase.device)
        found = [measured(guess) for guess in guesses]
        chance = {name: sum(each[name] for each in found) / _DRAWS for name in found[0]}
        rows = {"chance": chance, "most frequent phase": measured(torch.full_like(phase, most))}
        return {label: {k: v for k, v in row.items() if k != "test_loss"} for label, row in rows.items()}


def _certain(chosen: Tensor, count: int) -> Tensor:
    """Make scores that are largest for the chosen phases."""
    return nn.functional.one_hot(chosen, count).float()
