"""Tasks read from files: what is written is what is read, lazily or not, and what is wrong is said with its file."""

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from basinet.sim.data.items import Items
from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import in_memory
from basinet.sim.experiment.digest import digest
from basinet.sim.tasks import SquaredError, Task, huggingface, image_folder, shards, table
from tests.processes import Processes

Image = pytest.importorskip("PIL.Image")
datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

PIXELS = np.random.default_rng(0).integers(0, 256, size=(8, 6, 5, 3), dtype=np.uint8)
X = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def same(task: Task, other: Task) -> bool:
    pairs = zip(leaves(in_memory(task.train)), leaves(in_memory(other.train)), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


# Folders of images


def folder(root: Path, classes: str = "bca", count: int = 8) -> str:
    for n in range(count):
        place = root / classes[n % len(classes)] / f"user{n % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.png").write_bytes(png(PIXELS[n]))
    return str(root)


def test_folders_are_classes(tmp_path: Path) -> None:
    folder(tmp_path / "train" / "a" / ".ipynb_checkpoints")  # hidden, as are the copies that editors keep
    task = image_folder(
        path=folder(tmp_path / "train"), test_path=folder(tmp_path / "test", "cb", 2), loss="squared_error"
    )
    assert isinstance(task, SquaredError) and (task.num_outputs, task.input_shape) == (3, (3, 6, 5))
    order = [2, 5, 0, 6, 3, 4, 1, 7]  # by class, user and name
    assert task.train[1].tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    torch.testing.assert_close(task.train[0], X[order], rtol=0, atol=0)
    assert task.test is not None and task.test[1].tolist() == [1, 2]
    assert task.columns["folder"].tolist()[:3] == ["a/user0", "a/user1", "b/user0"]
    lazy = image_folder(path=str(tmp_path / "train"), lazy=True)
    assert isinstance(lazy.train, Items) and same(lazy, task)
    assert lazy.labels is not None and torch.equal(lazy.labels, task.train[1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root), "image_folder: .*train: No such file or directory"),
        (lambda root: [shutil.rmtree(place) for place in root.iterdir()], "has no folders of images"),
        (lambda root: (root / "d").mkdir(), r"train/d holds no images \(.avif"),
        (
            lambda root: (root / "a/user0/2.png").write_bytes(b"no image"),
            "a/user0/2.png cannot be used: cannot identify",
        ),
        (
            lambda root: (root / "a/user0/2.png").write_bytes(png(PIXELS[0][:4])),
            r"the shape .*give a size and channels",
        ),
    ],
    ids=range(5),
)
@pytest.mark.parametrize("lazy", [False, True])
def test_folders_that_cannot_be_used(tmp_path: Path, spoil: Any, message: str, lazy: bool) -> None:
    spoil(Path(folder(tmp_path / "train")))
    with pytest.raises(ValueError, match=message):
        in_memory(image_folder(path=str(tmp_path / "train"), lazy=lazy).train)


def test_classes_of_the_test_images_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has the class 'z', which is none of the training images: a, b, c"):
        image_folder(path=folder(tmp_path / "a"), test_path=folder(tmp_path / "b", "z"))


# Tables

ROWS = [
    {"age": 20, "city": "Rome", "user": "u1", "kind": "yes", "price": 1.5},
    {"age": 30, "city": "Oslo", "user": "u2", "kind": "no", "price": 2.5},
    {"age": 40, "city": "Rome", "user": "u1", "kind": "no", "price": 0.5},
    {"age": 50, "city": "Bern", "user": "u3", "kind": "yes", "price": 4.0},
]


def written(file: Path, rows: list[dict[str, Any]] = ROWS) -> str:
    if file.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    else:
        with open(file, "w", newline="") as stream:
            writer = csv.DictWriter(stream, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    return str(file)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_are_read(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"a.{ending}")
    test = written(tmp_path / f"b.{ending}", ROWS[1:3])
    task = table(path=path, test_path=test, target="kind", columns=["user", "price"])
    ages = (np.array([20, 30, 40, 50]) - 35) / np.sqrt(125)
    cities = [[0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]  # Bern, Oslo, Rome
    wanted = np.concatenate([ages[:, None], cities], 1)
    np.testing.assert_allclose(task.train[0], wanted, rtol=1e-6)
    assert (task.train[1].tolist(), task.num_outputs) == ([1, 0, 0, 1], 2)
    assert task.test is not None
    np.testing.assert_allclose(task.test[0], wanted[1:3], rtol=1e-6)
    assert task.columns["user"].tolist() == ["u1", "u2", "u1", "u3"]
    prices = table(path=path, target="price", inputs=["age"], standardize=False)
    assert not prices.classification and prices.train[1][:, 0].tolist() == [1.5, 2.5, 0.5, 4.0]
    assert prices.train[0].tolist() == [[20], [30], [40], [50]]
    ages_as_classes = table(path=path, target="age", inputs=["price"])
    assert (ages_as_classes.train[1].tolist(), ages_as_classes.num_outputs) == ([0, 1, 2, 3], 4)


def test_tables_of_several_files_and_a_share_for_the_test(tmp_path: Path) -> None:
    written(tmp_path / "a.csv"), written(tmp_path / "b.csv")
    task = table(path=str(tmp_path / "*.csv"), target="kind", columns=["user"], test_share=0.25)
    assert task.test is not None and (len(task.train[0]), len(task.test[0])) == (6, 2)
    assert set(task.columns["file"]) == {"a.csv", "b.csv"}
    again = table(path=str(tmp_path / "*.csv"), target="kind", columns=["user"], test_share=0.25)
    assert same(task, again)
    assert not same(task, table(path=str(tmp_path / "*.csv"), target="kind", columns=["user"], test_share=0.25, seed=1))


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"target": "kin"}, "table: there is no column 'kin'; allowed: age, city, .*did you mean 'kind'"),
        ({"age": ""}, {}, "column 'age' has no value in line 3 of .*a.csv"),
        ({"age": "inf"}, {}, "column 'age' has inf, which is not finite in float32, in line 3 of .*a.csv"),
        ({"age": "-1e300"}, {}, r"column 'age' has -1e\+300, which is not finite in float32, in line 3 of .*a.csv"),
        ({"kind": ""}, {}, "column 'kind' has no value in line 3 of .*a.csv"),
        ({"age": "old"}, {}, "column 'age' has 'old' in line 3 of .*a.csv, and numbers in 3 of 4 rows"),
        ({"price": "NA"}, {"target": "price"}, "column 'price' has 'NA' in line 3 of .*a.csv, and numbers in 3 of 4"),
        ({}, {"words": ["cit"]}, "no column 'cit'; .*did you mean 'city'"),
        (
            {},
            {"test": {"city": "Paris"}},
            "column 'city' has 'Paris' in line 3 of .*t.csv, which is none of the 3 values",
        ),
        ({}, {"test": {"kind": "maybe"}}, "column 'kind' has 'maybe' in line 3 of .*t.csv"),
        (
            {},
            {"test": {"age": "old"}},
            "column 'age' holds words in one file, such as 'old' in line 3 of .*t.csv, and numbers in the training",
        ),
        ({}, {"inputs": ["kind"]}, "'kind' is the target, and can be no input"),
        ({}, {"classification": False}, "target 'kind' holds words"),
        ({}, {"test_share": 0.01}, "test_share of 0.01 takes 0 of 4 rows"),
        ({}, {"path": "none.csv"}, "none.csv cannot be read: .*No such file"),
        ({}, {"path": "none*.csv"}, "no file is called"),
    ],
    ids=range(16),
)
def test_tables_that_cannot_be_used(tmp_path: Path, change: Any, settings: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "a.csv", [ROWS[0], {**ROWS[1], **change}, *ROWS[2:]])
    settings = dict(settings)
    if "test" in settings:
        settings["test_path"] = written(tmp_path / "t.csv", [ROWS[0], {**ROWS[1], **settings.pop("test")}])
    with pytest.raises(ValueError, match=message):
        table(**{"path": path, "target": "kind", "columns": ["user"], **settings})


def test_constant_columns_of_a_table_are_shifted_only(tmp_path: Path) -> None:
    rows = [{"price": 0.1, "age": 0.1 + row % 2 * 2e-17, "kind": row % 2} for row in range(1000)]
    inputs = table(path=written(tmp_path / "a.csv", rows), target="kind").train[0]
    assert inputs.shape == (1000, 2) and inputs.abs().max() < 1e-12


def test_files_of_a_table_are_alike(tmp_path: Path) -> None:
    written(tmp_path / "a.csv"), written(tmp_path / "b.csv", [{"age": 1, "kind": "yes"}])
    with pytest.raises(ValueError, match=r"b.csv and .*a.csv differ in the columns city, price, user"):
        table(path=str(tmp_path / "*.csv"), target="kind")
    (tmp_path / "c.csv").write_text('a,b\n\n"1\n",2\n3\n')
    with pytest.raises(ValueError, match=r"line 5 of .*c.csv has 1 value for 2 columns"):
        table(path=str(tmp_path / "c.csv"), target="a")
    (tmp_path / "d.csv").write_bytes("town,kind\nUlm,1\nKöln,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^table: line 3 of '.*d.csv' is not text in UTF-8 \("):
        table(path=str(tmp_path / "d.csv"), target="kind")


@pytest.mark.parametrize(("header", "files"), [("age, age,kind", "a"), ("age,file,kind", "ab")])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_of_the_same_name_are_refused(tmp_path: Path, header: str, files: str, ending: str) -> None:
    names = [name.strip() for name in header.split(",")]
    for file in files:
        if ending == "csv":
            (tmp_path / f"{file}.csv").write_text(f"{header}\n1,2,yes\n")
        else:
            pyarrow.parquet.write_table(pyarrow.table([[1], [2], ["yes"]], names=names), tmp_path / f"{file}.parquet")
    with pytest.raises(
        ValueError, match=rf"a.{ending} .*\({names[1]}\)|column '{names[1]}' appears twice in .*a.{ending}"
    ):
        table(path=str(tmp_path / (f"*.{ending}" if len(files) > 1 else f"a.{ending}")), target="kind")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_of_codes_are_words_if_asked(tmp_path: Path, ending: str) -> None:
    rows = [{"code": code, "kind": kind} for code, kind in zip(("10", "4A", "7", "10"), (0, 1, 1, 0), strict=True)]
    task = table(path=written(tmp_path / f"a.{ending}", rows), target="kind", words=["code"])
    assert task.train[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    numbers = written(tmp_path / f"b.{ending}", [{**row, "code": number} for number, row in enumerate(rows)])
    assert torch.equal(table(path=numbers, target="kind", words=["code"]).train[0], torch.eye(4))
    gap = written(tmp_path / f"c.{ending}", [{**rows[0], "code": 1}, {**rows[1], "code": None}])
    with pytest.raises(ValueError, match=r"column 'code' has no value in (line 3|row 2) of"):
        table(path=gap, target="kind", words=["code"])


@pytest.mark.parametrize(("kinds", "warned"), [(30, True), (16, True), (15, False)])
def test_words_that_are_mostly_different_are_warned_of(tmp_path: Path, caplog: Any, kinds: int, warned: bool) -> None:
    rows = [{"id": f"id{row % kinds}", "kind": row % 2} for row in range(30)]
    table(path=written(tmp_path / "a.csv", rows), target="kind")
    assert (f"column 'id' has {kinds} different words in 30 rows" in caplog.text) == warned


# Shards


def tar(file: Path, samples: dict[str, dict[str, bytes]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as stream:
        for stem, parts in samples.items():
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{stem}.{ending}")
                member.size = len(content)
                stream.addfile(member, io.BytesIO(content))
    return str(file)


def numbers(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def sample(n: int, **others: bytes) -> dict[str, bytes]:
    return {"png": png(PIXELS[n]), "cls": str(n % 3).encode(), **others}


def test_shards_are_read_by_index(tmp_path: Path) -> None:
    for shard in range(2):
        tar(tmp_path / f"s{shard}.tar", {f"x/{n}": sample(n) for n in range(4 * shard, 4 * shard + 4)})
    path = str(tmp_path / "s*.tar")
    task = shards(path=path)
    torch.testing.assert_close(task.train[0], X, rtol=0, atol=0)
    assert task.train[1].tolist() == [n % 3 for n in range(8)]
    assert task.columns["shard"].tolist() == ["s0.tar"] * 4 + ["s1.tar"] * 4
    for _ in range(2):  # the second time from the index
        lazy = shards(path=path, lazy=True, index=str(tmp_path / "index"))
        assert isinstance(lazy.train, Items) and same(lazy, task)
        assert torch.equal(lazy.labels, task.train[1])  # type: ignore[arg-type]
    kept = sorted((tmp_path / "index").iterdir())
    kept[0].write_text("[[")
    assert len(kept) == 2 and same(shards(path=path, index=str(tmp_path / "index")), task)


def test_files_of_shards_are_decoded_by_their_endings(tmp_path: Path) -> None:
    parts = {
        str(n): {
            "a.npy": numbers(np.arange(3) + n),
            "seg.png": png(PIXELS[n]),
            "json": json.dumps({"size": [n, 1.5]}).encode(),
            "txt": b"dog" if n else b"cat",
        }
        for n in range(3)
    }
    task = shards(path=tar(tmp_path / "a.tar", parts), target="txt", inputs=["a.npy", "seg.png", "json"])
    assert task.train["a.npy"].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert task.train["json"]["size"].tolist() == [[0, 1.5], [1, 1.5], [2, 1.5]]
    assert torch.equal(task.train["seg.png"], X[:3]) and task.train["txt"].tolist() == [0, 1, 1]
    regression = shards(path=tar(tmp_path / "b.tar", parts), target="a.npy", inputs=["seg.png"], classification=False)
    assert regression.train[1].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        (
            {"1": sample(1), "2": {"png": b"", "txt": b"x"}},
            {},
            "sample '2' of .*a.tar has the files png, txt, and '1' png, cls",
        ),
        ({"1": {"cls": b"1"}}, {}, "no files besides those that end in .cls"),
        ({"1": sample(1)}, {"target": "txt"}, "no files that end in .txt, but in png, cls"),
        ({"1": sample(1), "2": {"png": b"x", "cls": b"0"}}, {}, "2.png in .*a.tar cannot be used: cannot identify"),
        ({"1": {"png": b"", "cls": b"x"}}, {}, "1.cls in .*a.tar cannot be used: invalid literal"),
        ({"1": {"bin": b"", "cls": b"1"}}, {}, "1.bin in .*a.tar cannot be used: files that end in .bin are not known"),
        ({"1": {"txt": b"word", "cls": b"1"}}, {}, "make a list of words in part '0'"),
        ({}, {}, "hold no files with an ending"),
        ({"1": sample(1)}, {"path": "none.tar"}, "none.tar cannot be read: .*No such file"),
    ],
    ids=range(9),
)
def test_shards_that_cannot_be_used(tmp_path: Path, samples: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shards(**{"path": tar(tmp_path / "a.tar", samples), **settings})


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 600)
    with pytest.raises(ValueError, match=r"shards: .*a.tar cannot be read"):
        shards(path=str(tmp_path / "a.tar"))


# The cache


def test_the_cache_is_shared_and_noticed_if_it_is_not_whole(tmp_path: Path, caplog: Any) -> None:
    path, cache = folder(tmp_path / "train"), tmp_path / "cache"
    wanted = image_folder(path=path)
    written_as = []
    for spoil in (None, None, "leaf0.bin", "done.json"):
        if spoil is not None:
            (place,) = (entry for entry in cache.iterdir() if entry.is_dir())
            (place / spoil).write_bytes((place / spoil).read_bytes()[:-3])
        caplog.clear()
        task = image_folder(path=path, cache=str(cache))
        assert isinstance(task.train, Items) and same(task, wanted)
        written_as.append(sum("task.cache: writing the 8 items" in line for line in caplog.messages))
    assert written_as == [1, 0, 1, 1]
    assert digest(task.train) == digest(image_folder(path=path, cache=str(cache)).train)
    (tmp_path / "train/a/user0/2.png").write_bytes(png(PIXELS[7]))
    assert not same(image_folder(path=path, cache=str(cache)), wanted)  # a changed file
    assert sum(entry.is_dir() for entry in cache.iterdir()) == 2


def make(path: str, cache: str) -> None:
    image_folder(path=path, cache=cache)


def test_several_processes_make_the_cache_once(tmp_path: Path, processes: Processes) -> None:
    path, cache = folder(tmp_path / "train"), tmp_path / "cache"
    for _ in range(2):
        processes.start(make, path, str(cache))
    statuses, said = processes.end()
    assert statuses == [0, 0], said
    assert sum("writing the 8 items" in err for _, err in said) == 1
    assert same(image_folder(path=path, cache=str(cache)), image_folder(path=path))


# Hugging Face


def test_any_columns_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        "picture": [png(p) for p in PIXELS[:4]],
        "sizes": [[n, n + 1] for n in range(4)],
        "price": [0.5, 1.5, 2.5, 3.5],
        "stars": [5, 3, 5, 1],
        "user": ["a", "b", "a", "b"],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "a.parquet"))
    keys: dict[str, Any] = {"path": "parquet", "data_files": {"train": str(tmp_path / "a.parquet")}, "test_split": None}
    task = huggingface(**keys, inputs=["picture", "sizes"], target="price", aside=["user"])
    assert torch.equal(task.train["picture"], X[:4]) and task.train["sizes"].tolist() == rows["sizes"]
    assert task.train["price"][:, 0].tolist() == rows["price"] and task.columns["user"].tolist() == rows["user"]
    stars = huggingface(**keys, inputs=["sizes"], label="stars", lazy=True)
    assert (stars.labels.tolist(), stars.num_outputs) == ([2, 1, 2, 0], 3)  # type: ignore[union-attr]
    assert in_memory(stars.train)[0].tolist() == rows["sizes"]
    with pytest.raises(ValueError, match="make a list of words in part '0'"):
        huggingface(**keys, inputs=["user"], label="stars")
    plain, lazy = (huggingface(**keys, image="picture", label="stars", normalize=True, lazy=z) for z in (False, True))
    torch.testing.assert_close(in_memory(lazy.train)[0], plain.train[0], rtol=0, atol=1e-5)
