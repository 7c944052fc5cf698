"""Digests tell objects apart by content and code, alike in every process."""

import ast
import enum
import importlib
import io
import linecache
import os
import re
import subprocess
import sys
from collections import namedtuple
from contextlib import redirect_stdout
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from basinet.sim.experiment.changes import changes
from basinet.sim.experiment.config import KINDS
from basinet.sim.experiment.digest import digest, plain
from basinet.sim.experiment.source import spell


class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p -= self.param_groups[0]["lr"] * p.grad.sign()


Pair = namedtuple("Pair", "x y")
Side = enum.Enum("Side", "LEFT RIGHT")

SCRIPT = """
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, singledispatchmethod
import torch
from torch import nn
from basinet.algorithms.strategies import Strategy
from basinet.sim.experiment.digest import digest
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
    """This one, and one that orders sets in another way."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    there = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    with redirect_stdout(io.StringIO()) as here:
        exec(SCRIPT, {"__name__": "__main__"})
    assert here.getvalue() == there.stdout
    assert len(set(there.stdout.split())) == 12


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


MODULES = {
    "basinettest_models": """
'''Models.'''
from functools import cache
import basinettest_helpers
from basinettest_helpers import scale as rescale, LIMIT, decorate
from basinettest_base import *
import torch

HIDDEN = [4, 4]
WIDTH = int("3")
activation = torch.tanh


class Net(Base):
    '''A net.'''

    depth = 2

    def __init__(self, width=WIDTH):
        super().__init__()
        self.first = lambda x: x + 1; self.second = lambda x: x + 2

    @decorate
    def forward(self, x):
        # goes forward
        from basinettest_late import twist
        return rescale(basinettest_helpers.shift(x)) * HIDDEN[0] + twist(LIMIT) + cached(activation(x)) + Point(1)


@cache
def cached(x):
    return x + 5


def unused():
    return 1
""",
    "basinettest_helpers": """
from collections import namedtuple
from functools import wraps

LIMIT = 10

def scale(x):
    return deeper(x) * 2

def deeper(x):
    return x - 1

def shift(x):
    return x + 3

def decorate(function):
    @wraps(function)
    def wrapped(*args):
        return function(*args) + 7
    return wrapped
""",
    "basinettest_base": """
from collections import namedtuple
from torch import nn

Point = namedtuple("Point", "x")

class Base(nn.Module):
    bias = 0.5
""",
    "basinettest_late": "def twist(x):\n    return -x\n",
}
MODELS, HELPERS, BASE, LATE = MODULES


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Write modules beside the experiment, and digest an object in them as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def told(edits=(), path=f"{MODELS}:Net"):
        texts = dict(MODULES)
        for name, old, new in edits:
            assert old in texts[name]
            texts[name] = texts[name].replace(old, new)
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return KINDS["model"].parse(path).describe().get("code_digest")

    yield told
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "edit",
    [
        (MODELS, "# goes forward", "# goes on\n\n"),
        (MODELS, "'''A net.'''", "'''A better\n    net.'''"),
        (MODELS, "'''Models.'''", ""),
        (MODELS, "self, width=WIDTH", "self,\n        width = WIDTH,\n    "),
        (MODELS, "return 1", "return 2"),
        (MODELS, "import torch\n", "import torch, math\n"),
        (MODELS, "LIMIT, decorate", "LIMIT, deeper, decorate"),
        (HELPERS, "LIMIT = 10", "\n\nOTHER = 11\nLIMIT = (10)"),
    ],
)
def test_comments_layout_and_what_is_not_used_do_not_count(beside, edit):
    assert beside([edit]) == beside()


@pytest.mark.parametrize(
    "edit",
    [
        (MODELS, "* HIDDEN[0]", "+ HIDDEN[0]"),
        (MODELS, "HIDDEN = [4, 4]", "HIDDEN = [4, 5]"),
        (MODELS, 'int("3")', 'int("4")'),
        (MODELS, "activation = torch.tanh", "activation = torch.relu"),
        (MODELS, "depth = 2", "depth = 3"),
        (MODELS, "x + 1; self.second = lambda x: x + 2", "x + 2; self.second = lambda x: x + 1"),
        (MODELS, "x + 5", "x + 6"),
        (MODELS, "    @decorate\n", ""),
        (HELPERS, "deeper(x) * 2", "deeper(x) * 3"),
        (HELPERS, "x - 1", "x - 2"),
        (HELPERS, "x + 3", "x + 4"),
        (HELPERS, "LIMIT = 10", "LIMIT = 11"),
        (HELPERS, "+ 7", "+ 8"),
        (BASE, "bias = 0.5", "bias = 0.6"),
        (BASE, '"Point", "x"', '"Point", "y"'),
        (BASE, "(nn.Module)", "(nn.Sequential)"),
        (LATE, "-x", "+x"),
        (HELPERS, "LIMIT = 10", "LIMIT = 10\nglobals()['LIMIT'] = 11"),
        (BASE, "bias = 0.5", "bias = 0.5\n\nBase.bias = 0.6"),
    ],
)
def test_code_beside_the_experiment_counts_with_what_it_uses(beside, edit):
    assert beside([edit]) != beside()


def test_source_is_spelled_alike_by_every_python(beside):
    """A digest that is written down, since a run may be resumed under another version of Python."""
    told = beside()
    assert digest(sys.modules[HELPERS].scale) == "8f526279c5502d7a-source"
    assert told == "8aed4462338552f2-source"


def test_trees_of_other_pythons_are_spelled_alike():
    def written(text, change=lambda node: None):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            change(node)
        return spell(tree)

    def as_3_12_ends_formats(node):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            node.format_spec.values.append(ast.Constant(""))

    def with_what_3_12_added(node):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.type_params = []

    text = "class C:\n    def f(self, x): return f'{x:{self.width}}'"
    assert written(text, as_3_12_ends_formats) == written(text, with_what_3_12_added) == written(text)
    # Letters of Unicode 3.2 and 5.0, and one of 15.1, which Python 3.13 knows and 3.11 does not.
    assert written("'é\u1b05\u2ffc'").endswith("Constant(value='é\\u1b05\\u2ffc'))])")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Path("/data/a.csv"), "01e2e75846a63c19"),
        ("é\u2ffc", "af68b207cb12d4da"),
        (re.compile("a+", re.I), "54ee1a001ecb33b2"),
        (int | None, "95701e8f6606dcb2"),
        (Pair(1, 2), "e4356a2f8f10b698-source"),
        (Pair, "ea23187091e10da8-source"),
        (Side.LEFT, "9061b88d3e9b81e2-source"),
    ],
    ids=["path", "letters", "pattern", "union", "tuple", "tuple's class", "enumeration"],
)
def test_values_are_told_alike_by_every_python(value, told):
    """Digests that are written down: versions of Python pickle such values otherwise, or build their classes anew."""
    assert digest(value) == told


def test_a_module_that_is_built_in_is_not_the_users(monkeypatch):
    def late():
        import _sha1

        return _sha1

    told = digest(late)
    assert digest(late) == told  # it has been imported by now, or not
    monkeypatch.delitem(sys.modules, "_sha1", raising=False)
    assert digest(late) == told


def test_what_is_installed_counts_by_name(beside):
    assert beside(path="torch.nn:Identity") is None
    assert digest(nn.Linear) == digest(torch.nn.modules.linear.Linear) and "-" not in digest(nn.Linear)


def test_without_source_the_byte_code_counts(beside, tmp_path):
    told = beside()
    loaded = sys.modules[LATE]
    (tmp_path / f"{LATE}.py").write_text("def twist(x):\n    return 2 * x\n")  # edited, and not loaded again
    assert digest(loaded.twist).endswith(f"-{sys.implementation.cache_tag}")
    scope = {}
    exec("def f(x): return x", scope)
    assert digest(scope["f"]).endswith(f"-{sys.implementation.cache_tag}")
    assert told.endswith("-source")


def test_functions_of_one_line_and_their_surroundings_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "basinettest_lines.py").write_text(
        "def make(width, deep=[1]):\n"
        "    class Net:\n        size = width\n        def f(self): return width\n"
        "    return [lambda x: x, lambda y: y, lambda x: lambda x: x, lambda x, w=width: x, Net, lambda: later()]\n"
        "def later(): return count\n"
        "count = 0\n"
        "def bump():\n    global count\n    count += 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("basinettest_lines")
    one, same, two = ([digest(part) for part in module.make(width)] for width in (1, 1, 2))
    assert one == same and len(set(one)) == 6 and all(told.endswith("-source") for told in one)
    assert [a == b for a, b in zip(one, two, strict=True)] == [True, True, True, False, False, True]
    module.bump()  # as code may do while it runs
    assert [digest(part) for part in module.make(1)] == one


def test_changes_are_told_from_other_differences():
    def told(old, new):
        return [(bool(change.sentence), change.sure) for change in changes("model", old, new)]

    net, a, b = {"name": "mine:Net"}, "0123456789abcdef-source", "1123456789abcdef-source"
    assert told(net | {"code_digest": a}, net | {"code_digest": a}) == []
    assert told(net | {"code_digest": a}, net | {"code_digest": b}) == [(True, True)]
    assert told(net | {"digest": a[:16]}, net | {"digest": b[:16]}) == [(True, True)]
    assert told(net, net | {"code_digest": b}) == [(True, False)]
    assert told(net | {"code_digest": a}, net | {"code_digest": b[:16] + "-cpython-311"}) == [(True, False)]
    assert told(net | {"act": f"mine:Act {a}"}, net | {"act": f"mine:Act {b}"}) == [(True, True)]
    assert told(net | {"act": "mine:Act"}, net | {"act": f"mine:Act {b}"}) == [(True, False)]
    assert told(net | {"text": "see: one"}, net | {"text": "see: two"}) == [(False, True)]
    assert told(net | {"code_digest": a}, {"name": "mine:Other", "code_digest": b}) == [(False, True)] * 2
    assert told({"width": 1}, {"width": 2}) == told({}, {"width": 2}) == [(False, True)]


def test_cells_of_a_notebook_are_read_as_they_were_run():
    """As IPython runs them: the source is where tracebacks look for it, and the module has no file."""
    scope = {"__name__": "__main__"}

    def run(cell, text):
        linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
        exec(compile(text, cell, "exec"), scope)

    cells = [f"<basinettest-{number}>" for number in range(5)]
    run(cells[0], "SIZES = [1, 2]\ndef helper(x):\n    return x + 1\n")
    run(cells[1], "class Net:\n    def f(self, x):\n        return helper(x) + SIZES[0]\n")
    first = digest(scope["Net"])
    run(cells[2], "# again\nclass Net:\n    def f(self, x):\n        return helper(x)  +  SIZES[0]\n")
    again = digest(scope["Net"])
    run(cells[3], "def helper(x):\n    return x + 2\n")
    other = digest(scope["Net"])
    scope["SIZES"].append(3)
    longer = digest(scope["Net"])
    for cell in cells:
        linecache.cache.pop(cell, None)
    assert first == again and len({first, other, longer}) == 3 and other.endswith("-source")


def test_an_optimizer_that_has_been_instantiated_is_the_same():
    before, step = digest(SignSGD), SignSGD.step
    SignSGD([nn.Parameter(torch.zeros(2))])
    assert SignSGD.step is not step  # torch wraps it
    assert digest(SignSGD) == before


def test_a_data_set_may_vouch_for_its_content():
    class Vouching:
        def __init__(self, content, fingerprint):
            self.content, self.fingerprint = content, fingerprint

    assert digest(Vouching(1, "a")) == digest(Vouching(2, "a")) != digest(Vouching(1, "b"))


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1)])
def test_a_repeated_element_is_its_values(shape: tuple[int, ...]) -> None:
    repeated = torch.ones(1).expand(shape)
    assert digest(repeated) == digest(torch.ones(shape)) != digest(torch.zeros(1).expand(shape))
