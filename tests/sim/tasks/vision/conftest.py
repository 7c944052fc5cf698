"""Folders of images for tests of super-resolution."""

import pytest

from basinet.sim.tasks import super_resolution
from tests.sim.tasks.vision.made_pictures import SHAPES, SIDE, save, smooth


@pytest.fixture(scope="module")
def images():
    return {name: smooth(*shape, seed) for seed, (name, shape) in enumerate(SHAPES.items())}


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Images in two folders, one for each scene."""
    path = tmp_path_factory.mktemp("images")
    for name, pixels in images.items():
        save(path / ("land" if name in "ab" else "sea") / f"{name}.png", pixels)
    return path


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    path = tmp_path_factory.mktemp("tests")
    for number, shape in enumerate([(64, 75), (80, 66)]):
        save(path / f"t{number}.png", smooth(*shape, 10 + number))
    return path


@pytest.fixture(scope="module")
def loaded(folder, tests):
    return super_resolution(path=str(folder), test_path=str(tests), patch=SIDE, stride=3)
