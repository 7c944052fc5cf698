"""Pre-training for quality: predict the masked units of degraded images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import key
from basinet.sim.data.items import Items
from basinet.sim.data.memory_map import cached_separately
from basinet.sim.evaluation.measuring import chunks, measure
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import nearest, shown
from basinet.sim.models.vision.masked.hierarchical_encoder import UNIT
from basinet.sim.tasks.loaders.huggingface import Files as HubFiles
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import TASKS, Batch
from basinet.sim.tasks.vision.quality.masked_crops import MaskedCrops, Normalised, Target, unit_targets
from basinet.sim.tasks.vision.restoration.image_pairs import made
from basinet.sim.tasks.vision.restoration.original_parts import train_and_test
from basinet.sim.tasks.vision.restoration.patches import Pictures
from basinet.sim.vision.curation import Criterion, Curation, curate, estimate_in_words, estimated
from basinet.sim.vision.degradations import DEGRADATIONS, Composition
from basinet.sim.vision.photos import PHOTOS

__all__ = ["QualityPretraining", "quality_pretraining"]

_TEST = ("astronaut", "rocket", "flower", "coins", "hubble")
_TRAIN = tuple(name for name in PHOTOS if name not in _TEST)

_REVISION = 1
"""Of how crops are estimated; another one computes estimates that are kept anew."""

_CHUNK = 4096
"""Most samples that are measured at a time."""


@dataclass(frozen=True, kw_only=True)
class QualityPretraining(Regression):
    """Prediction of the masked units of degraded images under the squared error.

    A batch is (units, places, wanted, targets): the units that a model sees [B, kept, 3, 16, 16], from 0 to 1, their
    places row by row [B, kept], the places of masked units [B, masked], and the pixels of these [B, masked, 768].

    Attributes:
        candidates: The crops of the training images that might be kept.
        tested: Image of each test sample.
        curation: Which crops of the training images were kept.
        origins: Image of each candidate.
        normalised: Whether the pixels of each masked unit are normalised, or those of each channel of it.
    """

    candidates: MaskedCrops
    tested: NDArray[Any]
    curation: Curation
    origins: NDArray[Any]
    normalised: Normalised = True

    @property
    def _about_loss(self) -> str:
        where = {True: ", normalised in each unit", "channels": ", normalised in each channel of a unit", False: ""}
        pixels = f"pixels of masked units{where[self.normalised]}"
        kept = self.curation.is_kept
        found = f"squared error of the {pixels}; {int(kept.sum())} of {len(kept)} crops are trained on"
        if not self.curation.left_out:
            return found
        means = (
            f"{name} {estimate_in_words(name, kept)} ({estimate_in_words(name, out)})"
            for name, (kept, out) in self.curation.means().items()
        )
        return f"{found}, with a mean {', '.join(means)} of those kept (left out)"

    def hold_out(self, share: float, seed: int) -> Self:
        """Raise ValueError: training data have another form than test data."""
        raise ValueError("no training samples can be held out, since the crops that are tested are made in another way")

    def curated(self) -> list[dict[str, Any]]:
        """Return what curation has kept of each image.

        Returns:
            A row for each image: `photo`, `crops` that there are, `kept` ones, and the mean of each estimate, none of
            which is computed if all crops are kept.
        """
        rows: list[dict[str, Any]] = []
        for name in dict.fromkeys(self.origins.tolist()):
            mine = self.origins == name
            kept = int(self.curation.is_kept[mine].sum())
            means = {str(kind): float(found[mine].mean()) for kind, found in self.curation.estimates.items()}
            rows.append({"photo": name, "crops": int(mine.sum()), "kept": kept, **means})
        return rows

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for mean colours: of the training data, and of what a sample shows."""
        with torch.no_grad():
            mean: Any = 0.0
            for part, share in chunks(self, self.train, _CHUNK):
                mean = mean + share * _colours(self.targets(part)).mean(0)

            def of_all(batch: Batch) -> Tensor:
                return _filled(mean.expand(len(batch[0]), -1), batch)

            def of_visible(batch: Batch) -> Tensor:
                return _filled(_colours(unit_targets(batch[0], normalised=self.normalised)), batch)

            models = {"mean of the training pixels": of_all, "mean of the visible units": of_visible}
            return {
                name: measure(self, "train", model) | measure(self, "test", model) for name, model in models.items()
            }


def _colours(pixels: Tensor) -> Tensor:
    """Average the pixels of units [B, m, 768] in each channel, [B, 3]."""
    return pixels.view(*pixels.shape[:2], 3, -1).mean((1, 3))


def _filled(colours: Tensor, batch: Batch) -> Tensor:
    """Fill masked units with colours [B, 3]."""
    return colours.repeat_interleave(UNIT**2, -1)[:, None].expand(batch[-1].shape)


@TASKS.register()
def quality_pretraining(
    *,
    size: Annotated[int, Field(ge=2 * UNIT, le=32 * UNIT, multiple_of=UNIT)] = 64,
    masked: Annotated[float, Field(gt=0, lt=1)] = 0.75,
    degradations: Sequence[str] = ("blur+colour",),
    composition: Composition = "sequence",
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0,
    target: Target = "degraded",
    normalised: Normalised = True,
    curation: Sequence[Criterion] = ("resolution", "coverage", "objects"),
    kept: Annotated[float, Field(gt=0, le=1)] = 0.5,
    crops: Annotated[int, Field(ge=1)] = 32,
    augment: bool = True,
    train_photos: Sequence[str] = _TRAIN,
    test_photos: Sequence[str] = _TEST,
    path: str | None = None,
    test_path: str | None = None,
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    dataset: str | None = None,
    configuration: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    image: str = "image",
    scene: str | None = None,
    data_files: HubFiles | Mapping[str, HubFiles] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    cache: str | None = None,
    seed: int = 0,
) -> QualityPretraining:
    """Degrade crops of images, mask most of each, and let a model predict what is masked, as QPT V2 does.

    A model that is to predict degraded pixels has to know how they are degraded; what it learns begins a model of
    quality. Images are photos that come with scikit-image and scikit-learn, or those of a folder or a data set. Of
    each, crops are drawn at random; those to train on are curated: ranked by the resolution of their image, the share
    of foreground, and the number of objects. Tests are on all crops of other images.

    Samples may be partitioned by the columns `photo`, `degradation` and `scene` (of photos, or the folder of files).

    The text of QPT V2 was not available. That degraded pixels are predicted, and the share that is masked, are our
    reading of its figures and the practice of masked autoencoders; estimates and strengths are our own.

    Args:
        size: Height and width of a crop, which has units of 16 × 16 pixels.
        masked: Share of the units that is masked, to the nearest number of units; at least one is masked and one seen.
        degradations: Chains of degradations, joined by +, such as "blur", "noise" or "blur+colour". Each crop is
            degraded by each chain, and counts as so many samples.
        composition: What is done of a chain: all in "sequence"; "one" at random; what "skips" leave, each with
            probability ½; all in "random_order"; or the sequence twice ("second_order").
        strength: The largest strength, from 0 (none) to 1; that of each step is drawn uniformly up to it.
        target: Whether masked units are predicted as they are "degraded" or "clean".
        normalised: Whether the pixels of each masked unit get the mean 0 and the variance 1, all colours together, or
            each of the "channels": then nothing is gained by predicting colours.
        curation: By which estimates crops are ranked; the best mean rank is best. `coverage` is the share of cells of
            8 × 8 pixels that are not flat, `objects` counts the areas that stand out, best near the upper quartile.
        kept: Share of the crops that is trained on; 1 for no curation.
        crops: Most crops of an image.
        augment: Whether drawn crops are flipped and rotated. They are shifted by less than a unit in any case.
        train_photos: Names of the photos to train on.
        test_photos: Names of the photos to test on.
        path: Folder of images instead; see the task super_resolution.
        test_path: Folder of other images to test on; by default some are held out.
        held_out: Fraction of the images that are held out at random to test on, at least one, if none are given.
        dataset: Name of a data set of the hub, or a file format, instead; see the task huggingface.
        configuration: Configuration of that data set, if it has several.
        train_split: Split to train on.
        test_split: Split to test on; by default, some images are held out.
        image: Column of the images.
        scene: Column by which samples may be partitioned as `scene`.
        data_files: The files of each split, unless `dataset` determines them.
        test_size: Most test images, the first ones; by default all.
        cache: Folder in which decoded images are kept, mapped into memory, and what curation estimates; by default they
            are held in memory, and crops are estimated each time.
        seed: Seed of the choice of crops and of what is held out, and of the masks and degradations that are measured;
            the simulator supplies it.

    Returns:
        A task.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: An image cannot be used, there are too few, or settings contradict each other.

    References:
        Q. Xie et al.: QPT V2: Masked image modeling advances visual scoring, 2024, arXiv:2407.16541.
    """
    chains = _chains(degradations)
    if not curation or len(set(curation)) < len(curation):
        raise ValueError(
            f"curation is {shown([*curation])}; allowed are different criteria, at least one, and kept: 1 to keep all"
        )
    units = (size // UNIT) ** 2
    train, test = train_and_test(
        quality_pretraining,
        train_photos=train_photos,
        test_photos=test_photos,
        path=path,
        test_path=test_path,
        held_out=held_out,
        dataset=dataset,
        configuration=configuration,
        train_split=train_split,
        test_split=test_split,
        image=image,
        scene=scene,
        data_files=data_files,
        test_size=test_size,
        scale=1,
        seed=seed,
    )
    data: dict[str, MaskedCrops] = {}
    for where, originals in (("train", train), ("test", test)):
        pictures = made(originals, where, 1, (), size, seed, cache)
        data[where] = MaskedCrops(
            pictures=pictures,
            side=size,
            places=_places(pictures, originals.names, size, crops, seed),
            augment=augment,
            chains=chains,
            composition=composition,
            strength=strength,
            masked=min(max(1, round(masked * units)), units - 1),
            target=target,
            normalised=normalised,
            seed=seed,
        )
    candidates = data["train"]
    found = _curation(candidates, curation, kept, cache)
    trained = replace(candidates, places=candidates.places[found.is_kept])
    image_of = trained.places[:, 0].repeat(len(chains))
    columns = {
        "photo": np.array(train.names)[image_of],
        "degradation": np.tile(np.array(["+".join(chain) for chain in chains]), len(trained.places)),
    }
    if train.scenes is not None:
        columns["scene"] = np.array(train.scenes)[image_of]
    task = QualityPretraining(
        train=trained,
        test=data["test"],
        num_outputs=trained.masked * 3 * UNIT**2,
        model="masked_hivit",
        columns=columns,
        candidates=candidates,
        tested=np.array(test.names)[data["test"].places[:, 0].repeat(len(chains))],
        curation=found,
        origins=np.array(train.names)[candidates.places[:, 0]],
        normalised=normalised,
    )
    task.check()
    return task


def _chains(given: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the degradations of each chain."""
    chains = tuple(tuple(kind.strip() for kind in chain.split("+")) for chain in given)
    for kind in (kind for chain in chains for kind in chain):
        if kind not in DEGRADATIONS:
            raise ValueError(f"degradations has {kind!r}; {nearest(kind, DEGRADATIONS)}")
    if not chains or len(set(chains)) < len(chains):
        raise ValueError(f"degradations is {shown([*given])}; allowed are different chains, at least one")
    return chains


def _places(pictures: Pictures, names: Sequence[str], side: int, most: int, seed: int) -> NDArray[np.int64]:
    """Choose crops of each image at random, among those at multiples of a unit."""
    found = []
    for picture, name in enumerate(names):
        free = np.array(pictures.arrays(picture)[0].shape[1:]) - side  # how far a crop may be from the top and the left
        rows, columns = free // UNIT + 1
        order = np.random.default_rng(key(seed, "crops of an image", name)).permutation(rows * columns)
        corners = UNIT * np.stack(np.divmod(np.sort(order[:most]), columns), 1)
        head = np.broadcast_to([picture, 0], corners.shape)
        found.append(np.concatenate([head, corners, np.minimum(UNIT, free - corners + 1)], 1))
    return np.concatenate(found).astype(np.int64)


@dataclass(frozen=True)
class _Estimates:
    """Estimates of crops, float64 [crops, criteria], as the only item of a data set."""

    crops: MaskedCrops
    criteria: tuple[Criterion, ...]

    @property
    def key(self) -> str:
        """A digest of what they depend on, if images are kept in files."""
        pictures: Any = self.crops.pictures
        made = [_REVISION, torch.__version__, version("scikit-image")]
        return digest([pictures.folder.name, self.crops.places, self.crops.side, self.criteria, made])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, row: int) -> Tensor:
        found = []
        for place, picture in enumerate(self.crops.places[:, 0]):
            (crop,) = self.crops.clean(torch.tensor([place * len(self.crops.chains)]))  # all may not fit into memory
            found.append(estimated(crop, self.crops.pictures.arrays(picture)[0][0].size, self.criteria))
        return torch.tensor(found, dtype=torch.float64)


def _curation(candidates: MaskedCrops, criteria: Sequence[Criterion], share: float, cache: str | None) -> Curation:
    """Choose among crops, by estimates that are kept if there is a cache."""
    if share == 1:
        return Curation({}, np.ones(len(candidates.places), dtype=np.bool_))
    source = _Estimates(candidates, tuple(criteria))
    if cache is None:
        found = source[0].numpy()
    else:
        items = Items(source=source, name="tables of estimates of crops")
        empty = torch.empty(0, 0, dtype=torch.float64)
        (found,) = cached_separately(items, [source.key], empty, Path(cache)).arrays(0)
    return curate(dict(zip(criteria, found.T, strict=True)), share)
