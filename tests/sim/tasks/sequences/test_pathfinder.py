"""Which dots belong together follows from the connected components of unbroken paths, as scipy finds them."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from basinet.sim.data.items import Items
from basinet.sim.data.rows import in_memory
from basinet.sim.tasks import Task, pathfinder

Image = pytest.importorskip("PIL.Image")

NEIGHBOURS = np.ones((3, 3))
FEW: dict[str, Any] = {"train_size": 300, "test_size": 41, "size": 24, "length": 18}


@pytest.fixture(scope="module")
def unbroken() -> Task:
    return pathfinder(**FEW, gap=0)


def images_of(task: Task) -> tuple[NDArray[Any], NDArray[Any]]:
    assert task.test is not None
    inputs, targets = (torch.cat(parts) for parts in zip(task.train, task.test, strict=True))
    side = round(inputs.shape[1] ** 0.5)
    return inputs.view(-1, side, side).numpy(), targets.numpy()


def components_and_dots(image: NDArray[Any]) -> tuple[NDArray[Any], int, NDArray[Any]]:
    """Label what touches; return the labels, their number, and the centres of squares of 3 × 3 pixels."""
    labels, count = ndimage.label(image, structure=NEIGHBOURS)
    return labels, count, np.argwhere(ndimage.binary_erosion(image, structure=NEIGHBOURS))


def test_dots_of_class_1_are_connected(unbroken: Task) -> None:
    unbroken.check()
    assert unbroken.input_shape == (576, 1) and unbroken.num_outputs == 2 and unbroken.vocabulary is None
    images, targets = images_of(unbroken)
    assert set(np.unique(images)) == {0, 1}
    distances: dict[int, list[float]] = {0: [], 1: []}
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        labels, count, dots = components_and_dots(image)
        assert len(dots) == 2
        first, second = (labels[tuple(dot)] for dot in dots)
        assert (first == second) == bool(target)
        if row < 300:
            assert count == 2 + unbroken.columns["distractors"][row]
        distances[target].append(float(np.linalg.norm(dots[0] - dots[1])))
    assert abs(np.mean(distances[0]) - np.mean(distances[1])) < 1  # the distance tells nothing
    assert unbroken.train[1].sum() == 150 and unbroken.test is not None and unbroken.test[1].sum() == 20
    assert np.unique(unbroken.columns["distractors"]).tolist() == [0, 1, 2, 3]


def test_dashes_are_parts_of_the_same_paths(unbroken: Task) -> None:
    dashed = pathfinder(**FEW)
    (images, targets), (whole, same) = map(images_of, (dashed, unbroken))
    assert (images <= whole).all() and (targets == same).all()
    assert 0.5 < images.sum() / whole.sum() < 0.9
    for image, unbroken_image in zip(images, whole, strict=True):
        _, count, dots = components_and_dots(image)
        assert count >= 5 and (dots == components_and_dots(unbroken_image)[2]).all()


def test_all_ends_look_alike() -> None:
    """The first hidden pixel follows the three of a dash, at 1.9 … 3.6 pixels, at the ends of either class."""
    settings: dict[str, Any] = {"train_size": 60, "test_size": 2, "size": 24, "length": 20}
    (images, targets), (whole, _) = (images_of(pathfinder(**settings, gap=gap)) for gap in (2, 0))
    kinds: dict[int, set[int]] = {0: set(), 1: set()}
    for image, unbroken_image, target in zip(images, whole, targets.tolist(), strict=True):
        hidden = np.argwhere(unbroken_image > image)
        for dot in components_and_dots(unbroken_image)[2]:
            kinds[target].add(int(abs(hidden - dot).max(1).min()))
    assert kinds == {0: {2, 3}, 1: {2, 3}}


def test_an_image_depends_on_its_seed_and_number_alone(unbroken: Task) -> None:
    more = pathfinder(**{**FEW, "train_size": 310}, gap=0)
    alike = more.train[1][:300] == unbroken.train[1]
    assert alike.any() and torch.equal(more.train[0][:300][alike], unbroken.train[0][alike])
    assert not torch.equal(pathfinder(**FEW, gap=0, seed=1).train[0], unbroken.train[0])
    assert len(torch.cat([unbroken.train[0], unbroken.test[0]]).unique(dim=0)) == 341


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8, "length": 12}, "two paths of 12 points hardly fit into 8 × 8 pixels"),
        ({"train_size": 10**12}, "1,000,000,002,000 images of 32² pixels would take .* of memory"),
        ({"lazy": True}, "lazy is True, which is for samples that are read"),
        ({"path": "x", "gap": 1}, "gap is 1, which is for samples made here"),
        ({"path": "nowhere"}, "nowhere has no lists of images, metadata/….npy"),
    ],
)
def test_settings_without_images(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^({'pathfinder: ' if 'train_size' not in settings else ''}){message}"):
        pathfinder(**settings)


# Files of the Long Range Arena

PIXELS = np.random.default_rng(0).integers(0, 256, size=(20, 4, 4), dtype=np.uint8)


def write(folder: Path) -> str:
    """Write 20 images in two folders, and lists of them."""
    (folder / "metadata").mkdir(parents=True)
    for number in range(2):
        (folder / "imgs" / str(number)).mkdir(parents=True)
        lines = []
        for row in range(10):
            Image.fromarray(PIXELS[10 * number + row]).save(folder / "imgs" / str(number) / f"sample_{row}.png")
            lines.append(f"imgs/{number} sample_{row}.png {row} {row % 2} 1.8 0 4 0.5\n")
        (folder / "metadata" / f"{number}.npy").write_text("".join(lines))
    return str(folder)


@pytest.mark.parametrize("lazy", [False, True])
def test_images_of_the_arena(lazy: bool, tmp_path: Path) -> None:
    path = write(tmp_path)
    task, other = (pathfinder(path=path, lazy=lazy, test_split=split) for split in ("test", "val"))
    assert isinstance(task.train, Items) == lazy and task.input_shape == (16, 1) and task.model == "transformer"
    parts = [in_memory(data) for data in (task.train, task.test, other.test)]
    assert [len(targets) for _, targets in parts] == [16, 2, 2]
    inputs, targets = (torch.cat(some) for some in zip(*parts, strict=True))
    wanted = torch.from_numpy(PIXELS).view(20, 16).float() / 255
    rows = [int((wanted == sequence[:, 0]).all(1).nonzero()) for sequence in inputs]
    assert sorted(rows) == list(range(20)) and targets.tolist() == [row % 2 for row in rows]
    assert task.columns["folder"].tolist() == [f"imgs/{row // 10}" for row in rows[:16]]
    few = pathfinder(path=path, train_size=5, test_size=2, size=2, seed=9)
    assert few.input_shape == (4, 1) and few.train[1].tolist() == targets[:5].tolist()


def test_empty_images_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path)
    (tmp_path / "imgs" / "0" / "sample_3.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        task = pathfinder(path=path)
    assert len(task.train[1]) == 15 and "1 images of" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("imgs/1 sample_0.png 0", "0.npy, line 2 has 3 words; allowed are four or more"),
        ("imgs/1 sample_0.png 0 2", "0.npy, line 2 has the label '2'; allowed are 0 … 1"),
        ("imgs/1 sample_77.png 0 1", "0.npy, line 2 names the image .*/imgs/1/sample_77.png, which does not exist"),
        ("\ud800", "0.npy cannot be read: .*codec can't decode"),
    ],
)
def test_lists_that_are_wrong(line: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    first = "imgs/0 sample_0.png 0 1\n"
    (tmp_path / "metadata" / "0.npy").write_bytes(f"{first}{line}\n".encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=f"^pathfinder: {re.escape(str(tmp_path))}/metadata/{message}"):
        pathfinder(path=path)
