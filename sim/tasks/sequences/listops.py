"""Nested lists of digits with operators, whose value is a digit: ListOps at the lengths of the Long Range Arena."""

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from basinet.algorithms.draws import key
from basinet.sim.data.nests import Nest
from basinet.sim.evaluation.measuring import measure
from basinet.sim.experiment.mistakes import shown
from basinet.sim.setup.memory import require_memory
from basinet.sim.tasks.left_out import GENERATED, READ, check_left_out
from basinet.sim.tasks.sequences.arena_files import label_of, read_tsv
from basinet.sim.tasks.task import TASKS, Task

__all__ = ["WORDS", "ListOps", "listops"]

_log = logging.getLogger(__name__)

OPERATORS = ("MIN", "MAX", "MED", "SM")

WORDS = ("", *map(str, range(10)), *(f"[{name}" for name in OPERATORS), "]")
"""The word of each token; token 0 fills up short sequences."""

_TOKENS = {word: token for token, word in enumerate(WORDS)}
_OPEN, _CLOSE = _TOKENS["[MIN"], _TOKENS["]"]
_SHORTEST = 4
_TRIES = 10_000
"""How many expressions in a row may have been drawn before, or be too short or too long."""


@dataclass(frozen=True, kw_only=True)
class ListOps(Task):
    """Expressions and their values."""

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what `evaluate` returns for the class frequencies, over all samples and for each root operator.

        Returns:
            Values by name, under "majority class" and "root operator"; the latter's frequencies are by Laplace's rule,
            (count + 1) / (total + 10).
        """
        inputs, targets = self.train
        counts = torch.ones(len(WORDS), self.num_outputs, dtype=torch.float64, device=targets.device)
        one = torch.ones(1, dtype=counts.dtype, device=counts.device)
        counts.index_put_((inputs[:, 0], targets), one, accumulate=True)
        scores = (counts / counts.sum(1, keepdim=True)).log()

        def outputs(batch: Nest) -> Tensor:
            return scores[batch[0][:, 0]]

        found = measure(self, "train", outputs)
        return super().baselines() | {"root operator": found | measure(self, "test", outputs)}


@TASKS.register()
def listops(
    *,
    path: str | None = None,
    test_split: Literal["test", "val"] = "test",
    min_length: Annotated[int, Field(ge=1)] = 8,
    max_length: Annotated[int, Field(ge=_SHORTEST)] = 64,
    depth: Annotated[int, Field(ge=1, le=100)] = 3,
    arguments: Annotated[int, Field(ge=2)] = 4,
    nested: Annotated[float, Field(ge=0, le=1)] = 0.25,
    train_size: Annotated[int, Field(ge=1)] | None = None,
    test_size: Annotated[int, Field(ge=1)] | None = None,
    seed: int = 0,
) -> ListOps:
    """Generate expressions such as [MAX 2 [SM 4 9] 1], whose values are the classes, or read the Long Range Arena's.

    The operators are minimum, maximum, median (rounded down) and sum modulo 10. Inputs are tokens, int64
    [n, max_length]: 1 … 10 for the digits, 11 … 14 for the operators with their opening brackets, 15 for closing ones,
    then 0s. Samples may be partitioned by the columns `operator`, that of the root, and `depth`.

    An argument is an expression with the probability `nested`, and else a digit; expressions of other lengths than
    asked for are drawn again, and so are those that have occurred. The files of the Long Range Arena were made with
    min_length 500, max_length 2000, depth 9, arguments 10, nested 0.25, train_size 96000 and test_size 2000.

    Args:
        path: Folder of the Long Range Arena's basic_train.tsv and basic_test.tsv, which are read instead.
        test_split: Which of its files are the test data, basic_test.tsv or basic_val.tsv.
        min_length: Tokens of the shortest expressions.
        max_length: Tokens of the longest expressions, and of the inputs; for the files, 2000 is enough.
        depth: Most operators on a way from the root to a digit.
        arguments: Most arguments of an operator; it has at least two.
        nested: Probability that an argument is an expression.
        train_size: Training samples: by default 10,000, or all of a file.
        test_size: Test samples: by default 1,500, or all of a file. They do not depend on `train_size`.
        seed: Seed of the expressions; the simulator supplies it.

    Returns:
        A task of ten classes.

    Raises:
        ValueError: If there are not as many such expressions, or a file cannot be read, lacks a column or samples, or
            holds an unknown token, a label that is no digit, or an expression that is none or too long.

    References:
        N. Nangia, S. Bowman: ListOps, a diagnostic dataset for latent tree learning, NAACL 2018, arXiv:1804.06028.
        Y. Tay et al.: Long range arena, ICLR 2021, arXiv:2011.04006.

    Example:
        >>> task = listops(train_size=3, test_size=1)
        >>> " ".join(WORDS[token] for token in task.train[0][0] if token), int(task.train[1][0])
        ('[MAX [MED 5 2 4 5 ] [MAX 8 1 1 0 ] ]', 8)
    """
    if path is None:
        check_left_out(listops, READ, test_split=test_split)
        if min_length > max_length:
            raise ValueError(f"listops: min_length is {min_length}; allowed is at most the max_length, {max_length}")
        sizes = 10_000 if train_size is None else train_size, 1_500 if test_size is None else test_size
        require_memory(8 * max_length * sum(sizes), f"{sum(sizes):,} sequences of {max_length} tokens")
        uniform = random.Random(key(seed, "listops")).random
        expression = _Expression(uniform, depth, arguments, nested)
        found = list(_different(expression, min_length, max_length, sum(sizes)))
        train, test = found[sizes[1] :], found[: sizes[1]]
    else:
        check_left_out(listops, GENERATED, min_length=min_length, depth=depth, arguments=arguments, nested=nested)
        folder = Path(path)
        train = list(islice(_read(folder / "basic_train.tsv", max_length), train_size))
        test = list(islice(_read(folder / f"basic_{test_split}.tsv", max_length), test_size))
        if known := {tokens for tokens, _ in train} & {tokens for tokens, _ in test}:
            _log.warning("listops: %d of %d test expressions are training data, too", len(known), len(test))
    inputs, targets = _tensors(train, max_length)
    opened = ((inputs >= _OPEN) & (inputs < _CLOSE)).int() - (inputs == _CLOSE).int()
    return ListOps(
        train=(inputs, targets),
        test=_tensors(test, max_length),
        num_outputs=10,
        vocabulary=len(WORDS),
        padding=0,
        model="transformer",
        columns={
            "operator": np.array(OPERATORS)[inputs[:, 0].numpy() - _OPEN],
            "depth": opened.cumsum(1).amax(1).numpy(),
        },
    )


class _TooLong(Exception):
    pass


@dataclass(frozen=True)
class _Expression:
    """Draws expressions."""

    uniform: Callable[[], float]
    depth: int
    arguments: int
    nested: float

    def __call__(self, most: int) -> tuple[tuple[int, ...], int]:
        """Return the tokens and the value of one; raise _TooLong if it has more tokens."""
        tokens: list[int] = []
        value = self._draw(self.depth, most, tokens)
        return tuple(tokens), value

    def _draw(self, depth: int, most: int, tokens: list[int]) -> int:
        """Append an expression to the tokens; return its value."""
        operator = int(self.uniform() * len(OPERATORS))
        tokens.append(_OPEN + operator)
        values = []
        for _ in range(2 + int(self.uniform() * (self.arguments - 1))):
            if depth > 1 and self.uniform() < self.nested:
                values.append(self._draw(depth - 1, most, tokens))
            else:
                values.append(int(self.uniform() * 10))
                tokens.append(1 + values[-1])
            if len(tokens) >= most:
                raise _TooLong
        tokens.append(_CLOSE)
        return _value(operator, sorted(values))


def _value(operator: int, values: list[int]) -> int:
    """Apply an operator to values in ascending order."""
    match OPERATORS[operator]:
        case "MIN":
            return values[0]
        case "MAX":
            return values[-1]
        case "MED":
            return (values[(len(values) - 1) // 2] + values[len(values) // 2]) // 2
        case _:
            return sum(values) % 10


def _different(
    expression: _Expression, shortest: int, longest: int, count: int
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Draw expressions until there are as many different ones."""
    known: set[tuple[int, ...]] = set()
    tries = 0
    while len(known) < count:
        tries += 1
        if tries > _TRIES:
            raise ValueError(
                f"listops: after {len(known)} of {count} expressions, {_TRIES:,} in a row were no new ones of"
                f" {shortest} … {longest} tokens; allowed are fewer samples, or other lengths, depth, arguments and"
                " nested"
            )
        try:
            tokens, value = expression(longest)
        except _TooLong:
            continue
        if len(tokens) >= shortest and tokens not in known:
            known.add(tokens)
            tries = 0
            yield tokens, value


def _read(file: Path, longest: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Read expressions and their values; round brackets, which the files have around pairs, are left out."""
    for place, (source, target) in read_tsv(file, "listops", ("Source", "Target"), header=True):
        words = source.replace("(", " ").replace(")", " ").split()
        if unknown := [word for word in words if word not in _TOKENS]:
            raise ValueError(f"{place} has the token {shown(unknown[0])}; allowed are {' '.join(WORDS[1:])}")
        if len(words) > longest:
            raise ValueError(f"{place} has {len(words)} tokens; allowed are at most {longest}, the max_length")
        tokens = tuple(_TOKENS[word] for word in words)
        if not _is_expression(tokens):
            raise ValueError(
                f"{place} is no expression; allowed is an operator with one argument or more, each a digit or an"
                " expression, and a closing bracket"
            )
        yield tokens, label_of(target, place, 10)


def _is_expression(tokens: tuple[int, ...]) -> bool:
    """Return whether the first bracket is the first token and closed by the last, and none is closed at once."""
    opened = np.cumsum([(token >= _OPEN) - 2 * (token == _CLOSE) for token in tokens])
    empty = any(_OPEN <= first < _CLOSE == second for first, second in pairwise(tokens))
    return len(tokens) > 1 and not empty and bool(opened[-1] == 0 and (opened[:-1] > 0).all())


def _tensors(samples: list[tuple[tuple[int, ...], int]], length: int) -> tuple[Tensor, Tensor]:
    inputs = torch.zeros(len(samples), length, dtype=torch.int64)
    for row, (tokens, _) in enumerate(samples):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
    return inputs, torch.tensor([value for _, value in samples])
