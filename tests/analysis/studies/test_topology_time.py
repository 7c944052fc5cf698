"""The study of topologies by simulated time."""

import math

import numpy as np
import pytest

from basinet.analysis.studies.study import check_folder
from basinet.analysis.studies.topology_time import cycle_times as published
from basinet.analysis.studies.topology_time import timed_trainings, topology_time, waiting_claims
from basinet.analysis.studies.topology_time.leads import Lead, leads, median_to
from basinet.analysis.studies.topology_time.timed_trainings import Timed


def timed(name, step, slope, best=0.9, count=3):
    """Accuracy that rises by `slope` in each of ten steps of so many seconds, up to the best one."""
    steps = np.arange(11.0)[:, None]
    offsets = 0.01 * np.arange(count)
    return Timed(name, np.tile(step * steps, count), np.minimum(0.1 + slope * steps, best) + offsets)


def test_times_to_a_target_lie_between_evaluations():
    one = timed("one", step=2.0, slope=0.1)
    # 0.1 + offset + 0.05 s = 0.45
    assert one.reached(0.45) == pytest.approx([7.0, 6.8, 6.6], rel=1e-12)
    assert one.at(99.0) == pytest.approx([0.9, 0.91, 0.92])
    assert one.at(7.0) == pytest.approx([0.45, 0.46, 0.47], rel=1e-12)
    found = median_to(one, 0.45)
    assert (found.median, found.count, found.number) == (pytest.approx(6.8), 3, 3)
    assert median_to(one, 0.915).count == 1 and math.isinf(median_to(one, 0.915).median)
    assert one.reached(0.0).tolist() == [0.0, 0.0, 0.0]


def test_the_lead_passes_where_curves_cross():
    """0.1 + 0.1 t up to 0.5, and 0.1 + 0.05 t: the second is above from t = 8 on."""
    fast, slow = timed("fast", 1.0, 0.1, best=0.5), timed("slow", 4.0, 0.2)
    first, second = leads([slow, fast])
    assert isinstance(first, Lead) and (first.topology, second.topology) == ("fast", "slow")
    between = (40 / 0.5) ** (1 / 119)  # of two moments
    assert first.until == second.since and 8.0 <= second.since <= 8.0 * between * (1 + 1e-9)
    assert second.until == 40.0 and second.accuracy == pytest.approx(0.91)
    assert first.accuracy == pytest.approx(0.51)


def test_a_lead_must_be_shown():
    """Replicas that differ by more than the topologies do show nothing."""
    one, noise = timed("one", 1.0, 0.1), np.array([0.3, -0.3, 0.04])
    other = Timed("other", one.seconds, one.accuracy + noise * (np.arange(11) > 0)[:, None])
    assert [lead.topology for lead in leads([one, other])] == ["one"]


def test_published_cycle_times(monkeypatch):
    monkeypatch.setattr(published, "_PUBLISHED", {"gaia": (391, 138, 118)})
    (times,) = published.cycle_times()
    check = published.ranked(times)
    assert check.agrees and check.measured == check.predicted == "star 391, spanning tree 138, ring 118"
    assert not published.ranked(times._replace(found=(391.0, 130.0, 118.0))).agrees


def test_the_study_runs_from_end_to_end(tmp_path, monkeypatch):
    small = {"perceptron": timed_trainings.TASKS["perceptron"] | {"model": {"name": "mlp", "hidden": [4]}}}
    monkeypatch.setattr(timed_trainings, "TASKS", small)
    monkeypatch.setattr(topology_time, "TASKS", small)
    laws = {name: topology_time.LAWS[name] for name in ("constant", "stragglers")}
    monkeypatch.setattr(topology_time, "LAWS", laws)
    monkeypatch.setattr(waiting_claims, "_STEPS", 480)
    monkeypatch.setattr(published, "_PUBLISHED", {"gaia": (391, 138, 118)})
    told = []
    findings = topology_time.topology_time(lambda *so_far: told.append(so_far), tmp_path, steps=4, replicas=2)
    assert told[-1][0] == 1 and told == sorted(told, key=lambda pair: pair[0])
    check_folder(tmp_path)
    told_exactly = ("models that", "a step takes", "diffusion on")
    exact = [check for check in findings.checks if check.claim.startswith(told_exactly)]
    assert len(exact) == 5 and all(check.agrees for check in exact), exact
    waiting = [check for check in findings.checks if "mean times" in check.claim]
    assert len(waiting) == 5 and all(check.agrees for check in waiting), waiting
    names = [drawing.name for drawing in findings.drawings]
    assert names == ["accuracy_perceptron", "leads_perceptron", "targets_perceptron", "cycle_times"]
    curves, _, targets, _ = (drawing.rows for drawing in findings.drawings)
    assert len(curves) == 6 * 6 * 5 and len(targets) == 6 * 6
    # The same trainings under all conditions: accuracies do not depend on times.
    assert len({(row["topology"], row["accuracy"]) for row in curves if row["seconds"] == 0}) == 6
    ends = {}
    for row in curves:
        ends.setdefault(row["topology"], {}).setdefault((row["network"], row["law"]), []).append(row["accuracy"])
    assert all(len({tuple(some) for some in of_one.values()}) == 1 for of_one in ends.values())
