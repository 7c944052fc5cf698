"""Quality of videos by features of several frozen extractors: PTM-VQA."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.sim.data.memory_map import cache_folder
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks.kept import Kept
from basinet.sim.tasks.left_out import check_left_out
from basinet.sim.tasks.task import TASKS, Batch
from basinet.sim.tasks.vision.ensemble.chosen_extractors import Chosen
from basinet.sim.tasks.vision.ensemble.extractor_ranking import Ranked, rank_extractors
from basinet.sim.tasks.vision.ensemble.icid import (
    batch_cosines,
    cluster_edges,
    clusters_of,
    inter_divisibility,
    intra_consistency,
)
from basinet.sim.tasks.vision.quality.batch_losses import plcc_loss
from basinet.sim.tasks.vision.quality.ratings import GROUPS
from basinet.sim.tasks.vision.quality.statistics_ridge import Standard
from basinet.sim.tasks.vision.videos.video_rating import VideoRating, rated_videos
from basinet.sim.tasks.vision.videos.video_views import Rated, kept_videos
from basinet.sim.vision.extractors.extracted import CLIP, features, made_for
from basinet.sim.vision.extractors.pool import POOL

__all__ = ["PretrainedEnsemble", "ensemble_of", "pretrained_ensemble"]

Select = Literal["all", "davies_bouldin", "ridge"]
Clusters = Literal["fixed", "batch"]

_READING = "our reading of a loss whose formulas are not verified"


@dataclass(frozen=True, kw_only=True)
class PretrainedEnsemble(VideoRating):
    """Prediction of scores by features of several extractors, under a loss of the scores and the ICID loss.

    A batch is (features of the first extractor [B, frames, F], …, scores [B, 1]). A model returns scores [B, 1], the
    embeddings of the extractors [B, M, D], their weighted sum [B, D], and for fixed clusters its cosines with their
    centres [B, K]. The loss is

        L = L_score + λ (intra-consistency + inter-divisibility),

    see `icid`. With fixed clusters, whose bounds are quantiles of all training scores and whose centres the model
    learns, intra-consistency and inter-divisibility are means over samples, and so is L with the absolute error. The
    clusters of a batch have its quantiles as bounds, and the means of its samples as centres: a statistic of the batch,
    as the correlation is.

    Attributes:
        chosen: The extractors, and what has standardised their features.
        score_loss: "l1" for the absolute error, or "plcc" for the loss of the correlation.
        icid: The factor λ.
        margin: By how much a sample is to be nearer to the centre of its own cluster.
        clusters: Number of clusters, K.
        edges: Smallest scores of all fixed clusters but the first, [K − 1]; None for those of each batch.
    """

    chosen: Chosen
    score_loss: Literal["l1", "plcc"] = "l1"
    icid: float = 0.3
    margin: float = 0.3
    clusters: int = 4
    edges: Tensor | None = None

    loss_words: ClassVar[str] = "loss of the scores, and the ICID loss of embeddings"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the loss of the scores and of the embeddings.

        Args:
            outputs: What a model returns; see the class.
            batch: The batch.

        Returns:
            Tensor [B], not reduced; or a scalar, if it is that of a whole batch.

        Raises:
            ValueError: The model returns something else.
        """
        scores = self.targets(batch)
        found = (
            plcc_loss(*self.both_scores(outputs, batch)) if self.score_loss == "plcc" else super().loss(outputs, batch)
        )
        if self.icid:
            wanted = 3 if self.edges is None else 4
            if not isinstance(outputs, tuple) or len(outputs) != wanted:
                raise ValueError(
                    f"the ICID loss needs {wanted} outputs of a model, such as ensemble_regressor; with icid: 0, scores"
                    " are enough"
                )
            _, embeddings, together, *near = outputs
            clusters = clusters_of(scores, cluster_edges(scores, self.clusters) if self.edges is None else self.edges)
            cosines = near[0] if near else batch_cosines(together, clusters, self.clusters)
            beside = self.icid * (intra_consistency(embeddings) + inter_divisibility(cosines, clusters, self.margin))
            found = found + (beside if found.ndim else beside.mean())
        return found.mean() if self.mean_over == "batch" else found

    @property
    def about_loss(self) -> str:
        """The loss and what it is measured on, in words."""
        words = {"l1": "the absolute error", "plcc": "a loss of the correlation with the scores of the batch"}
        about = f"{super().about_loss}; that of the scores is {words[self.score_loss]}"
        if not self.icid:
            return f"{about}, and that of embeddings does not count"
        kind = "of each batch" if self.edges is None else "whose bounds are fixed and whose centres are learnt"
        alone = "" if len(self.chosen.used) > 1 else "; one extractor has no pair whose embeddings could agree"
        return f"{about}, and ICID, {_READING}, counts {self.icid:g}, for {self.clusters} clusters {kind}{alone}"

    @property
    def least_batch(self) -> int:
        """Smallest number of samples that a batch needs: one for each of its clusters, if it has its own."""
        return max(self.clusters if self.icid and self.edges is None else 1, super().least_batch)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the makers of models may ask for: besides the usual, the number of centres, and the indices."""
        return {
            **super().model_arguments,
            "clusters": self.clusters if self.icid and self.edges is not None else 0,
            "davies_bouldin": tuple(extractor.davies_bouldin for extractor in self.chosen.used),
        }

    @property
    def kept(self) -> dict[str, Kept]:
        """What a run keeps: its extractors, and how their features are standardised; see `Task.kept`."""
        content = self.chosen.content
        return {"standards": Kept(digest(content), content)}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for the mean score, and for the `ridges`, by name.

        The loss is left out if it is that of embeddings as well, which trivial predictions do not have.
        """
        rows = super().baselines()
        return {
            name: {key: v for key, v in row.items() if not (self.icid and "loss" in key)} for name, row in rows.items()
        }

    def ridges(self) -> dict[str, Self]:
        """Return the tasks whose inputs are fitted: all features, and those with the best ridge in cross-validation."""
        found = {"ridge on all features": self.with_inputs(_mean_features)}
        judged = [(e.ridge_srocc, e.name, place) for place, e in enumerate(self.chosen.used)]
        if known := [one for one in judged if not math.isnan(one[0])]:
            _, name, best = max(known)
            one = self.with_inputs(lambda data, rows: _mean_features((data[best], data[-1]), rows))
            found[f"ridge on {name}"] = one
        return found

    def with_inputs(self, inputs: Callable[[Any, Tensor], Tensor], most: int | None = None) -> Self:
        """Return the task with other inputs and without the ICID loss, which needs embeddings; see `Scoring`."""
        return replace(super().with_inputs(inputs, most), icid=0.0)


def _mean_features(data: Batch, rows: Tensor) -> Tensor:
    """Return the features of some videos, averaged over frames: [n, F]."""
    return torch.cat([part.cpu()[rows].double().mean(1) for part in data[:-1]], 1)


def ensemble_of(
    found: Mapping[str, Tensor],
    rated: Rated,
    *,
    select: Select = "all",
    top: int | None = None,
    chosen: Chosen | None = None,
    contents: Mapping[str, str] | None = None,
    clusters: Clusters = "fixed",
    num_clusters: int = 4,
    loss: Literal["l1", "plcc"] = "l1",
    icid: float = 0.3,
    margin: float = 0.3,
) -> PretrainedEnsemble:
    """Make the task of rating videos by features.

    Args:
        found: Features of each extractor, by its name, float32 [n, frames, F], of all videos.
        rated: The videos and their scores.
        select: See `pretrained_ensemble`.
        top: See `pretrained_ensemble`.
        chosen: The extractors, if they have been chosen by other videos.
        contents: Digests of what the extractors are, by their names, by which later uses of a model are checked.
        clusters: See `pretrained_ensemble`.
        num_clusters: See `pretrained_ensemble`.
        loss: See `pretrained_ensemble`.
        icid: See `pretrained_ensemble`.
        margin: See `pretrained_ensemble`.

    Returns:
        The task.

    Raises:
        ValueError: There are too few extractors, or scores.
    """
    train = rated.rows["train"]
    scores = rated.scores[train]
    edges = cluster_edges(scores, num_clusters)
    _check(rated, len(found), select, top, num_clusters)
    if chosen is None:
        chosen = _choose({name: part[train] for name, part in found.items()}, rated, edges, select, top)
        known = contents or {}
        chosen = chosen._replace(ranked=tuple(e._replace(content=known.get(e.name, "")) for e in chosen.ranked))
    chosen.check_lengths({name: part.shape[-1] for name, part in found.items()})
    data: dict[str, Any] = {
        where: (
            *(
                standard(found[extractor.name][rows]).float()
                for extractor, standard in zip(chosen.used, chosen.standards, strict=True)
            ),
            rated.scores[rows],
        )
        for where, rows in rated.rows.items()
    }
    task = PretrainedEnsemble(
        **data,
        model="ensemble_regressor",
        columns=rated.columns,
        names=rated.names,
        pairs=rated.pairs,
        remark=rated.remark,
        mean_over="batch" if loss == "plcc" or (icid and clusters == "batch") else "samples",
        chosen=chosen,
        score_loss=loss,
        icid=icid,
        margin=margin,
        clusters=num_clusters,
        edges=edges if clusters == "fixed" else None,
    )
    task.check()
    return task


def _are_apart(scores: Tensor, count: int) -> bool:
    """Return whether so many clusters all have members."""
    return len({float(scores.min()), *cluster_edges(scores, count).tolist()}) == count


def _check(rated: Rated, extractors: int, select: Select, top: int | None, num_clusters: int) -> None:
    """Raise ValueError unless there are clusters, and extractors that can be selected as asked."""
    scores = rated.scores[rated.rows["train"]]
    if not _are_apart(scores, num_clusters):
        most = next((count for count in range(num_clusters - 1, 1, -1) if _are_apart(scores, count)), None)
        allowed = "different scores are needed" if most is None else f"allowed is {most}, for example"
        raise ValueError(f"num_clusters is {num_clusters}, and too many training scores are equal; {allowed}")
    if select == "all" and top is not None:
        raise ValueError(
            f"top is {top}, which is for extractors that are selected; allowed with all is to leave it out"
        )
    if select != "all" and not 1 <= (top or 0) <= extractors:
        raise ValueError(f"top is {top}; allowed are 1 to {extractors}, the number of extractors")
    if select == "ridge" and len({*_groups(rated).tolist()}) < 2:
        raise ValueError("select is 'ridge', which needs training videos of several photos or contents")


def _groups(rated: Rated) -> NDArray[Any]:
    """Return the groups of training videos that cross-validation keeps together."""
    known = (rated.columns[name] for name in GROUPS if name in rated.columns)
    return next(known, np.arange(len(rated.rows["train"])))


def _choose(features: Mapping[str, Tensor], rated: Rated, edges: Tensor, select: Select, top: int | None) -> Chosen:
    """Judge extractors by the training videos, and choose among them."""
    scores = rated.scores[rated.rows["train"]]
    ranked = rank_extractors(features, scores, clusters_of(scores, edges), rated.columns.get("content"), _groups(rated))
    if select == "davies_bouldin" and all(math.isinf(extractor.davies_bouldin) for extractor in ranked):
        raise ValueError("select is 'davies_bouldin', which needs several training videos of a content")
    orders: dict[Select, Callable[[Ranked], float]] = {
        "all": lambda extractor: 0,
        "davies_bouldin": lambda extractor: extractor.davies_bouldin,
        "ridge": lambda extractor: -extractor.ridge_srocc,
    }
    best = {extractor.name for extractor in sorted(ranked, key=orders[select])[:top]}
    ranked = [extractor._replace(selected=extractor.name in best) for extractor in ranked]
    return Chosen(tuple(ranked), tuple(Standard.of(features[e.name]) for e in ranked if e.selected))


@TASKS.register()
def pretrained_ensemble(
    *,
    extractors: Annotated[tuple[str, ...], Field(min_length=1)] = POOL,
    select: Select = "all",
    top: Annotated[int, Field(ge=1)] | None = None,
    loss: Literal["l1", "plcc"] = "l1",
    icid: Annotated[float, Field(ge=0, le=1000)] = 0.3,
    margin: Annotated[float, Field(ge=0, le=2)] = 0.3,
    clusters: Clusters = "fixed",
    num_clusters: Annotated[int, Field(ge=2, le=100)] = 4,
    frames: Annotated[int, Field(ge=2, le=10_000)] = 8,
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
) -> PretrainedEnsemble:
    """Rate short videos by the features of several frozen extractors, whose embeddings are to agree: PTM-VQA.

    The videos are those of `video_quality`, made of photos or read. Extractors are applied once, and what they find is
    kept in the cache. Only the model that brings their features together is trained, by the loss of the scores plus λ
    times the ICID loss: embeddings of a video by different extractors have the same direction (intra-consistency), and
    their weighted sum is nearer to the centre of its own cluster of annotated quality than to any other
    (inter-divisibility). The paper's formulas could not be verified, and the loss is our reading of its abstract.

    Extractors are judged by the training videos, in two ways: by the Davies–Bouldin index of the clusters of quality in
    their features, where the mean of each content is removed if it is known (clips, or a column content), since content
    dominates it otherwise; and by Spearman's correlation of a ridge in cross-validation over photos, contents or
    videos. Reports show both.

    Args:
        extractors: Names of the extractors: of the pool, networks of packages (pnet, rnet, onet, xfeat), or your own as
            `module:attribute`, with `=FILE` appended for a file of weights; with `@clip` appended, an extractor
            describes how frames change.
        select: Which of them are used: all, or the best by the Davies–Bouldin index or by the ridge.
        top: Number of extractors that are selected.
        loss: The loss of the scores: the absolute error (l1), a mean over videos; or a loss of the correlation (plcc),
            which is that of a whole batch, and another one for other sizes.
        icid: The factor λ of the ICID loss; 0 for none.
        margin: By how much the cosine with the centre of the own cluster is to be larger than with any other.
        clusters: Fixed clusters have quantiles of all training scores as bounds, and centres that the model learns, so
            that the ICID loss is a mean over videos. Those of a batch have its quantiles and means, and are noise for
            batches of less than about 16 videos; the loss is that of a whole batch then.
        num_clusters: Number of clusters.
        frames: Number of frames of a video, evenly spaced over a file.
        key_frames: Frames whose features are averaged, or changes between frames.
        contents: Number of contents of which clips are made, with 7 versions each.
        size: Height and width of the clips.
        test: Whether the part for tests is the test data, or that for validation; the other one is not used.
        path: Folder of the videos that are read instead.
        train_scores: CSV file with the columns filename and score of the training videos.
        test_scores: CSV file of the test videos; without it, or if all its scores are blank, nothing is tested.
        pairs: Excel file with the sheets nonsource and source, or a CSV file, of pairs of test videos: two file names,
            and 1 if the first one is the better one, or else 2.
        standards: The file standards.json of a run whose extractors are to be taken as they were chosen and
            standardised there, to start from it with other videos.
        cache: Folder for decoded videos and features, shared by all runs; by default ~/.cache/basinet.

    Returns:
        A task.

    Raises:
        ImportError: PyAV or scikit-image is not installed.
        ValueError: A file cannot be read, or holds something else; or settings do not fit.

    References:
        K. Yuan et al.: PTM-VQA: Efficient video quality assessment leveraging diverse pretrained models from the wild,
        CVPR 2024, pp. 2835–2845.
    """
    if key_frames > frames:
        raise ValueError(f"key_frames is {key_frames}; allowed are at most {frames}, the frames")
    if not icid:
        reason = "for the ICID loss; allowed with icid: 0 is to leave it out"
        check_left_out(pretrained_ensemble, reason, margin=margin, clusters=clusters)
    chosen = None
    if standards is not None:
        chosen = Chosen.read(Path(standards))
        reason = "chosen in the file of standards; allowed with one is to leave it out"
        check_left_out(pretrained_ensemble, reason, extractors=extractors, select=select, top=top)
        extractors = tuple(extractor.name for extractor in chosen.used)
    files = {"path": path, "train_scores": train_scores, "test_scores": test_scores, "pairs": pairs}
    rated = rated_videos(pretrained_ensemble, frames=frames, contents=contents, size=size, test=test, **files)
    folder = cache_folder() if cache is None else Path(cache)
    made = made_for(extractors, folder)
    if chosen is not None and standards is not None:
        chosen.check_made(made, standards)
    source = kept_videos(rated.source, folder)
    # Videos of a part that is not used have no features.
    rows = torch.cat([*rated.rows.values()])
    ends = torch.split(torch.arange(len(rows)), [len(part) for part in rated.rows.values()])
    used = rated._replace(rows=dict(zip(rated.rows, ends, strict=True)), scores=rated.scores[rows])
    _check(used, len(extractors), select, top, num_clusters)  # before features, which take long
    found = features(extractors, source, rows=rows, frames=key_frames, cache=folder, made=made)
    return ensemble_of(
        found,
        used,
        select=select,
        top=top,
        chosen=chosen,
        contents={name: made[name.removesuffix(CLIP)].content for name in extractors},
        clusters=clusters,
        num_clusters=num_clusters,
        loss=loss,
        icid=icid,
        margin=margin,
    )
