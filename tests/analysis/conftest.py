"""Shared by the tests of the analysis."""

from functools import partial

import pytest

from basinet.analysis.measures.measured import Effort
from basinet.analysis.runs.measure_replica import measure_replica


@pytest.fixture
def make_setup(make_setup):
    """Build the parts of a small run without a trial: they are measured, not trained."""
    return partial(make_setup, trial=False)


@pytest.fixture(scope="module")
def short_spectra():
    """Measure with little effort where curvature is not the matter: until eigenvalues converge, with two probes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(measure_replica.__kwdefaults__, "effort", Effort(lanczos_steps=(1, 100), probes=(2, 2)))
        yield
