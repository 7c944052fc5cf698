"""Gray images as sequences of their pixels: patches of the pictures that packages bring along, or any image set."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from basinet.algorithms.draws import key, permutation
from basinet.sim.data.items import Items
from basinet.sim.data.nests import Nest
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.loaders.huggingface import Files, huggingface
from basinet.sim.tasks.loaders.images import read_image
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["PICTURES", "pixel_sequence", "read_picture"]

PICTURES = {
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "scan": ("matplotlib", "mpl-data/sample_data/s1045.ima.gz"),
    "terrain": ("matplotlib", "mpl-data/sample_data/jacksboro_fault_dem.npz"),
}
"""Pictures by name, in the order of the classes: the package, and the file in it."""

_TRAIN_SHARE = 0.7


@TASKS.register()
def pixel_sequence(
    *,
    path: str | None = None,
    name: str | None = None,
    train_split: str = "train",
    test_split: str | None = "test",
    image: str = "image",
    label: str = "label",
    aside: Sequence[str] | None = None,
    data_files: Files | Mapping[str, Files] | None = None,
    size: Annotated[int, Field(ge=2)] | None = None,
    lazy: bool | Literal["auto"] = "auto",
    cache: str | None = None,
    train_size: Annotated[int, Field(ge=1)] = 6_000,
    test_size: Annotated[int, Field(ge=1)] = 2_000,
    seed: int = 0,
) -> Task:
    """Cut patches out of five gray pictures, which are the classes, or read any images, as sequences of pixels.

    Inputs are [n, size², 1], pixels row by row. The pictures come with scikit-learn (china, flower; CC BY 2.0) and
    matplotlib: three photographs, a scan of a head and a map of heights. Training patches lie in the left 70 % of a
    picture, test patches in the rest, none twice at the same place and none of a single gray level. Each is shifted and
    scaled to mean 0 and variance 1. Samples may be partitioned by the column `photo`, the picture's name: an agent
    of one picture knows one class only.

    The images of a path are shifted and scaled to mean 0 and variance 1 over all pixels of the training data. The
    Long Range Arena's are those of CIFAR-10: path uoft-cs/cifar10, image img.

    Args:
        path: Data set of images that is read instead, as in the task huggingface.
        name: See huggingface.
        train_split: See huggingface.
        test_split: See huggingface.
        image: See huggingface.
        label: See huggingface.
        aside: See huggingface.
        data_files: See huggingface.
        size: Height and width of patches, by default 16, or to which images are resized, by default not at all.
        lazy: See huggingface.
        cache: See huggingface.
        train_size: Number of training patches, as many of each picture up to one.
        test_size: Number of test patches.
        seed: Seed of the choice of patches; the simulator supplies it.

    Returns:
        A task with one output per class.

    Raises:
        ImportError: If `datasets` is needed and not installed.
        ValueError: If a picture is missing or has too few patches, or images cannot be read; see huggingface.

    References:
        Y. Tay et al.: Long range arena, ICLR 2021, arXiv:2011.04006.

    Example:
        >>> task = pixel_sequence(train_size=10, test_size=5, size=8)
        >>> task.input_shape, np.unique(task.columns["photo"]).tolist()
        ((64, 1), ['china', 'flower', 'hopper', 'scan', 'terrain'])
    """
    if path is not None:
        check_left_out(pixel_sequence, GENERATED, train_size=train_size, test_size=test_size)
        return _sequences(
            huggingface(
                path=path,
                name=name,
                train_split=train_split,
                test_split=test_split,
                image=image,
                label=label,
                aside=aside,
                data_files=data_files,
                size=size,
                channels=1,
                normalize=True,
                lazy=lazy,
                cache=cache,
            )
        )
    check_left_out(
        pixel_sequence,
        READ,
        name=name,
        train_split=train_split,
        test_split=test_split,
        image=image,
        label=label,
        aside=aside,
        data_files=data_files,
        lazy=lazy,
        cache=cache,
    )
    side = 16 if size is None else size
    require_memory(4 * side**2 * (train_size + test_size), f"{train_size + test_size:,} patches of {side}² pixels")
    train, test = (_patches(where, side, count, seed) for where, count in (("train", train_size), ("test", test_size)))
    names = np.array(list(PICTURES))
    return Task(
        train=train,
        test=test,
        num_outputs=len(PICTURES),
        model="transformer",
        columns={"photo": names[train[1].numpy()]},
    )


@cache
def read_picture(name: str) -> Tensor:
    """Read a picture.

    Args:
        name: Its name.

    Returns:
        Its pixels, float32 [height, width], from 0 to 1.

    Raises:
        ValueError: If it was not installed with its package.
    """
    package, place = PICTURES[name]
    found = find_spec(package)  # located, since importing it would take as long as torch
    file = Path("" if found is None or found.origin is None else found.origin).parent / place
    try:
        if file.suffix == ".jpg":
            return read_image(file, channels=1)[0]
        if file.suffix == ".gz":
            with gzip.open(file) as content:
                values = np.frombuffer(content.read(), "<u2").reshape(256, 256).astype(np.float32)
        else:
            with np.load(file) as arrays:
                values = arrays["elevation"].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"pixel_sequence: the picture {name}, which comes with {package}, cannot be read: {first_line(error)}"
        ) from error
    return torch.from_numpy((values - values.min()) / (values.max() - values.min()))


def _patches(where: str, side: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cut patches out of the region of all pictures, in a random order."""
    shares = [count // len(PICTURES) + (place < count % len(PICTURES)) for place in range(len(PICTURES))]
    patches = torch.cat([_cut(name, where, side, share, seed) for name, share in zip(PICTURES, shares, strict=True)])
    labels = torch.arange(len(PICTURES)).repeat_interleave(torch.tensor(shares))
    order = _order(count, seed, where)
    return patches[order], labels[order]


def _cut(name: str, where: str, side: int, count: int, seed: int) -> Tensor:
    """Cut different patches out of the region of a picture, and standardise each, [count, side², 1]."""
    picture = read_picture(name)
    border = round(_TRAIN_SHARE * picture.shape[1])
    region = picture[:, :border] if where == "train" else picture[:, border:]
    places = _varied(region, side)
    if len(places) < count:
        raise ValueError(
            f"pixel_sequence: {count} {where} patches of size {side} are wanted of the picture {name}, whose region of"
            f" {region.shape[0]} × {region.shape[1]} pixels has {len(places)}; allowed are fewer, or smaller ones"
        )
    rows, columns = places[_order(len(places), seed, where, name)[:count]].T
    patches = region.unfold(0, side, 1).unfold(1, side, 1)[rows, columns].reshape(count, side**2, 1)
    centred = patches - patches.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt()


def _varied(region: Tensor, side: int) -> Tensor:
    """Return the rows and columns at which patches begin that are not of one gray level, [m, 2]."""
    if side > min(region.shape):
        return torch.empty(0, 2, dtype=torch.int64)
    both = torch.stack([region, -region])
    for window in ((side, 1), (1, side)):
        both = nn.functional.max_pool2d(both, window, stride=1)
    return (both[0] > -both[1]).nonzero()


def _order(count: int, seed: int, *purpose: str) -> Tensor:
    """Return a random order of 0 … count−1."""
    return permutation(torch.tensor([key(seed, "patches", *purpose)]), torch.tensor([count]), count)[0]


def _sequences(task: Task) -> Task:
    """Turn images of one channel into sequences."""
    parts: dict[str, Any] = {
        name: replace(part, convert=_Flat(part.convert)) if isinstance(part, Items) else _flat(part)
        for name, part in task.measured().items()
    }
    return replace(task, **parts, model="transformer")


def _flat(batch: Nest) -> Nest:
    images, targets = batch
    return images.flatten(1).unsqueeze(-1), targets


@dataclass(frozen=True, eq=False)
class _Flat:
    """Turns images into sequences, after another conversion."""

    before: Callable[[Nest, Tensor], Nest] | None

    def __call__(self, batch: Nest, rows: Tensor) -> Nest:
        return _flat(batch if self.before is None else self.before(batch, rows))
