"""A run whose worker dies is taken up again from its last checkpoint: as often as it gets further, not for ever."""

import threading

import pytest

from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.execution.one_run import RETRIES
from basinet.sim.run.folder import load_run
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.simulation import Interrupted, prepare, simulate
from basinet.sim.runtimes.inline import Inline, InlineTeam
from basinet.sim.runtimes.team import WorkerLost

BASE = {
    "task": {"name": "quadratic", "curvature": [1.0, 2.0]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "steps": 8,
    "evaluate_every": 4,
    "replicas": 2,
    "runtime": {"dtype": "float64", "device": "cpu"},
}
SAVES_EVERY_STEP = Rhythm(slice=0.0, checkpoint=0.0, first_checkpoint=0.0)


class Listening:
    def __init__(self):
        self.said = []

    def started(self, run, step, *_):
        self.said.append(step)

    def restarted(self, run, why):
        self.said.append(why)

    def advanced(self, *_):
        pass

    waiting = analyzing = finished = advanced


@pytest.fixture
def carry_out(monkeypatch):
    """Execute a run whose worker asks before each piece of work whether it dies."""

    def go(out, dies, stop=None, **changes):
        class Mortal(InlineTeam):
            def advance(self, step):
                self.ask("advance", step)
                super().advance(step)

            def analyze(self, analysis, state, replica):
                self.ask("analyze", replica)
                return super().analyze(analysis, state, replica)

            def ask(self, what, number):
                if dies(what, number):
                    raise WorkerLost(f"no more at {number}")

        monkeypatch.setattr(Inline, "team", lambda self, setup, engine, stop, waiting: Mortal(setup, engine))
        stop, monitor = stop or threading.Event(), Listening()
        setups = prepare(Experiment(BASE | {"analysis": []} | changes), out)
        (state,) = simulate(setups, out, monitor, stop, measure_replica, rhythm=SAVES_EVERY_STEP).values()
        return state, load_run(out / "diffusion-atc").status, monitor.said

    return go


def test_a_run_that_gets_further_is_taken_up_any_number_of_times_and_ends_like_an_unbroken_one(tmp_path, carry_out):
    seen = set()

    def dies(what, step):
        first = step not in seen
        seen.add(step)
        return first and step > 1

    assert carry_out(tmp_path / "whole", lambda *_: False)[0] == "done"
    state, status, said = carry_out(tmp_path / "broken", dies)
    assert state == "done" and [lost["reason"] for lost in status["lost_workers"]] == [
        f"no more at {step}" for step in range(2, 9)
    ]
    assert said[:5] == [0, "no more at 2", 1, "no more at 3", 2] and len(said) == 15
    whole, broken = (tmp_path / name / "diffusion-atc" / "metrics.jsonl" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()


@pytest.mark.parametrize(
    "where, analysis", [(("advance", 1), []), (("advance", 2), []), (("analyze", 1), ["hessian_trace"])]
)
def test_a_run_that_dies_in_the_same_place_again_and_again_is_given_up(tmp_path, carry_out, where, analysis):
    work = []

    def dies(*what):
        work.append(what)
        assert len(work) < 50
        return what == where

    state, status, _ = carry_out(tmp_path, dies, analysis=analysis)
    assert (state, work.count(where)) == ("failed", RETRIES + 1)
    assert status["error"].startswith(f"no more at {where[1]}; given up after {RETRIES} retries without progress")
    assert len(status["lost_workers"]) == RETRIES and len(work) == len({*work}) + RETRIES, "nothing else is repeated"


@pytest.mark.parametrize("where, state, step", [(("advance", 7), "interrupted", 6), (("analyze", 1), "done", 8)])
def test_a_run_whose_worker_dies_since_all_is_to_stop_keeps_what_it_has_reached(
    tmp_path, carry_out, where, state, step
):
    stop = threading.Event()

    def dies(*what):
        if what == where:
            stop.set()
        return what == where

    with pytest.raises(Interrupted):
        carry_out(tmp_path, dies, stop, analysis=["hessian_trace"])
    status = load_run(tmp_path / "diffusion-atc").status
    assert (status["state"], status["step"]) == (state, step) and "engine" in status
    assert carry_out(tmp_path, lambda *_: False, analysis=["hessian_trace"])[0] == "done"
