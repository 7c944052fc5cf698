"""Registries: a module that is put into a folder is all that a component needs."""

import pkgutil
import sys
import zipfile
from importlib import import_module

import pytest

from basinet.topologies.registry import Registry

FILES = {
    "__init__.py": (
        "from basinet.topologies.registry import Registry\n\nSHAPES = Registry('SHAPES')\nSHAPES.fill(__name__)\n"
    ),
    "square.py": "from {0} import SHAPES\n\n\n@SHAPES.register()\ndef square():\n    return 4\n",
    "colours.py": "from {0} import registry\n\n\n@OTHERS.register()\ndef red():\n    return 1\n",
    "many/__init__.py": "",
    "many/corners.py": "from {0} import SHAPES\n\n\n@SHAPES.register('hexagon')\nclass Six:\n    pass\n",
}


@pytest.mark.parametrize("zipped", [False, True])
def test_modules_of_a_folder_register_what_they_hold(tmp_path, monkeypatch, zipped):
    name = f"shapes_{'in_a_zip' if zipped else 'in_a_folder'}"
    files = {f"{name}/{file}": text.format(name) for file, text in FILES.items()}
    if zipped:
        with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
            for file, text in files.items():
                archive.writestr(file, text)
    else:
        for file, text in files.items():
            (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "shapes.zip" if zipped else tmp_path)
    package = __import__(name)
    assert list(package.SHAPES) == ["hexagon", "square"] and len(package.SHAPES) == 2
    assert f"{name}.square" not in sys.modules  # until it is looked up
    assert package.SHAPES["square"]() == 4 and "circle" not in package.SHAPES
    assert f"{name}.many.corners" not in sys.modules
    assert [maker.__name__ for maker in package.SHAPES.values()] == ["Six", "square"]
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_name_stands_for_one_component():
    registry = Registry("SHAPES", {"square": lambda: 4})
    with pytest.raises(ValueError, match="square is registered twice"):
        registry.register("square")(lambda: 5)


def test_two_modules_do_not_share_a_name(tmp_path, monkeypatch):
    (tmp_path / "twins").mkdir()
    (tmp_path / "twins" / "__init__.py").write_text("")
    for file in ("one.py", "two.py"):
        (tmp_path / "twins" / file).write_text("@SHAPES.register()\ndef square(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"square is registered twice: in twins\.one and twins\.two"):
        Registry("SHAPES").fill("twins")
    del sys.modules["twins"]


REGISTRIES = {
    "basinet.algorithms.attacks": "ATTACKS",
    "basinet.algorithms.averaging": "AVERAGINGS",
    "basinet.algorithms.compressors": "COMPRESSORS",
    "basinet.algorithms.optimizers": "OPTIMIZERS",
    "basinet.algorithms.schedules": "SCHEDULES",
    "basinet.algorithms.strategies": "STRATEGIES",
    "basinet.sim.loggers": "LOGGERS",
    "basinet.sim.models": "MODELS",
    "basinet.sim.models.adapters": "ADAPTERS",
    "basinet.sim.tasks": "TASKS",
    "basinet.topologies": "TOPOLOGIES",
    "basinet.topologies.sequences.graph_sequence": "SEQUENCES",
    "basinet.topologies.mixing_matrix": "POLICIES",
}


@pytest.mark.parametrize("home", REGISTRIES)
def test_the_text_of_modules_names_what_they_register(home):
    """A component that a module registers in another way than by a decorator at its top level would not be found."""
    registry = getattr(import_module(home), REGISTRIES[home])
    package = home if hasattr(import_module(home), "__path__") else home.rpartition(".")[0]
    for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        import_module(module.name)
    assert registry._homes and set(registry) == set(registry._makers)
    assert all(registry._homes[name] == maker.__module__ for name, maker in registry.items() if name in registry._homes)
