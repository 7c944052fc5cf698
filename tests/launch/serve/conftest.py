"""Shared by the tests of the local page."""

import pytest

from basinet.sim.run.files import sealed_yaml
from tests.launch.serve.planted_studies import plant, rows_of, serving


@pytest.fixture
def runs(tmp_path):
    """Two studies: one of diffusion and consensus, one that is in progress."""
    for place, strategy in enumerate(("diffusion", "consensus")):
        plant(tmp_path / "runs" / "first" / strategy, rows_of(6, seed=place), strategy=strategy)
    (tmp_path / "runs" / "first" / "experiment.yaml").write_text(sealed_yaml({"runs": ["diffusion", "consensus"]}))
    plant(tmp_path / "runs" / "second" / "now", rows_of(3), state="running")
    plant(tmp_path / "runs" / "second" / "next", state="waiting")
    return tmp_path / "runs"


@pytest.fixture
def server(runs):
    with serving(runs) as found:
        yield found
