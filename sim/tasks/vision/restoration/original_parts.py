"""Which images a task trains on, and which it tests on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from basinet.algorithms.draws import key, permutation
from basinet.sim.tasks.left_out import check_left_out
from basinet.sim.tasks.loaders.huggingface import Files as HubFiles
from basinet.sim.tasks.loaders.huggingface import load_splits
from basinet.sim.tasks.vision.restoration.originals import Files, Hub, Originals, Photos, files_of, is_part
from basinet.sim.vision.photos import motif

__all__ = ["train_and_test"]


def train_and_test(
    task: Callable[..., Any],
    *,
    train_photos: Sequence[str],
    test_photos: Sequence[str],
    path: str | None,
    test_path: str | None,
    held_out: float,
    dataset: str | None,
    configuration: str | None,
    train_split: str,
    test_split: str | None,
    image: str,
    scene: str | None,
    data_files: HubFiles | Mapping[str, HubFiles] | None,
    test_size: int | None,
    scale: int,
    seed: int,
) -> tuple[Originals, Originals]:
    """Find the images to train on and those to test on: photos, or those of a folder or a data set.

    Args:
        task: The function that makes the task, which has settings of these names.
        train_photos: Names of the photos to train on.
        test_photos: Names of the photos to test on.
        path: Folder of images instead.
        test_path: Folder of other images to test on.
        held_out: Fraction of the images that are held out at random to test on, if none are given.
        dataset: Name of a data set instead.
        configuration: Its configuration.
        train_split: Split to train on.
        test_split: Split to test on.
        image: Column of the images.
        scene: Column of their kinds.
        data_files: The files of each split.
        test_size: Most test images.
        scale: By how much larger than low resolution the images are.
        seed: Seed of what is held out.

    Returns:
        Images to train on, and others.

    Raises:
        ValueError: There are too few, the same photo or file is in both, or settings contradict each other.
    """
    if path is not None and dataset is not None:
        raise ValueError(f"path is {path!r} and dataset {dataset!r}; give one of them")
    hub = {
        "configuration": configuration,
        "train_split": train_split,
        "test_split": test_split,
        "image": image,
        "scene": scene,
        "data_files": data_files,
    }
    if dataset is None:
        check_left_out(task, "for a dataset; allowed without one is to leave it out", **hub)
    if path is None:
        check_left_out(task, "for a path; allowed without one is to leave it out", test_path=test_path)
    if path is not None or dataset is not None:
        photos = {"train_photos": train_photos, "test_photos": test_photos}
        check_left_out(task, "for photos; allowed with other images is to leave it out", **photos)
    train: Originals
    test: Originals | None = None
    if path is not None:
        train, test = _of_folders(Path(path), None if test_path is None else Path(test_path), scale)
    elif dataset is not None:
        if train_split == test_split:
            raise ValueError(f"train_split and test_split are {test_split!r}; allowed are two splits")
        columns = [image, *([] if scene is None else [scene])]
        splits = load_splits(dataset, configuration, (train_split, test_split), data_files, columns)
        train, *others = (Hub(data, split, image, scene) for split, data in splits)
        test = others[0] if others else None
    else:
        train, test = Photos(train_photos, "train_photos"), Photos(test_photos, "test_photos")
        shown_by = {motif(name): name for name in train_photos}
        if both := [name for name in test_photos if motif(name) in shown_by]:
            raise ValueError(
                f"{shown_by[motif(both[0])]!r} in train_photos and {both[0]!r} in test_photos show the same; allowed is"
                " one of them"
            )
    if test is not None:
        check_left_out(task, "for images without others to test on; leave it out", held_out=held_out)
    else:
        train, test = _held_out(train, held_out, seed)
    if test_size is not None:
        test = test.take(range(min(test_size, len(test.names))))
    for found, purpose in ((train, "train"), (test, "test")):
        if not found.names:
            raise ValueError(f"there are no images to {purpose} on; allowed is at least one")
    return train, test


def _of_folders(path: Path, test_path: Path | None, scale: int) -> tuple[Files, Files | None]:
    """List the images to train on, and those to test on, if they are given."""
    train = files_of(path, scale, "train", "valid")
    if test_path is None:
        has_both = is_part(path, "train") and is_part(path, "valid")
        return train, files_of(path, scale, "valid") if has_both else None
    test = files_of(test_path, scale, "valid", "train")
    if both := test.shared_with(train):
        raise ValueError(f"{both[0]} is in path and in test_path; allowed is one")
    return train, test


def _held_out(found: Originals, share: float, seed: int) -> tuple[Originals, Originals]:
    """Divide images into those to train on and those to test on."""
    count = len(found.names)
    if count < 2:
        raise ValueError(
            f"{found.place(0)} is the only image; allowed are at least two, one of them to test on, or test images of"
            " their own (test_path, test_split)"
        )
    order = permutation(torch.tensor([key(seed, "images held out")]), torch.tensor([count]), count)[0]
    tested = {*order[: min(max(1, round(share * count)), count - 1)].tolist()}
    parts = ([row for row in range(count) if (row in tested) == wanted] for wanted in (False, True))
    first, second = map(found.take, parts)
    return first, second
