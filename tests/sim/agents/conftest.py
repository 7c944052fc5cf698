"""Shared by the tests of agents."""

from functools import partial

import pytest


@pytest.fixture
def make_setup(make_setup, shared):
    """Build runs of the parts that others of the module have built, too."""
    return partial(make_setup, shared=shared)
