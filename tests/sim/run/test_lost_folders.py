"""Folders that vanish or fill up during a run: that run fails with a sentence, the others go on, and it resumes."""

import errno
import os
import shutil

import pytest
import yaml

from basinet.launch.cli import main
from basinet.sim.run import files
from basinet.sim.run.folder import load_run
from basinet.sim.run.monitor import Progress

RUN = {
    "task": {"name": "quadratic", "curvature": [1.0, 2.0]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "steps": 6,
    "evaluate_every": 2,
    "replicas": 1,
    "seed": [0, 1],
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
}
FIRST, SECOND = "diffusion-atc_seed=0", "diffusion-atc_seed=1"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, no_reports):
    """Run the command, and do something at step 4 of the first run; return its status and what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(RUN))
    look = Progress._look

    def run(out, happens=lambda: None):
        def then(self, step):
            if (self.name, step) == (FIRST, 4):
                happens()
            look(self, step)

        monkeypatch.setattr(Progress, "_look", then)
        return main(["run", "e.yaml", "--out", out, "--quiet"]), capsys.readouterr().err

    return run


def metrics(out):
    return [load_run(out / name).metrics for name in (FIRST, SECOND)]


@pytest.fixture
def whole(command, tmp_path):
    assert command("whole")[0] == 0
    return metrics(tmp_path / "whole")


def test_a_run_whose_folder_is_removed_fails_alone_and_begins_anew(command, whole, tmp_path):
    status, said = command("out", lambda: shutil.rmtree(tmp_path / "out" / FIRST))
    assert status == 1 and "Traceback" not in said
    assert f"{FIRST} failed: its folder out/{FIRST} was removed during the run; the same command begins it" in said
    assert load_run(tmp_path / "out" / SECOND).status["state"] == "done"
    assert command("out")[0] == 0 and metrics(tmp_path / "out") == whole


def test_an_experiment_whose_folder_is_removed_says_so_and_begins_anew(command, whole, tmp_path):
    status, said = command("out", lambda: shutil.rmtree(tmp_path / "out"))
    assert status == 1 and "Traceback" not in said
    assert all(f"{name} failed: its folder out/{name} was removed" in said for name in (FIRST, SECOND))
    assert not (tmp_path / "out").exists()
    assert command("out")[0] == 0 and metrics(tmp_path / "out") == whole


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_written_any_more_is_a_sentence_and_goes_on_once_it_can(
    number, command, whole, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:

        def happens():
            patch.setattr(files.GrowingFile, "append", refuse)
            patch.setattr(files.os, "replace", refuse)

        status, said = command("out", happens)
    assert status == 1 and "Traceback" not in said
    assert f"{FIRST} failed: out/{FIRST}/status.json, which would say why, could not be written" in said
    assert command("out")[0] == 0 and metrics(tmp_path / "out") == whole
