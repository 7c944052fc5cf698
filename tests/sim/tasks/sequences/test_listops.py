"""ListOps against a stack machine, and the Long Range Arena's files as the test writes them."""

import logging
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import basinet.analysis  # noqa: F401  # the accuracy
from basinet.sim.tasks import ListOps, listops
from basinet.sim.tasks.sequences.listops import WORDS

SMALL: dict[str, Any] = {"train_size": 400, "test_size": 100}
OPERATIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}


def words_of(tokens: Tensor) -> list[str]:
    return [WORDS[token] for token in tokens.tolist() if token]


def evaluate(words: list[str]) -> tuple[int, int]:
    """Return the value and the depth of an expression, by a stack."""
    stack: list[Any] = []
    depth = 0
    for word in words:
        if word == "]":
            last = max(place for place, entry in enumerate(stack) if entry in OPERATIONS)
            operation, *values = stack[last:]
            assert len(values) >= 2
            stack[last:] = [OPERATIONS[operation](values)]
        else:
            stack.append(word if word in OPERATIONS else int(word))
            depth = max(depth, sum(entry in OPERATIONS for entry in stack))
    (value,) = stack
    return value, depth


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        {**SMALL, "arguments": 7, "depth": 6, "max_length": 200, "nested": 0.4},
        {"train_size": 30, "test_size": 10, "min_length": 500, "max_length": 2048, "depth": 9, "arguments": 10},
    ],
)
def test_values_are_those_of_a_stack_machine(settings: dict[str, Any]) -> None:
    task = listops(**settings)
    task.check()
    assert task.test is not None
    shape = settings["train_size"], settings.get("max_length", 64)
    assert task.train[0].shape == shape and (task.vocabulary, task.padding, task.num_outputs) == (16, 0, 10)
    depths, operators = [], []
    for inputs, targets in (task.train, task.test):
        lengths = (inputs != 0).sum(1)
        assert torch.equal(inputs != 0, torch.arange(shape[1]) < lengths[:, None])  # 0s at the right alone
        assert lengths.min() >= settings.get("min_length", 8)
        for tokens, target in zip(inputs, targets.tolist(), strict=True):
            words = words_of(tokens)
            value, depth = evaluate(words)
            assert value == target and depth <= settings.get("depth", 3)
            depths.append(depth)
            operators.append(words[0][1:])
    assert task.columns["depth"].tolist() == depths[: shape[0]]
    assert task.columns["operator"].tolist() == operators[: shape[0]]
    assert set(operators) == {"MIN", "MAX", "MED", "SM"}
    assert task.train[1].unique().tolist() == list(range(10)) or shape[0] < 100


def test_no_expression_occurs_twice() -> None:
    task = listops(train_size=250, test_size=50, min_length=4, max_length=4, depth=1, arguments=2)  # of 400
    rows = torch.cat([task.train[0], task.test[0]])
    assert len(rows.unique(dim=0)) == 300


def test_expressions_depend_on_the_seed_alone() -> None:
    task = listops(**SMALL, seed=3)
    assert torch.equal(task.train[0], listops(**SMALL, seed=3).train[0])
    assert not torch.equal(task.train[0], listops(**SMALL, seed=4).train[0])
    more = listops(train_size=500, test_size=100, seed=3)
    assert torch.equal(task.test[0], more.test[0]) and torch.equal(task.train[0], more.train[0][:400])


def test_baselines_are_those_of_frequencies() -> None:
    task = listops(train_size=2000, test_size=500)
    found = task.baselines()
    assert list(found) == ["majority class", "root operator"]
    table = np.ones((16, 10))
    for tokens, target in zip(task.train[0], task.train[1], strict=True):
        table[tokens[0], target] += 1
    table /= table.sum(1, keepdims=True)
    for where, (inputs, targets) in {"train": task.train, "test": task.test}.items():
        shares = table[inputs[:, 0], targets]
        assert found["root operator"][f"{where}_loss"] == pytest.approx(-np.log(shares).mean())
    right = table[task.test[0][:, 0]].argmax(1) == task.test[1].numpy()
    assert found["root operator"]["test_accuracy"] == pytest.approx(right.mean())
    assert found["root operator"]["test_accuracy"] > found["majority class"]["test_accuracy"] + 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_length": 9, "max_length": 8}, "min_length is 9; allowed is at most the max_length, 8"),
        ({"min_length": 5, "max_length": 6, "arguments": 2}, "after 0 of 500 expressions, .* of 5 … 6 tokens"),
        ({"min_length": 4, "max_length": 4}, "after 400 of 500 expressions"),
        ({"max_length": 2**50}, "500 sequences of .* would take .* of memory"),
        ({"path": "x", "depth": 4}, "listops: depth is 4, which is for samples made here"),
        ({"test_split": "val"}, "listops: test_split is 'val', which is for samples that are read"),
        ({"path": "nowhere"}, "nowhere/basic_train.tsv cannot be read: .*No such file"),
    ],
)
def test_settings_without_expressions(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listops(**SMALL, **settings)


def test_files_are_utf_8(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "basic_train.tsv").write_bytes(f"{HEADER}\n{ROWS[0]}\n[MAX 2 ö ]\t2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^listops: line 3 of '.*basic_train.tsv' is not text in UTF-8 \("):
        listops(path=str(tmp_path))


HEADER = "Source\tTarget"
ROWS = ["( ( ( ( [MAX 2 ) 9 ) [SM 4 9 ] ) ] )\t9", "[MED 1 2 4 5 ]\t3", "[MIN 7 7 ]\t7"]


def write(folder: Path, train: list[str], **others: list[str]) -> Path:
    for split, rows in {"train": train, "test": ROWS[:1], **others}.items():
        (folder / f"basic_{split}.tsv").write_text("\n".join(rows if split == "raw" else [HEADER, *rows]) + "\n")
    return folder


def test_files_of_the_arena(tmp_path: Path) -> None:
    folder = write(tmp_path, ROWS[1:], val=ROWS[:1] + ROWS[2:])
    task = listops(path=str(folder), max_length=10)
    assert isinstance(task, ListOps) and task.train[0].shape == (2, 10) and task.test is not None
    assert [words_of(tokens) for tokens in task.train[0]] == [["[MED", *"1245", "]"], ["[MIN", "7", "7", "]"]]
    assert words_of(task.test[0][0]) == ["[MAX", "2", "9", "[SM", "4", "9", "]", "]"]
    assert (task.train[1].tolist(), task.test[1].tolist()) == ([3, 7], [9])
    assert task.columns["operator"].tolist() == ["MED", "MIN"] and task.columns["depth"].tolist() == [1, 1]
    assert set(task.baselines()) == {"majority class", "root operator"}
    few = listops(path=str(folder), max_length=10, train_size=1, test_split="val", test_size=2)
    assert (few.train[1].tolist(), few.test[1].tolist()) == ([3], [9, 7])


def test_expressions_in_both_files_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        listops(path=str(write(tmp_path, ROWS)))
    assert "1 of 1 test expressions are training data" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER, "[MIN 7 x ]\t7"], "basic_train.tsv, line 2 has the token 'x'; allowed are 0 1"),
        ([HEADER, ROWS[1], "[MIN 7 1 ]\t10"], "line 3 has the label '10'; allowed are 0 … 9"),
        ([HEADER, "[MIN 7 1 ]\t-1"], "line 2 has the label '-1'"),
        ([HEADER, "[MIN 7 1 ]\tone"], "line 2 has the label 'one'"),
        ([HEADER, "[MIN 7 1 ]"], "line 2 has 1 values between tabs; allowed are 2"),
        ([HEADER, "[MIN 7 1 ] 2\t1"], "line 2 is no expression"),
        *(
            ([HEADER, ROWS[1], f"{source}\t1"], "line 3 is no expression; allowed is an operator with one argument")
            for source in (
                "",
                "5",
                "9",
                "]",
                "[MAX",
                "[MAX ]",
                "( [MAX 3 ) [MIN ] ]",
                "[MAX 3",
                "[MAX 3 ] ]",
                "3 [MAX 3 ]",
            )
        ),
        ([HEADER, f"[MIN {'7 ' * 63}]\t1"], "line 2 has 65 tokens; allowed are at most 64, the max_length"),
        (["Source\tLabel", "[MIN 7 1 ]\t1"], "has no column 'Target'; its columns are Source, Label"),
        ([HEADER], "basic_train.tsv holds no samples"),
        ([], "has no column 'Source'"),
    ],
)
def test_files_that_are_wrong(rows: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "basic_train.tsv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=f"^listops: {re.escape(str(tmp_path))}/.*{message}"):
        listops(path=str(tmp_path))
