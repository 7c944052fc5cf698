"""Digests tell objects apart by content and code, alike in every process."""

import os
import subprocess
import sys

import networkx as nx
import numpy as np
import torch
from torch import nn

from basinet.sim.digest import digest, plain

SCRIPT = """
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, singledispatchmethod
import torch
from torch import nn
from basinet.algorithms.strategies import Strategy
from basinet.sim.digest import digest
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.names = nn.Linear(2, 1), {"a", "b", "c"}
        nn.init.ones_(self.layer.weight), nn.init.zeros_(self.layer.bias)
        self.act = lambda x: x in {"a", "b"}
    def forward(self, x):
        return self.layer(x)

@dataclass(frozen=True)
class Settings:
    times: int = 2
    names: tuple = ("a", "b")

class Base(ABC):
    @abstractmethod
    def run(self): ...

class Own(Base):
    __slots__ = ("x",)
    def run(self): return 1

class Lazy:
    @cached_property
    def value(self): return 3
    @singledispatchmethod
    def other(self, x): return x

class Wide(Strategy):
    def step(self, block): pass

for value in (Net, Net(), Net().forward, Settings, Settings(), Settings(3), Own, Own(), Lazy, Lazy(), Wide, Wide()):
    print(digest(value))
"""


def test_two_processes_agree():
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    (lines,) = found
    assert len(set(lines.split())) == 12


def maker(value):
    return lambda: value


def test_other_content_has_another_digest():
    def layer(scale):
        made = nn.Linear(2, 1, bias=False).requires_grad_(False)
        made.weight.fill_(scale)
        return made

    groups = [
        [1, 1.0, True, "1", b"1", None],
        [torch.zeros(2), torch.zeros(1, 2), torch.zeros(2, dtype=torch.float64), torch.ones(2), np.zeros(2)],
        [maker(1), maker(2), lambda x: x + 1, lambda x: x + 2, sorted, min],
        [nx.path_graph(3), nx.path_graph(4), nx.DiGraph(nx.path_graph(3))],
        [layer(1.0), layer(2.0), layer(1.0).requires_grad_()],
        [[1, 2], [2, 1], (1, 2), {1: 2}, {1, 2}],
    ]
    for group in groups:
        assert len({digest(value) for value in group}) == len(group)
    assert digest(maker([1, {"a": torch.ones(3)}])) == digest(maker([1, {"a": torch.ones(3)}]))
    assert digest(layer(1.0)) == digest(layer(1.0))


def test_what_holds_itself_has_a_digest():
    loop = []
    loop.append(loop)
    assert digest(loop) == digest(loop)


def test_plain_values():
    assert plain({"a": (1, np.int64(2)), 3: np.float32(0.5), "f": sorted}) == {
        "a": [1, 2],
        "3": 0.5,
        "f": "builtins:sorted",
    }
    assert plain(torch.zeros(2)).startswith("torch:Tensor ")


def test_what_cannot_be_read_is_never_the_same():
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(2, 2))
    with open(__file__) as file:
        assert digest(file) != digest(file)
    for value in (layer, torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")):
        assert len(digest(value)) == 16
