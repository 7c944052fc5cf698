import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from basinet.sim.tasks import Task, huggingface

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

PIXELS = np.random.default_rng(0).integers(0, 256, size=(8, 6, 5, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")


def png(pixels: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(
    path: Path,
    pixels: Any = PIXELS,
    labels: list[Any] | None = None,
    label: Any = None,
    names: tuple[str, str] = ("image", "label"),
    image: Any = None,
) -> str:
    """Write a parquet file of images and labels; the labels run 0, 1, 2, 0, … ."""
    labels = [i % 3 for i in range(len(pixels))] if labels is None else labels
    features = {
        names[0]: datasets.Image() if image is None else image,
        names[1]: label or datasets.ClassLabel(names=list("abcd")),
    }
    columns = {names[0]: [png(p) for p in pixels], names[1]: labels}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return str(path)


def load(train: str, **settings: Any) -> Task:
    return huggingface(path="parquet", data_files={"train": train}, **{"test_split": None, **settings})


def test_round_trip(tmp_path: Path) -> None:
    files = {"train": write(tmp_path / "a.parquet"), "test": write(tmp_path / "b.parquet", PIXELS[:2])}
    task = huggingface(path="parquet", data_files=files)
    assert task.test is not None
    assert task.input_shape == (3, 6, 5)
    assert task.num_outputs == 4  # the classes that the column names, though the last is not used
    assert task.train[1].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(task.train[0], expected, rtol=0, atol=0)
    torch.testing.assert_close(task.test[0], expected[:2], rtol=0, atol=0)


def test_folder_with_other_columns_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "train.parquet", PIXELS[..., 0], names=("img", "digit"), label=datasets.Value("uint8"))
    task = huggingface(
        path=str(folder),
        image="img",
        label="digit",
        train_split="train[:6]",
        test_split="train[6:]",
    )
    assert task.test is not None
    assert (task.input_shape, task.num_outputs) == ((1, 6, 5), 3)
    assert (len(task.train[0]), len(task.test[0])) == (6, 2)
    assert task.train[1].dtype == torch.int64


def test_plain_bytes_are_decoded(tmp_path: Path) -> None:
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    task = load(write(tmp_path / "a.parquet", image=plain))
    assert task.input_shape == (3, 6, 5)


def test_images_of_several_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [PIXELS[0], PIXELS[1][:4], PIXELS[2][..., 0]])
    with pytest.raises(ValueError, match=r"'train' have the shapes .*\(4, 5, 3\).* give a size and channels"):
        load(path)
    assert load(path, size=4, channels=1).input_shape == (1, 4, 4)
    assert load(path, size=4, channels=3).input_shape == (3, 4, 4)


def test_unknown_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'img', its columns are image, label"):
        load(path, image="img")
    with pytest.raises(ValueError, match="has no column 'fine_label'"):
        load(path, label="fine_label")


@pytest.mark.parametrize(("labels", "kind"), [([-1, 0], "int64"), (["a", "b"], "string"), ([0.5, 1.0], "float64")])
def test_labels_that_are_no_classes(tmp_path: Path, labels: list[Any], kind: str) -> None:
    path = write(tmp_path / "a.parquet", PIXELS[:2], labels=labels, label=datasets.Value(kind))
    with pytest.raises(ValueError, match="column 'label' of split 'train' has to hold class indices"):
        load(path)


def test_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r'pip install "basinet\[datasets\]"'):
        huggingface(path="mnist")
