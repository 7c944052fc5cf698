import ast
import builtins
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from basinet.sim.tasks.language.texts import manuals, standard_library


@pytest.fixture
def unread() -> Iterator[None]:
    for read in (standard_library, manuals):
        read.cache_clear()
    yield
    for read in (standard_library, manuals):
        read.cache_clear()


def test_sources_are_those_of_the_modules() -> None:
    texts = standard_library()
    assert list(texts) == sorted(texts) and len(texts) > 300
    assert texts["argparse.py"] == Path(sys.modules["argparse"].__file__ or "").read_text(encoding="utf-8")
    assert {"json/decoder.py", "abc.py"} < set(texts)
    assert not any("test" in name.split("/")[:-1] or "site-packages" in name for name in texts)
    assert not any(name.startswith("_sysconfigdata") for name in texts)
    ast.parse(texts["textwrap.py"])


def test_manuals_are_sorted_texts() -> None:
    texts = manuals()
    assert list(texts) == sorted(texts) and len(texts) > 50 and all(texts.values())


def test_python_without_sources(unread: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(ValueError, match=f"no sources of the standard library in {tmp_path}"):
        standard_library()
    (tmp_path / "a.py").write_bytes(b"# coding: nonsense\n")
    with pytest.raises(ValueError, match="cannot be read: unknown encoding"):
        standard_library()
    (tmp_path / "a.py").write_bytes(b"# coding: latin-1\r\nx = '\xe9'\r\n")
    (tmp_path / "sitecustomize.py").write_text("")
    assert standard_library() == {"a.py": "# coding: latin-1\nx = 'é'\n"}


def test_python_without_manuals(unread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("pydoc_data"):
            raise ModuleNotFoundError(name)
        return usual(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="no module pydoc_data"):
        manuals()
