"""Checkpoints that are written beside the training: what is on disk when, and what becomes of a write that fails."""

import errno
import json
import os
import threading

import numpy as np
import pytest
import torch

from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import join_rows, take_rows
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.background import CheckpointWriter
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.tensor_files import TensorFile, read_tensor_file
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.simulation import prepare, simulate

KEYS = {
    "task": {"name": "quadratic", "dimension": 3},
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "batch_size": 2,
    "steps": 6,
    "evaluate_every": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
}
RUN = "diffusion-atc"


class Silent:
    def started(self, *_):
        pass

    advanced = analyzing = finished = started


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    return RunFolder(tmp_path)


@pytest.fixture
def held(monkeypatch):
    """Let no file of a run be written before it is told to."""
    go, write = threading.Event(), RunFolder.write

    def waiting(self, path, data):
        assert go.wait(600)
        write(self, path, data)

    monkeypatch.setattr(RunFolder, "write", waiting)
    return go


def test_training_goes_on_while_the_state_of_the_pause_is_written(folder, held):
    state = {"step": 1, "diverged": {0: 1}}
    with CheckpointWriter(folder, 0.0, 0.0) as writer:
        writer.replace(lambda: state)
        state["diverged"][1] = 2
        state["step"] = 2
        assert not folder.checkpoint.exists()
        held.set()
        writer.wait()
        assert read_tensor_file(folder.checkpoint) == {"step": 1, "diverged": {0: 1}}
        writer.replace(lambda: state)
        writer.keep(2, lambda: state)
    found = [read_tensor_file(path)["step"] for path in (folder.before, folder.checkpoint, folder.kept(2))]
    assert found == [1, 2, 2]
    assert folder.before.name == "before.safetensors" and folder.checkpoints() == [folder.kept(2), folder.checkpoint]


def test_there_is_never_a_second_copy_of_the_state(folder, held):
    collected = []

    def collect():
        collected.append(folder.checkpoint.exists())
        return {"step": len(collected)}

    with CheckpointWriter(folder, 0.0, 0.0) as writer:
        writer.replace(collect)
        second = threading.Thread(target=writer.keep, args=(2, collect))
        second.start()
        assert collected == [False]
        held.set()
        second.join()
    assert collected == [False, True]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("look", [CheckpointWriter.is_due, CheckpointWriter.wait, lambda writer: writer.drop(7)])
def test_a_write_that_fails_is_told_at_the_next_look_and_once(folder, monkeypatch, look):
    monkeypatch.setattr(RunFolder, "write", full)
    with CheckpointWriter(folder, 0.0, 0.0) as writer:
        writer.keep(1, lambda: {"step": 1})
        writer._thread.shutdown()
        with pytest.raises(OSError, match="No space left on device"):
            look(writer)
        writer.wait()


def test_what_ends_the_training_is_said_before_what_ends_the_writing(folder, monkeypatch, caplog):
    monkeypatch.setattr(RunFolder, "write", full)
    with pytest.raises(ZeroDivisionError), CheckpointWriter(folder, 0.0, 0.0) as writer:
        writer.replace(lambda: {"step": 1})
        raise ZeroDivisionError
    assert "No space left on device" in caplog.text
    with pytest.raises(OSError), CheckpointWriter(folder, 0.0, 0.0) as writer:
        writer.replace(lambda: {"step": 1})


def test_a_copy_is_due_the_more_rarely_the_longer_training_waits_for_it(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with CheckpointWriter(folder, 10.0, 1.0) as writer:

        def dues(*times):
            found = []
            for at in times:
                now[0] = at
                found.append(writer.is_due())
            return found

        def collect():
            now[0] += 0.5
            return {"step": 1}

        assert dues(0.9, 1.1) == [False, True]
        now[0] = 2.0
        writer.replace(dict)
        writer.wait()
        assert dues(11.9, 12.1) == [False, True]
        writer.replace(collect)
        writer.wait()
        assert dues(12.6 + 24.9, 12.6 + 25.1) == [False, True]  # 2 % of which is half a second


def carry_out(out):
    setups = prepare(Experiment(KEYS), out)
    rhythm = Rhythm(slice=0.0, checkpoint=1e9, first_checkpoint=0.0)  # one early on, and one at the end
    return simulate(setups, out, Silent(), threading.Event(), rhythm=rhythm)[RUN]


def numbers(run):
    return load_run(run).metrics, load_checkpoint(run / "checkpoint" / "state.safetensors")["rows"]


FAILURES = {"full": (os, "fsync", errno.ENOSPC), "read-only": (os, "open", errno.EROFS)}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_disk_on_which_nothing_can_be_written_costs_no_checkpoint(tmp_path, monkeypatch, failure):
    assert carry_out(tmp_path / "whole") == "done"
    owner, name, number = FAILURES[failure]
    function, run = getattr(owner, name), tmp_path / "out" / RUN
    state, before = run / "checkpoint" / "state.safetensors", run / "checkpoint" / "before.safetensors"

    def failing(what, *arguments):
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
        if path.endswith(".state.safetensors.partial") and before.exists():
            raise OSError(number, os.strerror(number), *([] if isinstance(what, int) else [path]))
        return function(what, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        assert carry_out(tmp_path / "out") == "failed"
    status = json.loads((run / "status.json").read_text())
    assert os.strerror(number) in status["error"] and "state.safetensors" in status["error"]
    assert [path.name for path in state.parent.iterdir()] == [before.name]
    saved = load_checkpoint(before)["step"]
    assert 0 < saved < 6
    assert carry_out(tmp_path / "out") == "done"
    assert [path.name for path in state.parent.iterdir()] == [state.name]
    (metrics, rows), (expected, there) = numbers(run), numbers(tmp_path / "whole" / RUN)
    assert metrics == expected and torch.equal(rows["parameters"], there["parameters"])


def test_a_run_of_an_earlier_version_goes_on_in_files_of_this_one(tmp_path):
    assert carry_out(tmp_path / "whole") == "done"
    setups, out = prepare(Experiment(KEYS), tmp_path / "out"), tmp_path / "out"
    paused = simulate(setups, out, Silent(), threading.Event(), until={RUN: 2})
    assert paused == {RUN: "paused"}
    places = out / RUN / "checkpoint"
    torch.save(load_checkpoint(places / "state.safetensors"), places / "state.pt")
    (places / "state.safetensors").unlink()
    assert carry_out(out) == "done"
    assert [path.name for path in places.iterdir()] == ["state.safetensors"]
    assert numbers(out / RUN)[0] == numbers(tmp_path / "whole" / RUN)[0]


def test_the_state_of_four_workers_is_read_by_one_or_three(make_block, tmp_path):
    keys = {
        "strategy": "choco",
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "topology": {"name": "ring", "agents": 6},
    }
    block = make_block(**keys)
    block.advance(3)
    state = block.state_dict()
    assert state["rows"]["memory"]

    def shared(whole, workers):
        """Share the rows among workers, in no order, and join them again."""
        owner = np.random.default_rng(workers).permutation(np.arange(12) % workers)
        placements = [Placement(6, owner, workers, rank) for rank in range(workers)]
        return join_rows([take_rows(whole, mine.rows) for mine in placements], placements[0])

    path = tmp_path / "state.safetensors"
    RunFolder(tmp_path).write(path, TensorFile(shared(state, 4)))
    found, other = read_tensor_file(path), make_block(**keys)
    other.load_state_dict(shared(found, 3))
    for saved in (found, other.state_dict()):
        assert torch.equal(saved["rows"]["parameters"], block.x)
    for each in (block, other):
        each.advance(6)
    assert torch.equal(other.x, block.x)
