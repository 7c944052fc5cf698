"""`basinet status`: each state, the command that goes on, time left, workers, and the file for Prometheus."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from basinet.launch.cli import main
from basinet.launch.serve.page_details import abandoned, worker_of
from basinet.launch.serve.study_index import StudyIndex
from basinet.launch.status.holder import Holder, holder_of
from basinet.launch.status.prometheus_text import prometheus_text
from basinet.launch.status.run_states import look
from basinet.launch.status.small_work import alone_instead
from basinet.sim.run import lock
from basinet.sim.run.execution import usage_record
from basinet.sim.run.execution.usage_record import load_usage
from basinet.sim.run.files import sealed_json, sealed_yaml
from basinet.sim.run.lock import locked, start_of
from basinet.sim.runtimes import usage_meter
from tests.planted_runs import write_record, write_run
from tests.processes import HANGS

HERE = socket.gethostname()
NOBODY = 2**22 + 1
"""More processes than a system numbers."""


def worker(rank, step, waiting, sent=0, memory=2**30, host="node1"):
    return {
        "rank": rank,
        "host": host,
        "device": "cpu",
        "step_seconds": step,
        "waiting_seconds": waiting,
        "sent_bytes": sent,
        "memory_bytes": memory,
    }


def uses():
    return {"step": 60, "from_step": 20, "began": 0.0, "seconds": 8.0, "longest_pause": 0.5, "workers": []}


def say(run, silent=0.0, usage=None, **status):
    """Change what a run says of itself, some time ago."""
    file = run / "status.json"
    known = json.loads(file.read_text())
    known.pop("crc32")
    file.write_text(sealed_json(known | status))
    if usage is not None:
        (run / "usage.json").write_text(sealed_json(uses() | usage))
    written = file.stat().st_mtime - silent
    for name in ("status.json", "metrics.jsonl"):
        os.utime(run / name, (written, written))


def plant(folder, name, state, step=100, lock=None, **config):
    run = write_run(folder, name, {"test_accuracy": [0.25, 0.75]}, state=state, step=step, **config)
    if state == "waiting":
        for file in ("status.json", "metrics.jsonl", "topology.csv"):
            (run / file).unlink()
    write_record(folder, sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if lock is not None:
        (folder / ".lock").write_text(lock)
    return run


def states(folder):
    return {run.name: run.state for run in look(folder)[0]}


ALIVE, GONE = f"process {os.getpid()} on {HERE}\n{start_of(os.getpid())}\n", f"process {NOBODY} on {HERE}\n1\n"
LATER = f"process {os.getpid()} on {HERE}\n1\n"
"""A process that has got the number of one that is gone."""


@pytest.mark.parametrize(
    ("left", "found"),
    [
        (ALIVE, {"running": "running", "waiting": "waiting", "interrupted": "waiting", "paused": "paused"}),
        (GONE, {"running": "dead", "waiting": "dead", "interrupted": "dead", "paused": "dead"}),
        (LATER, {"running": "dead", "waiting": "dead", "interrupted": "dead", "paused": "dead"}),
        ("", {"running": "dead", "waiting": "interrupted", "interrupted": "interrupted", "paused": "paused"}),
    ],
    ids=["alive", "gone", "later", "free"],
)
def test_the_state_of_a_run_depends_on_whether_somebody_works_on_it(tmp_path, left, found):
    ended = ("done", "diverged", "failed")
    for name in (*found, *ended):
        plant(tmp_path, name, name, lock=left)
    assert states(tmp_path) == found | {name: name for name in ended}
    (tmp_path / "done" / "status.json").write_text("{")
    assert states(tmp_path)["done"] == "damaged"


def test_a_process_on_another_machine_has_ended_if_it_no_longer_renews_its_lock(tmp_path):
    plant(tmp_path, "far", "running", lock="process 7 on another-machine\n123\n")
    plant(tmp_path, "later", "waiting")
    assert states(tmp_path) == {"far": "running", "later": "waiting"}
    seen = (tmp_path / ".lock").stat().st_mtime - 900
    os.utime(tmp_path / ".lock", (seen, seen))
    assert states(tmp_path) == {"far": "dead", "later": "dead"}


@pytest.mark.parametrize("last", [ALIVE, GONE], ids=["alive", "gone"])
def test_jobs_that_share_a_folder_lock_their_runs(tmp_path, last):
    """The folder's lock names the job that came last, which says nothing about the runs of others."""
    said = {"mine": "running", "lost": "running", "left": "interrupted", "later": "waiting"}
    locks = {"mine": ALIVE, "lost": GONE, "left": ""}
    for name, state in said.items():
        run = plant(tmp_path, name, state, lock=f"{last}shared\n")
        if name in locks:
            (run / ".lock").write_text(locks[name])
    assert states(tmp_path) == said | {"lost": "dead", "left": "waiting"}
    index = StudyIndex(tmp_path)
    index.refresh(99)
    entries = {entry.path.name: entry for entry in index.entries()}
    assert abandoned(index, entries.values()) == [entries["lost"].number]
    assert worker_of(index, entries["lost"]).startswith(f"nobody: process {NOBODY} on {HERE} has ended")

    (tmp_path / "mine" / ".lock").write_text("")  # the end of the last job, which has stopped this run
    say(tmp_path / "mine", state="interrupted")
    (tmp_path / ".lock").write_text(f"{GONE}shared\n")
    assert states(tmp_path) == {"mine": "interrupted", "lost": "dead", "left": "interrupted", "later": "interrupted"}

    (tmp_path / ".lock").write_text(ALIVE)  # a job for all runs locks none of them
    assert states(tmp_path) == {"mine": "waiting", "lost": "running", "left": "waiting", "later": "waiting"}


def test_the_experiment_that_has_changed_last_comes_first(tmp_path):
    for place, silent in (("a/run", 100), ("z/new", 0), ("z/old", 500)):
        folder, name = place.split("/")
        say(plant(tmp_path / folder, name, "done"), silent)
    assert [run.name for run in look(tmp_path)[0]] == ["z/new", "z/old", "a/run"]


def test_a_run_that_is_silent_for_much_longer_than_ever_is_named(tmp_path):
    run = plant(tmp_path, "here", "running", lock=ALIVE)
    for pause, silent, said in ((0.5, 100, ""), (0.5, 900, "no sign of life for 9"), (60.0, 900, "")):
        say(run, silent, usage={"longest_pause": pause})
        ((found,), _) = look(tmp_path)
        assert found.state == "running" and found.why.startswith(said) and bool(found.why) == bool(said)


def test_the_lock_names_its_holder_and_is_renewed(tmp_path, monkeypatch):
    assert holder_of(tmp_path) is None
    renewed = threading.Event()
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(lock.os, "utime", lambda *_: renewed.set())
    with locked(tmp_path):
        holder = holder_of(tmp_path)
        assert (holder.process, holder.host, holder.start) == (os.getpid(), HERE, start_of(os.getpid()))
        assert not holder.has_ended() and renewed.wait(HANGS) and not holder.shared
    assert holder_of(tmp_path) is None
    with locked(tmp_path, shared=True):
        assert holder_of(tmp_path).shared
    (tmp_path / ".lock").write_text(f"process 7 on {HERE}")
    assert str(holder_of(tmp_path)) == f"process 7 on {HERE}" and holder_of(tmp_path).start == "", "as of old"
    assert not Holder(os.getpid(), HERE, "", 0.0).has_ended() and Holder(10**30, HERE, "", 0.0).has_ended()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = Holder(child.pid, HERE, start_of(child.pid), 0.0)
    assert not holder.has_ended()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert holder.has_ended(), "nobody has asked for its status, but it has ended"
    child.communicate()
    assert holder.has_ended()


def test_exit_statuses_and_what_is_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 2 and "DIR: runs is no folder" in capsys.readouterr().err
    Path("runs").mkdir()
    assert main(["status"]) == 2 and "holds no runs" in capsys.readouterr().err
    old, new = tmp_path / "runs" / "old", tmp_path / "runs" / "new"
    say(plant(old, "one", "done"), 1_000)
    assert main(["status"]) == 0 and "│ done" in capsys.readouterr().out
    plant(new, "two", "diverged")
    assert main(["status"]) == 0
    found = capsys.readouterr()
    assert "│" not in found.out and found.err == "2 finished runs not listed; --all lists all\n"
    assert main(["status", "--all", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["new/two", "old/one"]
    bad = plant(new, "three", "failed", step=7)
    say(bad, error="no room")
    assert main(["status"]) == 1
    found = capsys.readouterr()
    assert "7 of 100" in found.out and "new/three: failed: no room\n" in found.err
    plant(new, "four", "interrupted")
    assert main(["status", "runs/new"]) == 4
    go_on = "basinet run runs/new/experiment.yaml --out runs/new"
    assert capsys.readouterr().err.endswith(f"{new}: 1 interrupted. To go on: {go_on}\n")
    say(bad, goes_on=True)  # it has lost a rank
    assert main(["status", "runs/new"]) == 4
    assert capsys.readouterr().err.endswith(f"{new}: 1 interrupted, 1 failed. To go on: {go_on}\n")
    (new / ".lock").write_text(GONE)
    assert main(["status"]) == 4
    assert f"{new}: 1 dead, 1 failed (process {NOBODY} on {HERE} has ended without" in capsys.readouterr().err
    (new / ".lock").write_text(ALIVE)
    assert main(["status"]) == 3 and "To go on" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "runtime", "hosts", "begins"),
    [
        ({}, "inline", "a", "basinet"),
        ({}, "ray", "ab", "basinet"),
        ({}, "torchrun", "aaa", "torchrun --standalone --nproc_per_node=3 -m basinet"),
        ({}, "torchrun", "ab", None),  # by what started them on both machines
        ({"objects": ["model"]}, "inline", "a", None),
    ],
)
def test_how_to_go_on(tmp_path, capsys, record, runtime, hosts, begins):
    folder = tmp_path / "of mine"
    run = plant(folder, "one", "interrupted", runtime={"name": runtime})
    say(run, usage={"workers": [worker(rank, 0.1, 0.05, host=host) for rank, host in enumerate(hosts)]})
    (folder / "experiment.yaml").write_text(sealed_yaml({"runs": ["one"]} | record))
    words = f"{begins} {shlex.join(['run', f'{folder}/experiment.yaml', '--out', str(folder)])}"
    assert main(["status", str(folder)]) == 4
    said = capsys.readouterr().err
    assert said.endswith(f"To go on: {words if begins else 'give the command that began it again'}\n")


def test_runs_of_stages_and_of_a_search_belong_to_one_command(tmp_path):
    staged = plant(tmp_path / "staged" / "2-tuned", "one", "interrupted")
    (tmp_path / "staged" / "pipeline.yaml").write_text(sealed_yaml({"runs": ["2-tuned"]}))
    sought = plant(tmp_path / "sought" / "tuning" / "1-given", "one", "paused", step=50)
    (tmp_path / "sought" / ".lock").write_text(ALIVE)
    runs, _ = look(tmp_path)
    assert {run.folder: (run.experiment, run.attended) for run in runs} == {
        staged: (tmp_path / "staged", False),
        sought: (tmp_path / "sought", True),
    }


def planted_workers(folder):
    """A run that has taken 60 of 100 steps from step 20 on, in 8 s, on two workers."""
    run = plant(folder, 'odd "name"', "running", step=60, lock=ALIVE)
    say(run, usage={"workers": [worker(0, 0.2, 0.15, 4_000), worker(1, 0.2, 0.05, 12_000, host="node2")]})
    return run


def test_time_left_and_the_slowest_worker(tmp_path, capsys):
    run = planted_workers(tmp_path)
    assert main(["status", str(run), "--json"]) == 3
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["seconds_left"], row["sent_per_second"]) == (8.0, 2_000.0)  # 40 steps of 0.2 s
    assert (row["metric"], row["value"]) == ("test_accuracy", 0.5)
    assert main(["status", str(run)]) == 3
    (runs, workers) = (table.split("\n") for table in re.split(r"\n(?=┏)", capsys.readouterr().out.strip())[-2:])
    said = " ".join(runs)
    for cell in ("60 of 100", "0:00:08", " 0.5 ", "200 ms", "50 %", "2.0 kB/s", "1.1 GB", "1 on node2"):
        assert cell in said
    assert "75 %" in workers[3] and "node2" in workers[4]


LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\{{({LABEL}(?:,{LABEL})*)\}} (\S+)")


def test_the_file_for_prometheus_keeps_to_its_grammar(tmp_path, capsys):
    planted_workers(tmp_path / "back\\slash")
    plant(tmp_path / "other", "two", "failed", step=7)
    assert main(["status", str(tmp_path), "--prometheus", str(tmp_path / "runs.prom"), "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)) == 2
    text = (tmp_path / "runs.prom").read_text()
    assert text.endswith("\n") and [path.name for path in tmp_path.glob("*prom*")] == ["runs.prom"]
    kinds, found, families = {}, {}, []
    for line in text.splitlines():
        if line.startswith("#"):
            word, name, rest = line.removeprefix("# ").split(" ", 2)
            if word == "TYPE":
                assert rest in ("gauge", "counter") and (rest == "counter") == name.endswith("_total")
                kinds[name] = rest
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name in kinds and (name, labels) not in found, "each type comes first, and each sample once"
            families.append(name)
            found[name, labels] = float(value)
    changes = [name for before, name in pairwise(["", *families]) if name != before]
    assert len(changes) == len(set(changes)), "samples of a family stand together"
    odd = r'run="back\\slash/odd \"name\""'
    assert found["basinet_run_state", f'{odd},state="running"'] == 1
    assert found["basinet_run_state", 'run="other/two",state="failed"'] == 1
    assert found["basinet_run_step", 'run="other/two"'] == 7 and found["basinet_run_steps", 'run="other/two"'] == 100
    assert found["basinet_run_metric", f'{odd},metric="test_accuracy"'] == 0.5
    second = f'{odd},worker="1",host="node2"'
    assert found["basinet_run_sent_bytes_total", second] == 12_000
    assert found["basinet_run_step_seconds", second] == 0.2 and found["basinet_run_waiting_seconds", second] == 0.05
    assert prometheus_text([]) == ""


def test_a_killed_run_is_dead_and_its_command_goes_on(tmp_path, capsys, monkeypatch, processes):
    monkeypatch.chdir(tmp_path)
    tiny = {"task": {"name": "digits", "train_size": 60}, "model": {"name": "mlp", "hidden": [4]}, "batch_size": 4}
    tiny |= {"topology": {"name": "ring", "agents": 4}, "steps": 3_000_000, "evaluate_every": 100, "replicas": 1}
    Path("e.yaml").write_text(yaml.safe_dump(tiny | {"strategy": ["diffusion", "consensus"], "analysis": []}))

    def reached():
        """Return the steps that the first run has reached."""
        try:
            return next(run.step for run in look(Path("out"))[0] if run.name == "diffusion-atc")
        except (ValueError, StopIteration):  # there are none yet
            return 0

    run = processes.start(main, ["run", "e.yaml", "--out", "out", "--quiet"])
    saved = [Path("out/diffusion-atc") / name for name in ("checkpoint/state.safetensors", "usage.json")]
    processes.wait_until(lambda: all(file.exists() for file in saved) and reached())
    assert main(["status", "out", "--json"]) == 3
    first, second = json.loads(capsys.readouterr().out)
    assert {first["name"]: first["state"], second["name"]: second["state"]} == {
        "consensus": "waiting",
        "diffusion-atc": "running",
    }
    (alone,) = second["workers"]
    assert alone["rank"] == 0 and alone["host"] == HERE and alone["memory_bytes"] > 2**20
    assert alone["step_seconds"] > 0 and alone["waiting_seconds"] == 0 == alone["sent_bytes"]
    assert second["seconds_left"] > 0
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert main(["status", "out"]) == 4
    said = capsys.readouterr().err
    assert f"2 dead (process {run.pid} on {HERE} has ended" in " ".join(said.split())
    step = reached()
    words = shlex.split(said.rpartition("To go on: basinet ")[2])
    processes._all.remove(run)
    processes.start(main, words)
    processes.wait_until(lambda: reached() > step)
    assert main(["status", "out"]) == 3


def test_the_meter_measures_the_steps_since_an_evaluation(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(usage_meter.time, "perf_counter", lambda: now[0])
    channel = SimpleNamespace(waiting_seconds=3.0, wire_bytes=7)
    block = SimpleNamespace(step=10, channel=channel, x=torch.zeros(2))

    def advance(until):
        taken, block.step = until - block.step, until
        now[0] += 0.25 * taken
        channel.waiting_seconds += 0.125 * taken
        channel.wire_bytes += 100 * taken

    block.advance = advance
    meter = usage_meter.UsageMeter(block, 1)

    def read():
        found = meter.read()
        return found["step_seconds"], found["waiting_seconds"], found["sent_bytes"]

    assert read() == (None, None, 7)
    meter.advance(12)
    now[0] += 50  # what is done between steps
    meter.advance(14)
    assert read() == (0.25, 0.125, 407)
    channel.waiting_seconds += 9  # the evaluation
    meter.begin_anew()
    assert read() == (0.25, 0.125, 407), "the last mean stays until there are new steps"
    block.advance = lambda until: (advance(until), now.__setitem__(0, now[0] + 1))
    meter.advance(16)
    assert read() == (0.75, 0.125, 607)


def test_a_run_records_how_it_gets_on(tmp_path, monkeypatch):
    now = iter([5.0, 7.0, 15.0, 16.0])
    monkeypatch.setattr(usage_record, "time", SimpleNamespace(monotonic=lambda: next(now), time=lambda: 1_000.0))
    assert load_usage(tmp_path) == {}
    record = usage_record.UsageRecord(tmp_path)
    told = []
    for step in (40, 41, 42, 50):
        record.write(step, [{"rank": 0}])
        told.append(load_usage(tmp_path))
    first = {"step": 40, "from_step": 40, "began": 1_000.0, "seconds": 0.0, "longest_pause": 0.0}
    assert told[0] == first | {"workers": [{"rank": 0}]}
    assert told[-1] == told[0] | {"step": 50, "seconds": 11.0, "longest_pause": 8.0}
    (tmp_path / "usage.json").write_text("{")
    assert load_usage(tmp_path) == {}, "a run does not need it"


def test_small_work_should_be_done_by_one_process():
    big = [worker(0, 0.1, 0.02), worker(1, 0.1, 0.03)]  # alone: 0.15 s
    assert alone_instead({"big": big, "alone": big[:1], "none": [], "new": [worker(0, None, None)] * 2}) is None
    small = [worker(0, 0.004, 0.0036), worker(1, 0.004, 0.003)]  # alone: 1.4 ms
    assert alone_instead({"big": big, "small": small}) == (
        "small: its 2 workers wait for each other in 82 % of each step of 4 ms; one process would take about 1.4 ms:"
        " give runtime.name=inline"
    )
    four = [worker(rank, 0.004, 0.0024) for rank in range(4)]
    assert alone_instead({"four": four}) is None, "they wait in 60 % of a step, but compute for 6.4 ms together"
    smaller = [worker(rank, 0.004, 0.0039) for rank in range(2)]
    assert alone_instead({"a": small, "b": smaller}).startswith("b: its 2 workers")
    assert alone_instead({"a": small, "b": smaller}).endswith("(and so for 1 more of these runs)")
