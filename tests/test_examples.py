"""The examples of the documentation print what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / ".pkg"
ROOMS = sorted((PACKAGE / "basinet").iterdir())
FILES = [file for room in ROOMS for file in sorted(room.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
MODULES = [".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for file in FILES]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
    assert found == len(re.findall(r"^ *>>> ", Path(module.__file__).read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
