"""Shared by the tests of studies."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_long_spectra(short_spectra, untried):
    """Measure with little effort and without trials: values are the matter of the tests of measures."""
