"""Patches are found again in their pictures, and image sets give the pixels that they hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from basinet.sim.data.items import Items
from basinet.sim.data.rows import in_memory
from basinet.sim.tasks import Task, pixel_sequence
from basinet.sim.tasks.sequences import pixel_sequence as module
from tests.sim.tasks.test_huggingface import PIXELS, offline, write  # noqa: F401  # offline is used by all tests

SMALL: dict[str, Any] = {"train_size": 7, "test_size": 5, "size": 8}
NAMES = ["china", "flower", "hopper", "scan", "terrain"]


@pytest.fixture(scope="module")
def task() -> Task:
    return pixel_sequence(**SMALL)


def test_patches_stand_in_their_region(task: Task) -> None:
    task.check()
    assert task.input_shape == (64, 1) and task.num_outputs == 5 and task.vocabulary is None
    assert [NAMES[label] for label in task.train[1]] == task.columns["photo"].tolist()
    assert task.train[1].bincount().tolist() == [2, 2, 1, 1, 1]
    assert task.test is not None and task.test[1].bincount().tolist() == [1] * 5
    inputs, labels = (torch.cat(parts) for parts in zip(task.train, task.test, strict=True))
    for label in labels.unique():
        picture = module.read_picture(NAMES[label]).double().numpy()
        windows = sliding_window_view(picture, (8, 8)).reshape(-1, 64)
        columns = np.tile(np.arange(picture.shape[1] - 7), picture.shape[0] - 7)
        centred = windows - windows.mean(1, keepdims=True)
        norms = np.linalg.norm(centred, axis=1)
        border = round(0.7 * picture.shape[1])
        for sample in inputs[labels == label]:
            wanted = sample[:, 0].double().numpy()
            correlation = centred @ wanted / np.where(norms > 1e-9, norms, 1) / np.linalg.norm(wanted)
            place = columns[correlation.argmax()]
            assert correlation.max() > 1 - 1e-5
            in_training = any(torch.equal(sample, other) for other in task.train[0])
            assert place + 8 <= border if in_training else place >= border


def test_patches_are_standardised_and_differ(task: Task) -> None:
    inputs = task.train[0].double()
    torch.testing.assert_close(inputs.mean(1), torch.zeros(7, 1, dtype=inputs.dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.square().mean(1), torch.ones(7, 1, dtype=inputs.dtype), atol=1e-4, rtol=0)
    many = pixel_sequence(train_size=2000, test_size=5)
    textured = many.train[0][many.train[1] != NAMES.index("scan")]  # around the head, the scan is black
    assert len(textured.unique(dim=0)) == len(textured)


def test_patches_depend_on_the_seed(task: Task) -> None:
    assert torch.equal(task.train[0], pixel_sequence(**SMALL).train[0])
    assert not torch.equal(task.train[0], pixel_sequence(**SMALL, seed=1).train[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 78}, "of size 78 are wanted of the picture scan, whose region of 256 × 77 pixels has 0;"),
        ({"size": 8, "test_size": 100_000}, "20000 test patches of size 8 are wanted of the picture scan"),
        ({"train_size": 10**12}, "would take .* of memory"),
        ({"image": "img"}, "image is 'img', which is for samples that are read"),
        ({"path": "x", "test_size": 7}, "test_size is 7, which is for samples made here"),
    ],
)
def test_settings_without_patches(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixel_sequence(**settings)


def test_missing_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.PICTURES, "lost", ("sklearn", "datasets/images/lost.jpg"))
    monkeypatch.setitem(module.PICTURES, "nowhere", ("no_such_package", "nowhere.npz"))
    for name, package in {"lost": "sklearn", "nowhere": "no_such_package"}.items():
        with pytest.raises(
            ValueError, match=f"the picture {name}, which comes with {package}, cannot be read: .*No such"
        ):
            module.read_picture(name)


@pytest.mark.parametrize("lazy", [False, True])
def test_images_of_a_path(lazy: bool, tmp_path: Path) -> None:
    files = {"train": write(tmp_path / "train.parquet"), "test": write(tmp_path / "test.parquet", PIXELS[:3])}
    task = pixel_sequence(path="parquet", data_files=files, lazy=lazy, size=4)
    assert isinstance(task.train, Items) == lazy and task.input_shape == (16, 1) and task.model == "transformer"
    inputs, targets = in_memory(task.train)
    image = pytest.importorskip("PIL.Image")
    grey = [np.asarray(image.fromarray(pixels).convert("L").resize((4, 4))) / 255 for pixels in PIXELS]
    wanted = torch.from_numpy(np.stack(grey)).view(8, 16, 1)
    wanted = (wanted - wanted.mean()) / wanted.std(correction=0)
    torch.testing.assert_close(inputs.double(), wanted, atol=1e-5, rtol=0)
    assert targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
