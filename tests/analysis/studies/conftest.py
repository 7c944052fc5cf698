"""Shared by the tests of studies."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_long_spectra(short_spectra):
    """Measure with little effort in all of them: values are the matter of the tests of measures."""
