"""Sets of videos of procedures for training, tests and transfer, composed or read from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basinet.sim.experiment.mistakes import count_of, nearest, shown
from basinet.sim.tasks.vision.procedures.composed import KINDS, Composed, Part, Procedure, compose, tell
from basinet.sim.tasks.vision.procedures.interval_files import SmallVideos, check_apart, read_folder, read_prompts
from basinet.sim.tasks.vision.procedures.labelled_frames import Labelled, Views
from basinet.sim.tasks.vision.procedures.procedure_stages import CENTRES, DIFFICULTIES
from basinet.sim.tasks.vision.procedures.text_features import TextFeatures, TextModel
from basinet.sim.tasks.vision.procedures.told_videos import Alternation, Extent, Told, ToldVideos, filled
from basinet.sim.tasks.vision.procedures.vocabulary import Words
from basinet.sim.tasks.vision.procedures.wording import prompts
from basinet.sim.tasks.vision.videos.video_views import kept_videos

__all__ = ["ProcedureSets", "composed_sets", "read_sets"]


@dataclass(frozen=True)
class ProcedureSets:
    """Videos for training and tests, and the frames whose phases are to be recognised.

    Attributes:
        train: Training videos, and what is told of them.
        recognised: Frames with phases by the name of their set: "test", and if composed "other kind" and
            "other centre".
        phases: Names of the phases.
        prompts: Tokens of the sentences that describe each phase, int64 [phases, prompts, T], or their vectors; those
            of phases with fewer prompts are padding.
        columns: What else is known of each training video.
    """

    train: ToldVideos
    recognised: Mapping[str, Labelled]
    phases: tuple[str, ...]
    prompts: Tensor
    columns: Mapping[str, NDArray[Any]]


def composed_sets(
    difficulty: str,
    *,
    videos: int | None = None,
    test_videos: int = 24,
    kinds: Sequence[str] = KINDS[:1],
    centres: Sequence[str] = CENTRES[:1],
    words: Words | TextModel | None = None,
    extent: Extent,
    alternation: Alternation,
) -> ProcedureSets:
    """Compose videos, the same in every run.

    Test videos are of the kinds and centres of training and show other regions of the photos; those of the sets for
    transfer are of another kind of procedure, or from another centre.

    Args:
        difficulty: "easy" or "hard".
        videos: Number of training videos, shared evenly by the kinds and centres; None for the usual one.
        test_videos: Number of videos in each set for tests.
        kinds: Kinds of the procedures for training.
        centres: Where they are made.
        words: The vocabulary, or a model that makes texts vectors; None for the words of the training videos.
        extent: Sizes of the parts of a sample.
        alternation: When the loss of each level counts.

    Returns:
        The sets.

    Raises:
        ValueError: A kind or centre is unknown, or appears twice.
    """
    for name, given, known in (("kinds", kinds, KINDS), ("centres", centres, CENTRES)):
        if unknown := next((word for word in given if word not in known), None):
            raise ValueError(f"{name}: got {shown(unknown)}; {nearest(unknown, known)}")
        if not given or len({*given}) < len(given):
            raise ValueError(f"{name}: got {shown([*given])}; allowed are one or more different ones")
    own = [*product(kinds, centres)]
    other_kind = [(kind, centre) for kind, centre in product(KINDS, centres) if kind not in kinds]
    other_centre = [(kind, centre) for kind, centre in product(kinds, CENTRES) if centre not in centres]
    count = DIFFICULTIES[difficulty].videos if videos is None else videos
    stages = DIFFICULTIES[difficulty].stages
    procedures = _procedures(difficulty, own, "train", count)
    told = [tell(procedure, extent.candidates) for procedure in procedures]
    asked = prompts(stages)
    code = _code(words, told, asked)
    source = Composed(procedures)
    recognised = {}
    for name, pairs in {"test": own, "other kind": other_kind, "other centre": other_centre}.items():
        if pairs:
            some = _procedures(difficulty, pairs, "test", test_videos)
            recognised[name] = Labelled.of(Composed(some), [procedure.phases for procedure in some])
    columns = {
        "kind": np.array([procedure.kind for procedure in procedures]),
        "centre": np.array([procedure.centre for procedure in procedures]),
        "first_phase": np.array([stages[procedure.stages[0]].name for procedure in procedures]),
    }
    return ProcedureSets(
        _samples(source, source.fingerprint, told, code, extent, alternation),
        recognised,
        tuple(stage.name for stage in stages),
        _encoded(code, asked, extent.words),
        columns,
    )


def read_sets(
    path: Path,
    test_path: Path | None,
    prompts_file: Path | None,
    *,
    frames: int,
    side: int,
    most_words: int | None = None,
    words: Words | TextModel | None = None,
    cache: Path,
    extent: Extent,
    alternation: Alternation,
) -> ProcedureSets:
    """Read videos and what is told of them.

    Args:
        path: Folder of the training videos; see `read_folder`.
        test_path: Folder of the test videos, where the texts of phases are the names of the phases; None for no tests.
        prompts_file: CSV file of prompts; see `read_prompts`.
        frames: Number of frames of each video that are used, evenly spaced.
        side: Height and width to which they are resized.
        most_words: Largest size of the vocabulary; None for all words of the training videos.
        words: The vocabulary instead, or a model that makes texts vectors.
        cache: Folder in which the frames are kept.
        extent: Sizes of the parts of a sample.
        alternation: When the loss of each level counts.

    Returns:
        The sets.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: A file is missing, cannot be read or holds something else, or a video is in both folders.
    """
    if (test_path is None) != (prompts_file is None):
        missing = "prompts" if prompts_file is None else "test_path"
        raise ValueError(f"{missing}: is missing; test videos need prompts of their phases, and prompts test videos")
    if test_path is not None:
        check_apart(path, test_path)
    described = {} if prompts_file is None else read_prompts(prompts_file)
    names = tuple(described)
    files, told = read_folder(path, frames)
    code = _code(words, told, [*described.values()], most_words)
    source, recognised = SmallVideos(files, frames, side), {}
    if test_path is not None:
        held, said = read_folder(test_path, frames, names)
        if len(names) < 2:
            given = count_of(len(names), "phase")
            only = "".join(f", {shown(name)}" for name in names)
            raise ValueError(f"video_language: {prompts_file} has prompts of {given}{only}; at least two are needed")
        spans = [[(span.first, span.end, names.index(span.texts[0])) for span in video.phases] for video in said]
        recognised["test"] = Labelled.of(kept_videos(SmallVideos(held, frames, side), cache), spans)
    return ProcedureSets(
        _samples(kept_videos(source, cache), source.fingerprint, told, code, extent, alternation),
        recognised,
        names,
        _encoded(code, [*described.values()], extent.words),
        {"video": np.array([file.stem for file in files])},
    )


def _code(
    words: Words | TextModel | None, told: Sequence[Told], asked: Sequence[Sequence[str]], most: int | None = None
) -> Words | TextFeatures:
    """Return what makes texts of training videos and prompts tokens or vectors; words of prompts alone are unknown."""
    texts = (text for video in told for text in video.texts)
    if isinstance(words, TextModel):
        return words.features(chain(texts, *asked))
    return words or Words.of(texts, most)


def _procedures(difficulty: str, pairs: Sequence[tuple[str, str]], part: Part, count: int) -> list[Procedure]:
    return [compose(difficulty, *pairs[number % len(pairs)], part, number) for number in range(count)]


def _samples(
    source: Views,
    origin: str,
    told: Sequence[Told],
    words: Words | TextFeatures,
    extent: Extent,
    alternation: Alternation,
) -> ToldVideos:
    """Join videos and what is told of them."""
    return ToldVideos(
        source=source,
        told=tuple(told),
        words=words,
        extent=extent,
        alternation=alternation,
        origin=origin,
    )


def _encoded(words: Words | TextFeatures, texts: Sequence[Sequence[str]], length: int) -> Tensor:
    """Turn the prompts of phases into tokens or vectors."""
    most = max(map(len, texts), default=1)
    found = [filled(words.encode_all(own, length), most) for own in texts]
    return torch.from_numpy(np.stack(found) if found else words.encode_all([], length)[:, None])
