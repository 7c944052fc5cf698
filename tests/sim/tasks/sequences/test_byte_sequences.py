"""Labels of passages follow from the modules they are in; files give back the bytes that the test wrote."""

import logging
import platform
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from basinet.sim.data.items import Items
from basinet.sim.data.rows import in_memory
from basinet.sim.tasks import Task, retrieval, text
from basinet.sim.tasks.language.texts import standard_library
from tests.sim.tasks.test_huggingface import offline  # noqa: F401  # used by all tests

PACKAGES = ["email", "json", "xml"]
FEW: dict[str, Any] = {"length": 200, "train_size": 60, "test_size": 20}


def bytes_of(tokens: Tensor) -> bytes:
    """Return the text of a sequence, which 0s may follow."""
    values = tokens.tolist()
    end = values.index(0) if 0 in values else len(values)
    assert not any(values[end:])
    return bytes(token - 1 for token in values[:end])


@cache
def contents() -> dict[str, bytes]:
    return {name: content.encode() for name, content in standard_library().items()}


def modules_with(tokens: Tensor) -> set[str]:
    passage = bytes_of(tokens)
    return {name for name, content in contents().items() if passage in content}


@pytest.fixture(scope="module")
def pairs() -> Task:
    return retrieval(**FEW)


@pytest.fixture(scope="module")
def passages() -> Task:
    return text(**FEW, packages=PACKAGES)


def test_pairs_are_of_one_module_or_of_two(pairs: Task) -> None:
    pairs.check()
    assert (pairs.vocabulary, pairs.padding, pairs.input_shape, pairs.num_outputs) == (257, 0, (2, 200), 2)
    assert pairs.train[0].dtype == torch.int64 and pairs.train[1].sum() == 30
    clear = 0
    for pair, same, module, package in zip(*pairs.train, *map(pairs.columns.get, ("module", "package")), strict=True):
        first, second = map(modules_with, pair)
        assert module in first and package == module.split("/")[0].removesuffix(".py")
        assert not torch.equal(*pair)
        if len(first) == len(second) == 1:  # other passages, such as licences, stand in several modules
            assert bool(same) == (first == second)
            clear += 1
    assert clear > 40
    assert len(pairs.train[0].flatten(1).unique(dim=0)) == 60


def test_classes_are_packages(passages: Task) -> None:
    passages.check()
    assert passages.input_shape == (200,) and passages.num_outputs == 3 and passages.test is not None
    assert (len(passages.train[1]), len(passages.test[1])) == (60, 20)
    for tokens, label, module in zip(*passages.train, passages.columns["module"], strict=True):
        assert 100 <= len(bytes_of(tokens)) <= 200 and module in modules_with(tokens)
        assert module.startswith(f"{PACKAGES[label]}/")
    every = text(length=200, packages=PACKAGES)
    assert len(every.train[1]) > 1000 and every.train[1].unique().tolist() == [0, 1, 2]
    assert 0.1 < len(every.test[1]) / (len(every.train[1]) + len(every.test[1])) < 0.4


@pytest.mark.parametrize("name", ["pairs", "passages"])
def test_test_data_are_of_other_modules(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    assert task.test is not None
    found = [[modules_with(tokens) for tokens in part[0].view(-1, 200)] for part in (task.train, task.test)]
    train, test = (set().union(*(modules for modules in part if len(modules) == 1)) for part in found)
    assert train and test and not train & test


def test_no_passage_is_in_both_parts() -> None:
    every = text(length=200)
    assert every.test is not None
    for task in (every, retrieval(length=96, train_size=3000, test_size=1000)):
        assert task.test is not None
        train, test = ({*map(bytes_of, part[0].flatten(0, -2))} for part in (task.train, task.test))
        assert train and test and not train & test
    assert len(torch.cat([every.train[0], every.test[0]]).unique(dim=0)) == len(every.train[1]) + len(every.test[1])


@pytest.mark.parametrize("make", [retrieval, text])
def test_samples_depend_on_the_seed_alone(make: Any) -> None:
    task, again, other = (make(**FEW, seed=seed) for seed in (2, 2, 3))
    assert torch.equal(task.train[0], again.train[0]) and torch.equal(task.test[1], again.test[1])
    assert not torch.equal(task.train[0], other.train[0])


def test_the_record_says_which_texts() -> None:
    wanted = rf"of passages from {len(standard_library())} texts of Python {platform.python_version()}, digest \w{{12}}"
    assert re.search(wanted, text(**FEW).about_loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"length": 2**18},
            "retrieval: 0 modules have two passages of 262144 bytes, too few for training",
        ),
        (
            {"length": 16384, "train_size": 10**5},
            "train_size is 100000; allowed are at most the [0-9]+ pairs that there are",
        ),
        ({"length": 16384, "train_size": 2, "test_size": 10**5}, "test_size is 100000; allowed are at most the"),
        ({"test_split": "eval"}, "test_split is 'eval', which is for samples that are read"),
        ({"path": "nowhere"}, "nowhere/new_aan_pairs.train.tsv cannot be read: .*No such file"),
    ],
)
def test_settings_without_pairs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval(**settings)


def test_memory_is_checked_before_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinet.sim.setup.memory.memory", lambda: 2**20)
    with pytest.raises(ValueError, match=r"^retrieval: 10,000 pairs of passages of 256 bytes would take .* of memory"):
        retrieval()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"packages": ["json"]}, r"packages is \['json'\]; allowed are two or more, each once"),
        ({"packages": ["json", "json"]}, "allowed are two or more, each once"),
        ({"packages": ["json", "jsn"]}, "the package 'jsn' has 0 modules of 128 bytes or more in this Python"),
        ({"train_size": 10**6}, "train_size is 1000000; allowed are at most the [0-9]+ that there are"),
        ({"label": "y"}, "label is 'y', which is for samples that are read"),
        ({"path": "x", "packages": ["json"]}, "packages is .*, which is for samples made here"),
    ],
)
def test_settings_without_passages(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text(**settings)


# Files of the Long Range Arena

LINES = ['1.0\tP1\tP2\tOn "trees\tÜber', '0.0\tP1\tP3\tOn "trees\tsomething else', "1\tP4\tP3\tx\tsomething else"]


def write_pairs(folder: Path, lines: list[str] = LINES) -> str:
    for split, some in {"train": lines, "test": LINES[:1], "eval": LINES[1:]}.items():
        (folder / f"new_aan_pairs.{split}.tsv").write_text("\n".join(some) + "\n", encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("lazy", [False, True])
def test_pairs_of_files(lazy: bool, tmp_path: Path) -> None:
    task = retrieval(path=write_pairs(tmp_path), length=16, lazy=lazy)
    assert isinstance(task.train, Items) == lazy and (task.vocabulary, task.padding) == (257, 0)
    task.check()
    inputs, targets = in_memory(task.train)
    wanted = [['On "trees', "Über"], ['On "trees', "something else"], ["x", "something else"]]
    assert [[bytes_of(tokens).decode() for tokens in pair] for pair in inputs] == wanted
    assert targets.tolist() == [1, 0, 1] and task.columns["paper"].tolist() == ["P1", "P1", "P4"]
    assert task.labels is not None and task.labels.tolist() == [1, 0, 1]
    few = retrieval(path=str(tmp_path), test_split="eval", test_size=2)
    assert few.input_shape == (2, 4000) and few.test is not None and few.test[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINES[0], "0\tP1\tP2\ta"], "line 2 has 4 values between tabs; allowed are 5"),
        ([LINES[0], "2\tP1\tP2\ta\tb"], "line 2 has the label '2'; allowed are 0 … 1"),
        (["nan\tP1\tP2\ta\tb"], "line 1 has the label 'nan'"),
        (["label\tid1\tid2\ttext1\ttext2", *LINES], "line 1 has the label 'label'"),
    ],
)
def test_pairs_of_files_that_are_wrong(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^retrieval: {re.escape(str(tmp_path))}/new_aan_pairs.train.tsv, {message}"):
        retrieval(path=write_pairs(tmp_path, lines))


def test_files_without_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "new_aan_pairs.test.tsv").write_text("")
    with pytest.raises(ValueError, match=r"new_aan_pairs.test.tsv holds no samples"):
        retrieval(path=str(tmp_path))


def write_reviews(folder: Path) -> str:
    for split in ("train", "test"):
        for label, words in {"neg": ["bad", "worse"], "pos": ["good", "fine", "héll" * 40]}.items():
            (folder / split / label).mkdir(parents=True)
            for row, word in enumerate(words):
                (folder / split / label / f"{row}_{row}.txt").write_text(f"{split} {word}", encoding="utf-8")
    (folder / "train" / "unsup").mkdir()
    (folder / "train" / "unsup" / "0_0.txt").write_text("unknown")
    return str(folder)


@pytest.mark.parametrize("lazy", [False, True])
def test_folders_of_texts(lazy: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        task = text(path=write_reviews(tmp_path), length=20, lazy=lazy)
    assert "the folder unsup is left out" in caplog.text
    inputs, targets = in_memory(task.train)
    found = [bytes_of(tokens).decode() for tokens in inputs]
    assert found == ["train bad", "train worse", "train good", "train fine", "train hélléll"[:6] + "héll" * 2 + "hél"]
    assert targets.tolist() == [0, 0, 1, 1, 1] and task.num_outputs == 2
    some = text(path=str(tmp_path), train_size=3, seed=1)
    assert some.input_shape == (4096,) and len(some.train[1]) == 3 and len(some.test[1]) == 5


def test_folders_that_are_wrong(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    with pytest.raises(ValueError, match=r"text: column is 'words', which is for columns; allowed with a folder"):
        text(path=str(tmp_path), column="words")
    shutil.rmtree(tmp_path / "test" / "neg")
    with pytest.raises(ValueError, match=r"have 1 folders of texts \(.txt\) in common; allowed are two or more"):
        text(path=str(tmp_path))


def test_columns_of_texts(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"review": ["good", "bad", "fine"], "mood": ["pos", "neg", "pos"]}
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    for file in files.values():
        datasets.Dataset.from_dict(rows).to_parquet(file)
    task = text(path="parquet", data_files=files, column="review", label="mood", length=16)
    assert [bytes_of(tokens).decode() for tokens in task.train[0]] == rows["review"]
    assert task.train[1].tolist() == [1, 0, 1] and task.num_outputs == 2
    with pytest.raises(
        ValueError, match="huggingface: split 'train' has no column 'text', its columns are review, mood"
    ):
        text(path="parquet", data_files=files, label="mood")
    datasets.Dataset.from_dict({**rows, "review": ["good", None, "fine"]}).to_parquet(files["test"])
    with pytest.raises(ValueError, match="column 'review' of split 'test' has None in row 1; allowed are texts"):
        text(path="parquet", data_files=files, column="review", label="mood")
