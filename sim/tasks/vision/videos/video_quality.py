"""Quality of videos, as people rate it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.data.memory_map import Mapped, Separate, cache_folder
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import reason_of
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.left_out import check_left_out
from basinet.sim.tasks.task import TASKS
from basinet.sim.tasks.vision.quality.scoring import Loss, PlccRankScoring, PlccScoring, RankScoring
from basinet.sim.tasks.vision.quality.statistics_ridge import Standard
from basinet.sim.tasks.vision.videos.video_rating import VideoRating, rated_videos
from basinet.sim.tasks.vision.videos.video_views import (
    Fragments,
    Rated,
    Videos,
    both_rates,
    kept_videos,
    statistics_of,
)

__all__ = ["Reading", "VideoQuality", "reading_of", "video_quality"]

Inputs = Literal["fragments", "frames", "features"]

MODELS_OF = {"fragments": "fragment_network", "frames": "frame_network", "features": "quality_perceptron"}
"""The default model for each kind of inputs."""

_CROP = 224
"""Usual side of a crop."""

_ONLY_FOR = "for inputs: {}; allowed with others is to leave it out"


@dataclass(frozen=True)
class Reading:
    """How a video becomes an input of a model.

    Attributes:
        frames: Number of frames, evenly spaced over a file.
        fragments: What is cut out of them; None for features.
        key_frames: Number of frames whose scene statistics are features.
        standards: What standardises the features of key frames and of motion; empty unless inputs are features.
    """

    frames: int
    fragments: Fragments | None
    key_frames: int
    standards: tuple[Standard, ...] = ()

    def inputs(self, video: Tensor, name: str) -> tuple[Tensor, ...]:
        """Turn a video into inputs as they are measured.

        Args:
            video: uint8 [T, 3, H, W].
            name: What to call it in error messages.

        Returns:
            (fragments [T, 3, S, S] from 0 to 1,), or (features of key frames [K, F], features of motion [T − 1, G]).

        Raises:
            ValueError: Frames are too small.
        """
        if self.fragments is None:
            parts = both_rates(video, self.key_frames)
            return tuple(standard(part).float() for standard, part in zip(self.standards, parts, strict=True))
        self.fragments.check(video.shape[2:], name)
        return (torch.from_numpy(self.fragments.of(video.numpy())).float() / 255,)


def reading_of(settings: Mapping[str, Any]) -> Reading:
    """Return how videos are read, without any.

    Args:
        settings: Settings of `video_quality`; those that are None may be left out.

    Returns:
        How they become inputs; for features without `standards`, without what standardises them.

    Raises:
        ValueError: The file `standards` cannot be read.
    """
    inputs, fragments = settings["inputs"], None
    if inputs == "fragments":
        fragments = Fragments(settings["grid"], settings["patch"])
    elif inputs == "frames":
        usual = settings["size"] if settings.get("path") is None else _CROP
        fragments = Fragments(1, settings.get("crop") or usual)
    standards = settings.get("standards")
    known = () if standards is None else _standards(Path(standards))
    return Reading(settings["frames"], fragments, settings["key_frames"], known)


def _standards(file: Path) -> tuple[Standard, ...]:
    """Read what a run has kept of how features are standardised."""
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))
        key, motion = (Standard(tuple(map(float, part["shift"])), tuple(map(float, part["scale"]))) for part in parts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"standards: {file} cannot be read: {reason_of(error)}") from error
    return key, motion


@dataclass(frozen=True, kw_only=True)
class VideoQuality(VideoRating):
    """Prediction of the mean opinion scores of videos from their pixels, or from features of them.

    A batch is (video, scores) with a video [B, T, 3, H, W] from 0 to 1, or (key, motion, scores) with features of key
    frames [B, K, F] and of motion [B, M, G]; scores are [B, 1].

    Attributes:
        reading: How a video becomes an input.
    """

    reading: Reading

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps: how features are standardised; see `Task.kept`."""
        standards = self.reading.standards
        if not standards:
            return {}
        content = json.dumps([asdict(standard) for standard in standards])
        return {"standards": Kept(digest(content), content)}

    @property
    def key_frames(self) -> int:
        """Number of frames whose scene statistics are averaged for a baseline."""
        return self.reading.key_frames


@dataclass(frozen=True, kw_only=True)
class _Plcc(PlccScoring, VideoQuality):
    """Prediction of the scores of videos under a loss of their correlation."""


@dataclass(frozen=True, kw_only=True)
class _Rank(RankScoring, VideoQuality):
    """Prediction of the scores of videos under a hinge loss of all pairs."""


@dataclass(frozen=True, kw_only=True)
class _Both(PlccRankScoring, VideoQuality):
    """Prediction of the scores of videos under both losses of a batch."""


_LOSSES: dict[Loss, type[VideoQuality]] = {"l1": VideoQuality, "plcc": _Plcc, "rank": _Rank, "plcc_rank": _Both}


@TASKS.register()
def video_quality(
    *,
    inputs: Inputs = "fragments",
    loss: Loss = "l1",
    frames: Annotated[int, Field(ge=2, le=10_000)] = 8,
    grid: Annotated[int, Field(ge=1, le=1000)] = 2,
    patch: Annotated[int, Field(ge=4, le=10_000)] = 32,
    crop: Annotated[int, Field(ge=8, le=10_000)] | None = None,
    key_frames: Annotated[int, Field(ge=1)] = 2,
    contents: Annotated[int, Field(ge=1)] = 80,
    size: Annotated[int, Field(ge=16, le=1000)] = 128,
    test: Literal["test", "validation"] = "test",
    path: str | None = None,
    train_scores: str | None = None,
    test_scores: str | None = None,
    pairs: str | None = None,
    standards: str | None = None,
    cache: str | None = None,
) -> VideoQuality:
    """Rate short videos, by clips made of photos, or by videos in the layout of KVQ.

    Without a path, clips are cut out of the photos that packages bring along, by windows that move over disjoint
    regions: of each content the clip as it is, and six versions that are compressed (x264, x265, VP9, AV1), blurred,
    denoised, rescaled or sharpened, at known levels. Their scores are those of 18 annotators, who deviate from the
    quality that the level stands for. Parts for training, validation and tests share no content, and have the
    proportions of KVQ, 2926 : 420 : 854; but they show regions of the same photos, so that tests tell little of other
    photos. Samples may be partitioned by the columns `content`, `photo` and `distortion`; those of files by the other
    columns of their CSV file.

    Videos are decoded once, to files in the cache that are mapped into memory; those of a path one by one, so that
    other lists of them share what is kept, and a bad one does not lose the others. Statistics are those of the middle
    of frames, of 512 × 512 pixels at most; ridge regression on them is fitted to 512 training videos at most, evenly
    spaced.

    Args:
        inputs: What a model sees: "fragments", a small video of patches of each frame at its native resolution; a crop
            of all "frames"; or "features", statistics of key frames (slow) and of the motion between all frames (fast),
            standardised over the training videos. Fragments and crops are at random places for agents that draw them,
            and at fixed ones when they are measured.
        loss: The absolute error (l1), which is a mean over videos; or a loss of a whole batch, which batches of other
            sizes change: of the correlation (plcc), of all pairs (rank), or both (plcc_rank).
        frames: Number of frames of a video, T, evenly spaced over a file.
        grid: For fragments, the number of patches in a row and in a column.
        patch: For fragments, height and width of a patch.
        crop: For frames, height and width of the crop; by default the size of the clips, or 224 of files.
        key_frames: Frames whose scene statistics are computed, K; for features and for a baseline.
        contents: Number of contents of which clips are made, with 7 versions each.
        size: Height and width of the clips.
        test: Whether the part for tests is the test data, or that for validation; the other one is not used.
        path: Folder of the videos that are read instead.
        train_scores: CSV file with the columns filename and score of the training videos.
        test_scores: CSV file of the test videos; without it, or if all its scores are blank, nothing is tested.
        pairs: Excel file with the sheets nonsource and source, or a CSV file, of pairs of test videos: two file names,
            and 1 if the first one is the better one, or else 2.
        standards: For features, the file standards.json of a run whose shift and scale of the features are to be taken
            instead of those of the training videos.
        cache: Folder for decoded videos, shared by all runs; by default ~/.cache/basinet.

    Returns:
        A task.

    Raises:
        ImportError: PyAV or scikit-image is not installed.
        ValueError: A file cannot be read, or holds something else; frames are too small, or too few.

    References:
        Y. Lu et al.: KVQ: Kwai video quality assessment for short-form videos, CVPR 2024, arXiv:2402.07220; X. Li et
        al.: NTIRE 2024 challenge on short-form UGC video quality assessment, CVPRW 2024, arXiv:2404.11313.
    """
    if inputs != "fragments":
        check_left_out(video_quality, _ONLY_FOR.format("fragments"), grid=grid, patch=patch)
    if inputs != "features":
        check_left_out(video_quality, _ONLY_FOR.format("features"), standards=standards)
    if inputs != "frames":
        check_left_out(video_quality, _ONLY_FOR.format("frames"), crop=crop)
    if key_frames > frames:
        raise ValueError(f"key_frames is {key_frames}; allowed are at most {frames}, the frames")
    settings = {"frames": frames, "grid": grid, "patch": patch, "crop": crop, "key_frames": key_frames, "size": size}
    reading = reading_of({**settings, "inputs": inputs, "path": path, "standards": standards})
    files = {"path": path, "train_scores": train_scores, "test_scores": test_scores, "pairs": pairs}
    rated = rated_videos(video_quality, frames=frames, contents=contents, size=size, test=test, **files)
    folder = cache_folder() if cache is None else Path(cache)
    source = kept_videos(rated.source, folder)
    fragments = reading.fragments
    data: dict[str, Any] = {}
    if fragments is None:
        origin = rated.source.fingerprint
        found = {
            where: tuple(statistics_of(source, origin, rows, rate) for rate in (key_frames, None))
            for where, rows in rated.rows.items()
        }
        own = tuple(map(Standard.of, found["train"]))
        if not reading.standards:
            reading = replace(reading, standards=own)
        elif [[len(n.shift), len(n.scale)] for n in reading.standards] != [[len(n.shift)] * 2 for n in own]:
            raise ValueError(f"standards: {standards} is of other features than these")
        for where, parts in found.items():
            scaled = (standard(part).float() for standard, part in zip(reading.standards, parts, strict=True))
            data[where] = (*scaled, rated.scores[rated.rows[where]])
    else:
        for row, name in enumerate(rated.source.names):
            fragments.check(source.arrays(row)[0].shape[2:], name)
        data = {where: _videos(source, rated, rows, fragments) for where, rows in rated.rows.items()}
    task = _LOSSES[loss](
        **data,
        model=MODELS_OF[inputs],
        columns=rated.columns,
        names=rated.names,
        pairs=rated.pairs,
        reading=reading,
        remark=rated.remark,
    )
    task.check()
    return task


def _videos(source: Mapped | Separate, rated: Rated, rows: Tensor, fragments: Fragments) -> Videos:
    return Videos(
        source=source, rows=rows, scores=rated.scores[rows], fragments=fragments, origin=rated.source.fingerprint
    )
