"""Registries: a module that is put into a folder is all that a component needs."""

import sys
import zipfile

import pytest

from basinet.topologies.registry import Registry

FILES = {
    "__init__.py": "from basinet.topologies.registry import Registry\nSHAPES = Registry()\nSHAPES.fill(__name__)\n",
    "square.py": "from {0} import SHAPES\n\n\n@SHAPES.register()\ndef square():\n    return 4\n",
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
    assert list(package.SHAPES) == ["hexagon", "square"]
    assert package.SHAPES["square"]() == 4
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_name_stands_for_one_component():
    registry = Registry({"square": lambda: 4})
    with pytest.raises(ValueError, match="square is registered twice"):
        registry.register("square")(lambda: 5)
