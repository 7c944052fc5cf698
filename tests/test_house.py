"""The house: imports go downward only, and nothing imports the bare folder names."""

import ast
from functools import cache
from pathlib import Path

import pytest

from basinet.analysis.measures import MEASURES
from basinet.analysis.metrics import METRICS

ROOT = Path(__file__).parents[1]
FLOORS = ("topologies", "algorithms", "sim", "analysis", "launch")
MOST = 16
"""About a dozen."""

KINDS = (ast.Import, ast.ImportFrom, ast.Constant)


@cache
def nodes_of(file: Path) -> list[ast.AST]:
    """The imports and constants of a file, all that the rules look at."""
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, KINDS)]


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", FLOORS)
def test_imports_go_downward_only(room):
    above = FLOORS[FLOORS.index(room) + 1 :]
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            first, *rest = name.split(".")
            assert first not in FLOORS, f"{file} imports the bare name {name}"
            assert not (first == "basinet" and rest and rest[0] in above), f"{file} imports upward: {name}"


def test_every_file_name_stands_once():
    files = [file.name for room in FLOORS for file in (ROOT / room).rglob("*.py") if file.name != "__init__.py"]
    assert sorted(files) == sorted(set(files))


def test_folders_hold_about_a_dozen_entries():
    for room in FLOORS:
        for folder in (path for path in (ROOT / room).rglob("*") if path.is_dir() and path.name != "__pycache__"):
            entries = [path.name for path in folder.iterdir() if not path.name.startswith("__")]
            assert len(entries) <= MOST, f"{folder} holds {len(entries)} entries"


@pytest.mark.parametrize("room", FLOORS)
def test_no_text_names_a_room_above(room):
    """What rooms above plug in, the package names."""
    above = tuple(f"basinet.{name}" for name in FLOORS[FLOORS.index(room) + 1 :])
    for file in (ROOT / room).rglob("*.py"):
        for node in nodes_of(file):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not any(name in node.value for name in above), f"{file}, line {node.lineno}"


@pytest.mark.parametrize("room", ["topologies", "algorithms", "analysis"])
def test_ray_is_known_to_the_runtime_alone(room):
    for file in (ROOT / room).rglob("*.py"):
        assert not any(name.split(".")[0] == "ray" for name in imports_of(file)), file


def test_the_simulator_names_no_measure_or_metric_and_not_the_room_above():
    for file in (ROOT / "sim").rglob("*.py"):
        texts = {node.value for node in nodes_of(file) if isinstance(node, ast.Constant)}
        assert not texts & ({*MEASURES, *METRICS} - {"plcc"}), file  # which is the name of a loss, too
        assert not any(isinstance(text, str) and "basinet.analysis" in text for text in texts), file


def test_the_package_holds_links_to_the_rooms():
    for room in FLOORS:
        link = ROOT / ".pkg" / "basinet" / room
        assert link.is_symlink() and link.resolve() == ROOT / room
