"""Folders that were killed, damaged or tampered with: the right results or one sentence, never others in silence."""

import dataclasses
import json
import math
import os
import re
import shutil
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import basinet
from basinet.analysis.report.report import write_report
from basinet.analysis.runs import measure_again as analysis
from basinet.analysis.runs.measure_again import measure_again
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run import records, simulation
from basinet.sim.run.checkpoints import background, tensor_files
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.files import GrowingFile, write_atomically
from basinet.sim.run.folder import RunFolder, load_run, load_runs
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.records import load_record, load_status, read_table
from basinet.sim.run.trajectory import load_trajectory
from basinet.sim.runtimes.inline import Inline
from basinet.sim.runtimes.team import Stopped
from basinet.sim.setup.reached import read_points

BASE = {
    "task": {"name": "quadratic", "dimension": 3},
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": ["ring", "star"], "agents": 3, "policy": "lazy"},
    "strategy": "isolated",  # which does not use the graph: the second run takes over what the first has found
    "batch_size": 2,
    "steps": 4,
    "evaluate_every": 2,
    "keep_every": 2,
    "replicas": 2,
    "trajectory": "centroid",
    "analysis": ["hessian_trace", "hessian_density"],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},  # the cheapest to set up
}
FIRST, SECOND, RUN = "isolated_name=ring", "isolated_name=star", "isolated"


class Silent:
    def started(self, *_):
        pass

    advanced = analyzing = finished = started


class Killed(BaseException):
    """No code survives it."""


def measure(setup, state, replica, rank, workers):
    """Measure something that is quickly found and differs from state to state."""
    value = float(state["rows"]["parameters"].sum())
    place = {"step": state["step"], "replica": replica}
    return [place | {"hessian_trace": value}, *({"table": "density", **place, "x": i, "y": value * i} for i in (1, 2))]


@pytest.fixture(scope="module")
def built():
    return simulation.build(Experiment(BASE))


@pytest.fixture
def carry_out(built, monkeypatch):
    """Carry the experiment out without building it again, a step at a time."""
    monkeypatch.setattr(simulation, "build", lambda *_, **__: built)
    # A checkpoint after the first step, and one at the end, however slow the machine is.
    rhythm = Rhythm(slice=0.0, checkpoint=math.inf, first_checkpoint=0.0)

    def run(out, monitor=None, **options):
        setups = run.prepare(out, **options)
        return simulation.simulate(setups, out, monitor or Silent(), threading.Event(), measure, rhythm)

    run.experiment = Experiment(BASE)
    run.prepare = lambda out, **options: simulation.prepare(run.experiment, out, **options)
    return run


@pytest.fixture
def finished(carry_out, tmp_path):
    assert carry_out(tmp_path / "out") == {FIRST: "done", SECOND: "done"}
    return tmp_path / "out"


def contents(folder):
    """Read all files but those with times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "usage.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def killed(number, work):
    """Kill a process as it writes, replaces or deletes something for the so-manieth time; tell whether it was."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, number)
        try:
            work()
        except Killed:
            return True
    return False


class AtOnce:
    """In the place of the thread of the checkpoints: it has written before the training goes on."""

    def __init__(self, *_):
        pass

    def submit(self, write, *arguments):
        work = Future()
        work.set_result(write(*arguments))
        return work

    def shutdown(self):
        pass


class AtLast(AtOnce):
    """Another: it begins to write when it is waited for."""

    def submit(self, write, *arguments):
        return SimpleNamespace(done=lambda: False, result=lambda: write(*arguments))


def kill_at(monkeypatch, number):
    """Let the process die at its so-manieth write; a file that grows has then half of its new end."""
    left = [number]

    def count():
        left[0] -= 1
        if left[0] <= 0:  # nor does anything happen after it
            raise Killed

    def dying(owner, name):
        function = getattr(owner, name)

        def instead(*args, **kwargs):
            count()
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, instead)

    append = GrowingFile.append

    def half(self, data):
        try:
            count()
        except Killed:
            with open(self.path, "ab") as file:
                file.write(data[: len(data) // 2])
            raise
        append(self, data)

    for owner, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (Path, "unlink"), (Path, "mkdir")):
        dying(owner, name)
    monkeypatch.setattr(GrowingFile, "append", half)


def test_a_run_that_is_killed_at_any_write_ends_like_an_unbroken_one(carry_out, finished, tmp_path, monkeypatch):
    whole, number, stride, ended, out = contents(finished), 0, 1, False, tmp_path / "killed"
    while not ended:
        number += stride
        shutil.rmtree(out, ignore_errors=True)
        monkeypatch.setattr(background, "ThreadPoolExecutor", (AtOnce, AtLast)[number % 2])
        ended = not killed(number, lambda: carry_out(out))
        if (out / SECOND / "status.json").exists():  # it only takes over what the first has found
            stride = 3
        carry_out(out)
        assert contents(out) == whole, number
    assert number > 60


def test_nothing_is_left_of_what_is_discarded_whenever_that_is_killed(carry_out, finished, tmp_path):
    whole, number, ended, out = contents(finished), 0, False, tmp_path / "killed"
    (finished / "notes.txt").write_text("mine")
    while not ended:
        number += 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(finished, out)
        ended = not killed(number, lambda: carry_out.prepare(out, fresh=True))
        for folder in (out / FIRST, out / SECOND):
            # All of a run is there, or nothing that has been found.
            assert not folder.exists() or (folder / "status.json").exists() or len(contents(folder)) <= 1, number
        if number % 8 == 1:
            carry_out(out)
            assert contents(out) == whole | {"notes.txt": b"mine"}, number
    assert number > 20


FILES = (
    "experiment.yaml",
    *(
        f"{RUN}/{name}"
        for name in (
            "config.yaml", "metrics.jsonl", "status.json", "analyzed.json", "density.csv", "trajectory.bin",
            "checkpoint/state.safetensors", "checkpoint/step-2.safetensors",
        )
    ),
)  # fmt: skip


def flipped(content, place):
    place = int(place * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def without_lines(content, *numbers):
    return b"".join(line for number, line in enumerate(content.splitlines(keepends=True)) if number not in numbers)


def with_values(value):
    """Put a value in the place of the last number of the first line that has one."""
    return lambda content: content.replace(b": 2", b": " + value, 1) if b": 2" in content else content + value


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "cut": lambda content: content[:-3],
    "a bit": lambda content: flipped(content, 0.5),
    "a bit late": lambda content: flipped(content, 0.8),
    "last line": lambda content: without_lines(content, content.count(b"\n") - 1),
    "two lines": lambda content: without_lines(content, 1, 2),
    "half a line more": lambda content: content + b'{"step": 4, "re',
    "a line more": lambda content: content + b'{"step": 4}\n{"step": 4, "replica": 0, "train_loss": 0.0}\n',
    "text": with_values(b'"much"'),
    "null": with_values(b"null"),
    "not a number": with_values(b"NaN"),
    "huge": with_values(b"9" * 400),
    "list": lambda content: b"[1, 2]\n",
    "another encoding": lambda content: content.decode("latin-1").encode("utf-16"),
    "zeros": lambda content: bytes(len(content)),
    "gone": None,
    "folder": None,
    "pipe": None,
}


TEXTS = (".yaml", ".json", ".jsonl", ".csv")
OF_TEXTS = ("last line", "two lines", "a line more", "text", "null", "not a number", "huge", "list", "another encoding")
"""What happens to lines, numbers and characters, which no other file has."""


def damage(path, kind):
    content = path.read_bytes()
    if DAMAGES[kind] is None:
        path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        path.write_bytes(DAMAGES[kind](content))
    return not path.is_file() or path.read_bytes() != content


def view(out):
    """Look at all that a report shows."""
    runs = load_runs(out)
    paths = [load_trajectory(run.path) for run in runs]
    return (
        load_record(out)["runs"],
        [(run.config, run.status, run.metrics) for run in runs],
        [read_table(run.path / "density.csv") for run in runs],
        [(path.steps.tolist(), path.points.tolist()) for path in paths if path is not None],
    )


def states(out):
    """Load all states, as an export or another analysis does."""
    keys = dict.fromkeys(("run", "replica", "point", "step"), "key")
    steps = (None, 0, 2)
    return [read_points(out / RUN, None, "centroid", step, keys=keys).parameters.tolist() for step in steps]


@pytest.fixture
def alone(carry_out, monkeypatch, built, tmp_path):
    """Carry out the first run alone, and go on with that one."""
    monkeypatch.setattr(simulation, "build", lambda *_, **__: ({RUN: built[0][FIRST]}, {}))
    carry_out.experiment = Experiment(BASE | {"topology": BASE["topology"] | {"name": "ring"}})
    assert carry_out(tmp_path / "out") == {RUN: "done"}
    return tmp_path / "out"


@pytest.fixture
def analyze(built, monkeypatch):
    """Measure again, without building the runs again."""
    setup = built[0][FIRST]
    monkeypatch.setattr(analysis, "build_setup", lambda config, *_: dataclasses.replace(setup, config=config))
    monkeypatch.setattr(analysis, "check_analysis", lambda setup: None)
    monkeypatch.setattr(analysis, "measure_replica", measure)
    return analysis.measure_again


def sentence(work, path):
    """Return the sentence with which a work is refused, which must name the file; None if it is not refused."""
    try:
        work()
    except (ExperimentError, FileNotFoundError) as error:
        assert any(str(place) in str(error) for place in (path, *path.parents[:2]))
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.mark.parametrize("name", FILES)
def test_damage_is_mended_or_named(carry_out, analyze, alone, tmp_path, name):
    def check(kind, out):
        refused = sentence(lambda: view(out) == shown or pytest.fail(f"other results of {kind}"), out / name)
        sentence(lambda: states(out) == reached or pytest.fail(f"other states of {kind}"), out / name)
        if sentence(lambda: analyze(out), out / name) is None and refused is None:
            assert view(out)[:3] == shown[:3], kind
        if name == f"{RUN}/config.yaml" or (
            name == "experiment.yaml" and kind != "gone"
        ):  # which say what was to be run
            assert sentence(lambda: carry_out(out), out / name), kind
        elif kind in ("folder", "pipe"):
            if sentence(lambda: carry_out(out), out / name) is None:
                status = json.loads((out / RUN / "status.json").read_text())
                assert status["state"] == "done" or status["error"].startswith(f"{out / name}: it is ")
        else:
            carry_out(out)
            assert view(out) == shown and states(out) == reached, kind

    shown, reached = view(alone), states(alone)
    kinds = [kind for kind in DAMAGES if name.endswith(TEXTS) or kind not in OF_TEXTS]
    for number, kind in enumerate(kinds):
        out = tmp_path / str(number)
        shutil.copytree(alone, out)
        if damage(out / name, kind):
            check(kind, out)


@pytest.mark.parametrize("name", ["../victim", "/victim", "a/b", "..", ".lock", "", 3, None, "link"])
def test_no_name_in_a_file_leads_out_of_the_folder(carry_out, alone, tmp_path, name):
    victim = tmp_path / "victim"
    shutil.copytree(alone / RUN, victim)
    if name == "link":
        (alone / "link").symlink_to(victim)
    record = load_record(alone)
    (alone / "experiment.yaml").write_text(
        yaml.safe_dump(record | {"runs": [str(victim) if name == "/victim" else name]})
    )
    before = contents(victim)
    for work in (load_runs, carry_out, partial(carry_out, fresh=True), write_report, measure_again, basinet.load):
        with pytest.raises(ExperimentError, match="it is a link" if name == "link" else "is not the name of a run"):
            work(alone)
    assert contents(victim) == before


@pytest.mark.parametrize("name", ["", "checkpoint", "metrics.jsonl", "status.json", "analyzed.json", "density.csv"])
def test_no_link_leads_out_of_the_folder(carry_out, alone, tmp_path, name):
    place, elsewhere = alone / RUN / name, tmp_path / "elsewhere"
    shutil.move(place, elsewhere)
    place.symlink_to(elsewhere)
    before = contents(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    if sentence(lambda: carry_out(alone), place) is None and not place.is_symlink():
        assert load_run(alone / RUN).status["state"] == "done"
    assert (contents(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()) == before


@pytest.mark.parametrize("name", ["", "checkpoint"])
@pytest.mark.parametrize("work", [write_report, measure_again, partial(read_points, replica=0, point=0, keys={})])
def test_nothing_is_read_or_written_behind_the_link_that_a_run_is(alone, tmp_path, name, work):
    place, elsewhere = alone / RUN / name, tmp_path / "elsewhere" / "run"
    shutil.copytree(alone, elsewhere.parent)  # which is an experiment, too
    elsewhere.parent.joinpath(RUN, name).rename(elsewhere)
    shutil.rmtree(place)
    place.symlink_to(elsewhere)
    before = contents(elsewhere.parent), {*elsewhere.rglob("*")}
    if name == "" or work is not write_report:  # which needs no state
        with pytest.raises(ExperimentError, match="it is a link"):
            work(alone / RUN)
    assert (contents(elsewhere.parent), {*elsewhere.rglob("*")}) == before


def test_a_file_that_a_record_names_is_not_discarded(carry_out, alone):
    (alone / "notes.txt").write_text("mine")
    (alone / "experiment.yaml").write_text(yaml.safe_dump(load_record(alone) | {"runs": ["notes.txt"]}))
    with pytest.raises(ExperimentError, match=r"notes.txt: it is a file, where a folder must be"):
        carry_out.prepare(alone, fresh=True)
    assert (alone / "notes.txt").read_text() == "mine"


def test_a_fresh_start_needs_neither_record_nor_configuration(carry_out, alone):
    (alone / RUN / "config.yaml").unlink()
    (alone / "experiment.yaml").unlink()
    carry_out.prepare(alone, fresh=True)
    assert not (alone / RUN / "status.json").exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_whose_configuration_is_lost_is_nobodys(carry_out, alone, recorded):
    (alone / RUN / "config.yaml").unlink()
    if not recorded:
        (alone / "experiment.yaml").unlink()
    with pytest.raises(ExperimentError, match="config.yaml: the file is" if recorded else "no experiment"):
        carry_out(alone)
    if recorded:
        with pytest.raises(ExperimentError, match=r"config.yaml: the file is damaged"):
            load_runs(alone)
        assert carry_out(alone, fresh=True) == {RUN: "done"}


def test_a_configuration_that_was_lost_before_the_run_began_is_written_again(carry_out, alone, tmp_path):
    whole, out = contents(alone), tmp_path / "lost"
    carry_out.prepare(out)
    (out / RUN / "config.yaml").write_bytes(b"")
    assert carry_out(out) == {RUN: "done"} and contents(out) == whole


def test_a_checkpoint_of_another_run_or_step_is_not_taken(carry_out, alone, tmp_path):
    """Nor is one of an earlier version that would run code, or one that holds something else."""
    whole, place = view(alone), alone / RUN / "checkpoint" / "state.safetensors"
    state = load_checkpoint(place)
    kept = load_checkpoint(place.with_name("step-2.safetensors"))
    for number, other in enumerate(
        [
            {**state, "run": "00000000"},
            kept,
            {"a": 1},
            [1, 2],
            torch.zeros(3),
            {**state, "rows": None},
        ]
    ):
        write_atomically(place, TensorFile(other))
        with pytest.raises(ExperimentError, match=r"state\.safetensors: the checkpoint is damaged \("):
            load_checkpoint(place)
        assert carry_out(alone) == {RUN: "done"} and view(alone) == whole, number
        assert load_checkpoint(place)["step"] == 4, number
    earlier = place.with_suffix(".pt")
    torch.save(Harmful(tmp_path), earlier)
    place.unlink()
    with pytest.raises(ExperimentError, match=r"state\.pt: the checkpoint is damaged \("):
        load_checkpoint(earlier)
    assert carry_out(alone) == {RUN: "done"} and view(alone) == whole
    assert load_checkpoint(place)["step"] == 4 and not (tmp_path / "harm").exists()


class Harmful:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "harm"),)


def test_the_checkpoint_before_is_taken_if_the_last_one_is_damaged(carry_out, alone, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(background, "ThreadPoolExecutor", AtOnce)
    whole, out, steps = contents(alone), tmp_path / "killed", []
    found = [out / RUN / "checkpoint" / name for name in ("state.safetensors", "before.safetensors")]
    number = next(n for n in range(1, 99, 3) if kill(carry_out, out, n) and all(path.exists() for path in found))
    newest, before = map(load_checkpoint, found)
    assert (newest["step"], before["step"]) == (4, 1), number
    found[0].write_bytes(b"PK")
    monitor = Silent()
    monitor.advanced = lambda run, step, rows: steps.append(step)
    assert carry_out(out, monitor) == {RUN: "done"}
    assert steps == [2, 3, 4] and contents(out) == whole
    assert "the checkpoint is damaged" in caplog.text and "continues from step 1" in caplog.text


def test_what_a_later_version_wrote_is_neither_read_nor_written_over(carry_out, alone, monkeypatch):
    (alone / RUN / "analyzed.json").unlink()  # or it would be left alone
    before = contents(alone)
    monkeypatch.setattr(tensor_files, "_NESTING", 0)
    sentence = r"\.safetensors: Basinet .* wrote it in a form that .* cannot read; go on with that version, or"
    with pytest.raises(ExperimentError, match=sentence):
        carry_out(alone)
    assert contents(alone) == before
    (alone / RUN / "status.json").unlink()  # the record is of no help
    assert carry_out(alone) == {RUN: "failed"}
    assert re.search(sentence, load_run(alone / RUN).status["error"])
    place = alone / RUN / "checkpoint" / "state.safetensors"
    assert place.read_bytes() == before[str(place.relative_to(alone))]


def kill(carry_out, out, number):
    shutil.rmtree(out, ignore_errors=True)
    return killed(number, lambda: carry_out(out))


def as_earlier(out):
    """Leave what versions without checksums wrote."""
    for path in (out / "experiment.yaml", out / RUN / "config.yaml"):
        path.write_bytes(without_lines(path.read_bytes(), 0))
    for path in (out / RUN / "status.json", out / RUN / "analyzed.json"):
        known = json.loads(path.read_text())
        kept = {key: known[key] for key in known if key not in ("run", "files", "crc32")}
        if path.stem == "analyzed":
            kept = {f"{key}.pt" if re.match("state$|step-", key) else key: kept[key] for key in kept}
        path.write_text(json.dumps(kept))
    for path in sorted((out / RUN / "checkpoint").iterdir()):
        state = load_checkpoint(path)
        torch.save({key: state[key] for key in state if key not in ("run", "files")}, path.with_suffix(".pt"))
        path.unlink()


def test_folders_of_earlier_versions_are_read_and_go_on(carry_out, alone, tmp_path):
    shown, reached, seen = view(alone), states(alone), []
    before = tmp_path / "before"
    shutil.copytree(alone, before)
    as_earlier(alone)
    assert view(alone)[2:] == shown[2:] and states(alone) == reached
    monitor = Silent()
    monitor.advanced = lambda run, step, rows: seen.append(step)
    assert carry_out(alone, monitor) == {RUN: "done"} and seen == []
    assert load_runs(alone)[0].metrics == shown[1][0][2]
    # As a process has left it that died behind step 2.
    as_earlier(before)
    status = json.loads((before / RUN / "status.json").read_text())
    (before / RUN / "status.json").write_text(json.dumps(status | {"state": "running", "step": 2}))
    shutil.copy(before / RUN / "checkpoint" / "step-2.pt", before / RUN / "checkpoint" / "state.pt")
    assert carry_out(before, monitor) == {RUN: "done"} and seen == [3, 4]
    assert view(before)[2:] == shown[2:] and states(before) == reached
    assert load_runs(before)[0].metrics == shown[1][0][2]


def test_a_run_at_work_is_read_again_where_its_files_have_changed_meanwhile(alone, monkeypatch):
    shown, load = view(alone), records.load_status

    def stale(folder):
        monkeypatch.setattr("basinet.sim.run.folder.load_status", load)
        return {**load(folder), "files": {"metrics.jsonl": {"bytes": 10**6, "crc32": "00000000"}}}

    monkeypatch.setattr("basinet.sim.run.folder.load_status", stale)
    assert view(alone) == shown


def test_a_full_disk_leaves_no_half_line(carry_out, alone, tmp_path, monkeypatch):
    shown, append = view(alone), GrowingFile.append

    def fill(self, data):
        if b"hessian_trace" in bytes(data):
            with open(self.path, "ab") as file:
                file.write(data[:20])
            raise OSError(28, "No space left on device", str(self.path))
        append(self, data)

    monkeypatch.setattr(GrowingFile, "append", fill)
    out = tmp_path / "full"
    assert carry_out(out) == {RUN: "failed"}
    assert [row["step"] for row in load_run(out / RUN).metrics] == [0, 0, 2, 2, 4, 4]
    monkeypatch.setattr(GrowingFile, "append", append)
    assert carry_out(out) == {RUN: "done"} and view(out) == shown


def test_a_link_in_the_place_of_a_file_that_is_being_written_is_not_followed(tmp_path):
    victim, file = tmp_path / "victim", tmp_path / "status.json"
    victim.write_text("mine")
    (tmp_path / ".status.json.partial").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        write_atomically(file, "other")
    write_atomically(file, "other")
    assert victim.read_text() == "mine" and file.read_text() == "other"


def test_a_failed_run_says_where_it_goes_on_also_where_the_last_checkpoint_is_lost(alone):
    folder, status = RunFolder(alone / RUN), load_status(alone / RUN)
    folder.checkpoint.rename(folder.before)
    folder.write_status(**status | {"state": "failed", "error": "no room"})
    assert basinet.load(alone).failures[0].endswith(f"goes on from step {status['step']}")


def test_a_finished_run_that_is_interrupted_before_its_analysis_stays_finished(carry_out, alone, monkeypatch):
    shown = view(alone)
    (alone / RUN / "analyzed.json").unlink()

    def stopped(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Inline, "team", stopped)
        assert carry_out(alone) == {RUN: "done"} and load_status(alone / RUN)["state"] == "done"
    assert carry_out(alone) == {RUN: "done"} and view(alone) == shown


def test_an_experiment_whose_record_is_lost_is_known_by_its_runs(carry_out, finished):
    whole = contents(finished)
    (finished / "experiment.yaml").unlink()
    assert carry_out(finished) == {FIRST: "done", SECOND: "done"} and contents(finished) == whole
    (finished / "experiment.yaml").unlink()
    shutil.copytree(finished / FIRST, finished / "another")
    with pytest.raises(ExperimentError, match="holds another experiment"):
        carry_out(finished)


def test_code_that_a_folder_names_is_named_before_it_is_imported(alone, tmp_path, monkeypatch, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "basinettest_named.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(ExperimentError, match="it ran"):
        Config.parse(load_run(alone / RUN).config | {"model": "basinettest_named:Net"})
    assert "model: importing basinettest_named, which runs its code" in caplog.text
