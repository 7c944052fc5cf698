"""Fixtures of all rooms' tests."""

import shutil
import sys
import tempfile
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from basinet.sim import engines
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.sharing import Shared
from tests.processes import Processes
from tests.reports import least_effort, with_one_figure, with_trials, without_reports

torch.set_num_threads(1)
engines._TRIAL_SECONDS = 0.0  # which engine is the fastest is no test's matter
settings.register_profile("basinet", derandomize=True, deadline=None)
settings.load_profile("basinet")
# Examples are not to change with each number that the code holds, all of which it would read anew in each process.
providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(autouse=True)
def closed_figures():
    """Close the figures of pyplot that a test has made: others look whether any are left."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="module", autouse=True)
def legible_drawings(request):
    """Look whether the figures of pages that the tests of reports, runs and studies have made can be read."""
    if request.path.parent.name not in ("report", "runs", "studies"):
        yield
        return
    from basinet.analysis.drawing.figure import Drawing
    from basinet.analysis.drawing.legibility import illegible

    made, usual = {}, Drawing.__post_init__

    def keep(drawing):
        usual(drawing)
        made.setdefault((drawing.name, len(drawing.figure.axes)), drawing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "__post_init__", keep)
        yield
    # The planted numbers of a study may well be the same for two of its lines.
    faults = {
        name: [said for said in illegible(it.figure) if " lies under " not in said] for (name, _), it in made.items()
    }
    assert not any(faults.values()), {name: said for name, said in faults.items() if said}


@pytest.fixture
def processes(tmp_path_factory):
    """Start processes, which are gone at the end of the test."""
    started = Processes(tmp_path_factory.mktemp("said"))
    yield started
    started.kill()


@pytest.fixture
def no_reports():
    """Leave out the reports of runs where they are not the matter."""
    with without_reports():
        yield


@pytest.fixture
def one_figure():
    """Draw in reports a single figure where the others are not the matter."""
    with with_one_figure():
        yield


@pytest.fixture
def no_trials():
    """Leave out the trial of the parts of runs where it is not the matter whether they fit."""
    with with_trials(False):
        yield


@pytest.fixture(scope="module")
def untried():
    """Leave out the trials in the tests of a module."""
    with with_trials(False):
        yield


@pytest.fixture
def tried():
    """Try the parts of runs out in a test of such a module."""
    with with_trials(True):
        yield


@pytest.fixture
def least_measured():
    """Measure runs with the least effort where the values are not the matter."""
    with least_effort():
        yield


@pytest.fixture(scope="module")
def ray_folder():
    """What Ray writes goes with the tests; its sockets need a short path."""
    folder = tempfile.mkdtemp(prefix="ray-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared():
    """What the runs of a module's tests are made of: each part once for all that agree in what it depends on."""
    return Shared()


@pytest.fixture(scope="module")
def shared_parts(shared):
    """Let the experiments of a module's tests share their parts and trials, as the runs of a grid do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.sim.run.simulation.Shared", lambda: shared)
        yield


@pytest.fixture
def make_setup():
    """Build the parts of a small run in float64; without a trial where it is not the matter whether they fit."""

    def make(*, trial: bool = True, shared: Shared | None = None, **keys: Any) -> Setup:
        base = {
            "task": "digits",
            "model": {"name": "mlp", "hidden": [6]},
            "topology": {"name": "ring", "agents": 4},
            "strategy": "diffusion",
            "batch_size": 5,
            "steps": 40,
            "replicas": 2,
            "runtime": {"dtype": "float64", "device": "cpu"},
        }
        return build_setup(Config.parse(base | keys), shared, trial=trial)

    return make


@pytest.fixture
def make_block(make_setup):
    """Build a whole run in one block, with the same engine each time: not the one that is the quickest just then.

    Its parts are not tried out before, which takes longer than most blocks: a block fails if they do not fit.
    """

    def make(*, trial: bool = False, **keys: Any) -> Block:
        setup = make_setup(trial=trial, **keys)
        placement = Placement.split(setup.config.replicas, setup.num_agents)
        if (asked := setup.config.runtime.engine) != "auto":
            return Block(setup, placement, torch.device("cpu"), asked)
        for engine in ("stacked", "vectorized"):
            with suppress(ValueError), pytest.MonkeyPatch.context() as patch:
                # Whether it computes what the loop does is the matter of its own tests.
                patch.setattr(engines, "_choose", lambda name, *_, **__: (engines.ENGINES[name], "as asked", 0.0))
                return Block(setup, placement, torch.device("cpu"), engine)
        return Block(setup, placement, torch.device("cpu"), "loop")

    return make
