"""Super-resolution: images in high resolution from small ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.sim.evaluation.measuring import measure
from basinet.sim.experiment.mistakes import shown
from basinet.sim.tasks.loaders.huggingface import Files as HubFiles
from basinet.sim.tasks.model_outputs import fit, output_of
from basinet.sim.tasks.supervised import Regression
from basinet.sim.tasks.task import TASKS, Batch
from basinet.sim.tasks.vision.restoration.image_pairs import Degradation, made
from basinet.sim.tasks.vision.restoration.original_parts import train_and_test
from basinet.sim.tasks.vision.restoration.patches import Patches, WholeImages
from basinet.sim.vision.resizing import resize

__all__ = ["SuperResolution", "super_resolution"]

PixelLoss = Literal["l1", "charbonnier", "l2"]

_TRAIN = ("chelsea", "coffee", "motorcycle_left", "ihc", "china", "brick", "grass", "camera")
_TEST = ("astronaut", "rocket", "flower", "coins", "hubble")

_SMOOTH = 1e-3
"""ε of the Charbonnier loss."""

_LOSSES: dict[PixelLoss, tuple[str, Callable[[Tensor], Tensor]]] = {
    "l1": ("absolute error of the pixels in [0, 1]", torch.abs),
    "charbonnier": ("√(e² + 10⁻⁶), e the error of a pixel in [0, 1]", lambda e: (e.square() + _SMOOTH**2).sqrt()),
    "l2": ("squared error of the pixels in [0, 1]", torch.square),
}

_SMALLEST_TEST = 16
"""Least height and width in low resolution of a test image, whose border is not scored."""


@dataclass(frozen=True, kw_only=True)
class SuperResolution(Regression):
    """Images in high resolution from small ones.

    Batches are (low, high): [B, 3, h, w] and [B, 3, scale · h, scale · w], from 0 to 1. Test images are whole and may
    differ in size, so that they are measured one by one.

    Attributes:
        scale: By how much larger the high resolution is.
        names: Names of the test images.
        pixel_loss: The loss, a mean over all numbers of an image.
        self_ensemble: Whether the restored images of a finished run are also shown as means over eight views.
    """

    scale: int = 4
    names: tuple[str, ...] = ()
    pixel_loss: PixelLoss = "l1"
    self_ensemble: bool = False

    @property
    def _about_loss(self) -> str:
        return f"{_LOSSES[self.pixel_loss][0]}, and the mean over an image"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Compute the mean loss over the pixels of each image.

        Args:
            outputs: Restored images, [B, 3, scale · h, scale · w].
            batch: Low and high resolution.

        Returns:
            Tensor [B].
        """
        targets = self.targets(batch)
        errors = fit(output_of(outputs), targets.shape, "the model returns images") - targets
        return _LOSSES[self.pixel_loss][1](errors).flatten(1).mean(1)

    def hold_out(self, share: float, seed: int) -> Self:
        """Raise ValueError: training data have another form than test data."""
        raise ValueError(
            "no training samples can be held out, since whole images are tested, and parts of them trained on"
        )

    def bicubic(self, batch: Batch) -> Tensor:
        """Enlarge images by bicubic interpolation.

        Args:
            batch: Low and high resolution.

        Returns:
            Images of the size of the latter.
        """
        return resize(batch[0], self.scale)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for bicubic interpolation."""
        with torch.no_grad():
            return {"bicubic": measure(self, "train", self.bicubic) | measure(self, "test", self.bicubic)}


@TASKS.register()
def super_resolution(
    *,
    scale: Literal[2, 3, 4] = 4,
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
    patch: Annotated[int, Field(ge=4, le=512)] = 24,
    stride: Annotated[int, Field(ge=1, le=2**20)] | None = None,
    augment: bool = True,
    degradations: Sequence[Degradation] = ("bicubic",),
    test_degradation: Degradation = "bicubic",
    loss: PixelLoss = "l1",
    self_ensemble: bool = False,
    cache: str | None = None,
    seed: int = 0,
) -> SuperResolution:
    """Load images, and shrink them for a model to enlarge, as in the NTIRE challenges (arXiv:2404.09790).

    Low resolution is made by MATLAB's bicubic interpolation with antialiasing. By default, images are photos that come
    with scikit-image and scikit-learn: eight to train on, and five other scenes to test on.

    Agents draw patches, which lie on a grid over the training images and are shifted at random within a step of it.
    Measured are the patches on the grid, and whole test images. Patches may be partitioned by `photo`, `scene` (of
    photos, or the folder of files) and `degradation`.

    Args:
        scale: By how much larger the high resolution is.
        train_photos: Names of the photos to train on.
        test_photos: Names of the photos to test on.
        path: Folder of images instead: in the layout of DIV2K (`DIV2K_train_HR`, `DIV2K_train_LR_bicubic/X4`,
            `DIV2K_valid_HR`, …; small images are made if they are missing), or any images in any folders.
        test_path: Folder of other images to test on, of either kind; by default those of `DIV2K_valid_HR`, or some are
            held out.
        held_out: Fraction of the images that are held out at random to test on, at least one, if none are given.
        dataset: Name of a data set of the hub, or a file format, instead; see the task huggingface.
        configuration: Configuration of that data set, if it has several.
        train_split: Split to train on.
        test_split: Split to test on; by default, some images are held out.
        image: Column of the images.
        scene: Column by which patches may be partitioned as `scene`.
        data_files: The files of each split, unless `dataset` determines them.
        test_size: Most test images, the first ones; by default all.
        patch: Height and width of a patch in low resolution.
        stride: Step of the grid in low resolution, by default `patch`. A larger one leaves the drawn patches as they
            are, and measures fewer.
        augment: Whether drawn patches are flipped and rotated.
        degradations: How images become small; with several, each image does in each way. `blur` blurs them before (a
            Gaussian of σ = 0.4 small pixels), `noise` adds Gaussian noise of 10 grey levels, `jpeg` compresses them
            (quality 40).
        test_degradation: How test images become small.
        loss: Mean absolute error, Charbonnier's √(e² + 10⁻⁶), or mean squared error of the pixels.
        self_ensemble: Whether the restored images of a finished run are also shown as means over the eight flips and
            rotations.
        cache: Folder in which decoded images are kept, mapped into memory; by default they are held in memory.
        seed: Seed of what is held out and of noise; the simulator supplies it.

    Returns:
        A task.

    Raises:
        ValueError: An image cannot be used, there are too few, or settings contradict each other.
    """
    if len(set(degradations)) != len(degradations) or not degradations:
        raise ValueError(f"super_resolution: degradations is {shown([*degradations])}; allowed are different ones")
    train, test = train_and_test(
        super_resolution,
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
        scale=scale,
        seed=seed,
    )
    ways = tuple(degradations)
    pictures = made(train, "train", scale, ways, patch, seed, cache)
    tested = made(test, "test", scale, (test_degradation,), _SMALLEST_TEST, seed, cache)
    shapes = [pictures.arrays(row)[1].shape[1:] for row in range(len(pictures))]
    patches = Patches(
        pictures=pictures,
        scale=scale,
        side=patch,
        stride=stride or patch,
        augment=augment,
        shapes=[(height, width) for height, width in shapes],
        versions=len(ways),
    )
    image_of, version_of = patches.grid[:, :2].T
    columns_ = {"photo": np.array(train.names)[image_of], "degradation": np.array(ways)[version_of]}
    if train.scenes is not None:
        columns_["scene"] = np.array(train.scenes)[image_of]
    task = SuperResolution(
        train=patches,
        test=WholeImages(pictures=tested),
        num_outputs=3 * (scale * patch) ** 2,
        model="residual_upscaler",
        columns=columns_,
        scale=scale,
        names=tuple(test.names),
        pixel_loss=loss,
        self_ensemble=self_ensemble,
    )
    task.check()
    return task
