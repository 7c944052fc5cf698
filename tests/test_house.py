"""The house: imports go downward only, and nothing imports the bare folder names."""

import ast
from pathlib import Path

import pytest

from basinet.analysis.measures import MEASURES

ROOT = Path(__file__).parents[1]
FLOORS = ("topologies", "algorithms", "sim", "analysis", "launch")


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
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


@pytest.mark.parametrize("room", ["topologies", "algorithms", "analysis"])
def test_ray_is_known_to_the_runtime_alone(room):
    for file in (ROOT / room).rglob("*.py"):
        assert not any(name.split(".")[0] == "ray" for name in imports_of(file)), file


def test_the_simulator_names_no_measure_and_not_the_room_above():
    for file in (ROOT / "sim").rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        assert not texts & set(MEASURES), file
        assert not any(isinstance(text, str) and "basinet.analysis" in text for text in texts), file


def test_the_package_holds_links_to_the_rooms():
    for room in FLOORS:
        link = ROOT / ".pkg" / "basinet" / room
        assert link.is_symlink() and link.resolve() == ROOT / room
