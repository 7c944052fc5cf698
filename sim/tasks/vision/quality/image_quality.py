"""Quality and aesthetics of images, as people rate them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field
from torch import Tensor

from basinet.sim.data.held_out import choose_held, hold_rows_out
from basinet.sim.data.memory_map import cache_folder
from basinet.sim.data.nests import Nest
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.task import TASKS
from basinet.sim.tasks.vision.quality.image_files import Part, fold_rows, rated_image_files
from basinet.sim.tasks.vision.quality.made_images import EDITS, DistortedPhotos, Edit, EditedPhotos, MadeImages
from basinet.sim.tasks.vision.quality.scoring import Loss, PlccRankScoring, PlccScoring, RankScoring, Scoring
from basinet.sim.tasks.vision.videos.video_views import Fragments, Rated, Videos, kept_videos
from basinet.sim.vision.photos import motif

__all__ = ["ImageScoring", "image_aesthetics", "image_quality"]

_Distortion = Literal["blur", "sharpening", "noise", "colour", "jitter", "resizing", "jpeg"]

_DISTORTIONS: tuple[_Distortion, ...] = ("blur", "sharpening", "noise", "colour", "resizing", "jpeg")

_Scale = Annotated[Sequence[float], Field(min_length=2, max_length=2)]


class Images(Videos):
    """Crops of images and their scores: at random places for agents that draw them, in the middle when measured."""

    def fetch(self, rows: Tensor, keys: Tensor | None = None) -> Nest:
        """Cut crops out of images; see `Stored`.

        Args:
            rows: Indices of the images, int64 [B].
            keys: Keys of the random places, int64 [B]; None for the middle.

        Returns:
            Crops uint8 [B, 3, S, S], and scores [B, 1].
        """
        image, scores = super().fetch(rows, keys)
        return image[:, 0], scores


@dataclass(frozen=True, kw_only=True)
class ImageScoring(Scoring):
    """Prediction of the mean opinion scores of images, from 1 to 5, under the absolute error.

    A batch is (image, scores) with images [B, 3, H, W] from 0 to 1 and scores [B, 1].
    """

    def hold_out(self, share: float, seed: int) -> Self:
        """Hold images out, those of photos that show the same together; see `Task.hold_out`."""
        photos = self.columns.get("photo")
        if photos is None:
            return super().hold_out(share, seed)
        shown = replace(self, columns={"photo": np.array([motif(str(photo)) for photo in photos])})
        return hold_rows_out(self, choose_held(shown, share, seed), names=(), remark="")


@dataclass(frozen=True, kw_only=True)
class _Plcc(PlccScoring, ImageScoring):
    """Prediction of the scores of images under a loss of their correlation."""


@dataclass(frozen=True, kw_only=True)
class _Rank(RankScoring, ImageScoring):
    """Prediction of the scores of images under a hinge loss of all pairs."""


@dataclass(frozen=True, kw_only=True)
class _Both(PlccRankScoring, ImageScoring):
    """Prediction of the scores of images under both losses of a batch."""


_LOSSES: dict[Loss, type[ImageScoring]] = {"l1": ImageScoring, "plcc": _Plcc, "rank": _Rank, "plcc_rank": _Both}


@TASKS.register()
def image_quality(
    *,
    loss: Loss = "l1",
    contents: Annotated[int, Field(ge=2)] = 40,
    distortions: Annotated[Sequence[_Distortion], Field(min_length=1)] = _DISTORTIONS,
    levels: Annotated[int, Field(ge=1, le=100)] = 5,
    size: Annotated[int, Field(ge=16, le=1000)] = 96,
    patch: Annotated[int, Field(ge=8, le=10_000)] = 64,
    fold: Annotated[int, Field(ge=0)] = 0,
    folds: Annotated[int, Field(ge=2)] = 5,
    test: Part = "test",
    path: str | None = None,
    scores: str | None = None,
    test_scores: str | None = None,
    scale: _Scale = (1.0, 5.0),
    cache: str | None = None,
) -> ImageScoring:
    """Rate the technical quality of images, by photos distorted at known levels, or by files of rated images.

    Without a path, regions are cut out of the photos that packages bring along: each as it is, and distorted in each
    way at each level. Their scores are those of 18 annotators, who deviate from the quality that the level stands for.
    The order of the levels of one distortion is known; that levels of different distortions are equally bad is assumed.
    Photos are divided into folds, one of which is tested, so that tests show photos that training has not. Samples may
    be partitioned by the columns `content`, `photo`, `distortion` and `level`; those of files by the other columns of
    their CSV file.

    Models see a patch at its native resolution: at a random place for agents that draw it, in the middle when it is
    measured.

    Args:
        loss: The absolute error (l1), which is a mean over images; or a loss of a whole batch, which batches of other
            sizes change: of the correlation (plcc), of all pairs (rank), or both (plcc_rank).
        contents: Number of regions of photos.
        distortions: What is done to each.
        levels: Number of levels of each distortion.
        size: Height and width of the regions.
        patch: Height and width of what a model sees.
        fold: The fold that is tested.
        folds: Number of folds, which share no photo; of files, no entry of the column `photo`, or no image.
        test: For a CSV file with the column `set`, the images that are tested; the others are not used.
        path: Folder of the images that are read instead.
        scores: CSV file with the columns filename and score, or image_name and MOS, as that of KonIQ-10k, whose column
            `set` is followed; or a text file of votes in the layout of AVA.
        test_scores: The same of the test images, instead of the column `set` or folds.
        scale: The lowest and the highest score in CSV files, which become 1 and 5.
        cache: Folder for the pixels, shared by all runs; by default ~/.cache/basinet.

    Returns:
        A task.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: A file cannot be read, or holds something else; images are too small, or too few.

    References:
        V. Hosu et al.: KonIQ-10k: An ecologically valid database for deep learning of blind image quality assessment,
        IEEE Transactions on Image Processing 29, 2020, arXiv:1910.06180.
    """
    files = {"scores": scores, "test_scores": test_scores, "scale": scale, "test": test}
    if path is None:
        check_left_out(image_quality, READ, **files)
        _check_different("distortions", distortions)
        rated = _rated_photos(DistortedPhotos(contents, distortions, levels, size), fold, folds)
    else:
        made = {"contents": contents, "distortions": distortions, "levels": levels, "size": size}
        check_left_out(image_quality, GENERATED, **made)
        _check_scale(scale)
        rated = rated_image_files("image_quality", Path(path), scores, test_scores, test, fold, folds, scale, None)
    return _task(rated, Fragments(1, patch), loss, cache)


@TASKS.register()
def image_aesthetics(
    *,
    loss: Loss = "l1",
    edits: Annotated[Sequence[Edit], Field(min_length=1)] = EDITS,
    levels: Annotated[int, Field(ge=1, le=100)] = 5,
    size: Annotated[int, Field(ge=16, le=1000)] = 64,
    fold: Annotated[int, Field(ge=0)] = 0,
    folds: Annotated[int, Field(ge=2)] = 5,
    test: Part = "test",
    path: str | None = None,
    scores: str | None = None,
    test_scores: str | None = None,
    scale: _Scale = (1.0, 5.0),
    cache: str | None = None,
) -> ImageScoring:
    """Rate the aesthetics of images, by photos that edits have made worse, or by files of rated images.

    Without a path, this is a made set, and not what people find beautiful: of each photo that packages bring along the
    middle and its mirror image, as they are, and edited at known levels: tilted, with the window shifted off the
    middle, with too much or too little saturation, exposure or contrast. It takes the photographer's choices for the
    best. Scores, folds and columns are those of `image_quality`, where `distortion` names the edit.

    Models see the whole image: its middle square, resized.

    Args:
        loss: See `image_quality`.
        edits: What is done to each photo.
        levels: Number of levels of each edit.
        size: Height and width of what a model sees.
        fold: See `image_quality`.
        folds: See `image_quality`.
        test: See `image_quality`.
        path: Folder of the images that are read instead.
        scores: See `image_quality`.
        test_scores: See `image_quality`.
        scale: See `image_quality`.
        cache: Folder for the pixels, shared by all runs; by default ~/.cache/basinet.

    Returns:
        A task.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: A file cannot be read, or holds something else.

    References:
        N. Murray, L. Marchesotti, F. Perronnin: AVA: A large-scale database for aesthetic visual analysis, CVPR 2012,
        doi:10.1109/CVPR.2012.6247954.
    """
    files = {"scores": scores, "test_scores": test_scores, "scale": scale, "test": test}
    if path is None:
        check_left_out(image_aesthetics, READ, **files)
        _check_different("edits", edits)
        rated = _rated_photos(EditedPhotos(edits, levels, size), fold, folds)
    else:
        check_left_out(image_aesthetics, GENERATED, edits=edits, levels=levels)
        _check_scale(scale)
        rated = rated_image_files("image_aesthetics", Path(path), scores, test_scores, test, fold, folds, scale, size)
    return _task(rated, Fragments(1, size), loss, cache)


def _check_different(name: str, given: Sequence[str]) -> None:
    if twice := next((one for one in given if [*given].count(one) > 1), None):
        raise ValueError(f"{name} names {twice!r} twice; allowed is once")


def _check_scale(scale: Sequence[float]) -> None:
    lowest, highest = scale
    if not lowest < highest:
        raise ValueError(f"scale is {[lowest, highest]}; allowed are a lowest score and a higher one")


def _rated_photos(images: MadeImages, fold: int, folds: int) -> Rated:
    """Rate made images, and hold the photos of a fold out."""
    rows = fold_rows([motif(version.photo) for version in images.versions], fold, folds)
    train = [images.versions[row] for row in rows["train"].tolist()]
    columns = {
        name: np.array([getattr(version, attribute) for version in train])
        for name, attribute in (("content", "content"), ("photo", "photo"), ("distortion", "kind"), ("level", "level"))
    }
    names = tuple(images.names[row] for row in rows["test"].tolist())
    return Rated(images, rows, images.scores()[:, None], names, {}, columns)


def _task(rated: Rated, fragments: Fragments, loss: Loss, cache: str | None) -> ImageScoring:
    """Make a task of rated images."""
    source = kept_videos(rated.source, cache_folder() if cache is None else Path(cache), "images")
    for row, name in enumerate(rated.source.names):
        fragments.check(source.arrays(row)[0].shape[2:], name)
    data: dict[str, Any] = {
        where: Images(
            source=source,
            rows=rows,
            scores=rated.scores[rows],
            fragments=fragments,
            origin=rated.source.fingerprint,
        )
        for where, rows in rated.rows.items()
    }
    task = _LOSSES[loss](**data, model="hivit", columns=rated.columns, names=rated.names)
    task.check()
    return task
