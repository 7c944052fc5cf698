"""Shared by all rooms' tests."""

import gc
import os
import sys
from importlib import import_module

gc.disable()  # a third of the time of the collection of tests, which leaves no garbage
# Tests start many processes, which would all compile the package: a third of the time that each takes to import it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config):
    """Load the fixtures, with all libraries, except where tests are only handed out to other processes."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.register(import_module("tests.fixtures"))


def pytest_collection_finish():
    """Keep what all tests share, nearly a million objects, out of each garbage collection: 5 % of the time."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()
