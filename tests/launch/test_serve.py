"""The local page: what its server answers, from folders that are planted or change while they are read."""

import http.client
import json
import os
import shutil
import socket
import threading
from contextlib import contextmanager
from statistics import fmean, stdev
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
import torch

from basinet.launch.cli import main
from basinet.launch.serve.growing_metrics import GrowingMetrics, last_values
from basinet.launch.serve.page_curves import curves
from basinet.launch.serve.page_details import abandoned, worker_of
from basinet.launch.serve.study_index import StudyIndex
from basinet.launch.serve.watch_server import WatchServer
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import Damaged, GrowingFile, sealed_json, sealed_yaml
from basinet.sim.run.folder import load_run
from basinet.sim.run.records import lines_of
from basinet.sim.run.trajectory import TrajectoryWriter
from tests.browser import CHROMIUM, Browser

HOSTILE = "<img src=x onerror=alert(1)>&\"'"


def rows_of(evaluations, replicas=2, every=10, seed=0):
    """Rows as a run writes them."""
    draws = np.random.default_rng(seed)
    return [
        {
            "step": every * evaluation,
            "replica": replica,
            "epoch": evaluation / 2,
            "train_loss": float(2 / (1 + evaluation) + draws.uniform(0, 0.1)),
            "test_accuracy": float(draws.uniform(0.5, 1)),
        }
        for evaluation in range(evaluations)
        for replica in range(replicas)
    ]


def plant(folder, rows=(), *, state="done", strategy="diffusion", lr=0.1, agents=3, **status):
    """Write the folder of a run without training."""
    folder.mkdir(parents=True)
    replicas = len({row["replica"] for row in rows}) or 1
    config = {
        "task": {"name": "digits"},
        "strategy": {"name": strategy},
        "optimizer": {"name": "sgd", "lr": lr},
        "topology": {"name": "ring", "agents": agents},
        "steps": 50,
        "replicas": replicas,
    }
    (folder / "config.yaml").write_text(sealed_yaml(config))
    if state != "waiting":
        (folder / "metrics.jsonl").write_bytes(lines_of(rows))
        files = {"metrics.jsonl": GrowingFile(folder / "metrics.jsonl").vouch()}
        step = max((row["step"] for row in rows), default=0)
        known = {"state": state, "step": step, "steps": 50, "replicas": replicas, "agents": agents, "files": files}
        (folder / "status.json").write_text(sealed_json(known | status))
        weights = "".join(f"{k},{(k + d) % agents},{1 / 3}\n" for k in range(agents) for d in (-1, 0, 1))
        (folder / "topology.csv").write_text(f"receiver,sender,weight\n{weights}")
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two studies: one of diffusion and consensus, one that is in progress."""
    for place, strategy in enumerate(("diffusion", "consensus")):
        plant(tmp_path / "runs" / "first" / strategy, rows_of(6, seed=place), strategy=strategy)
    (tmp_path / "runs" / "first" / "experiment.yaml").write_text(sealed_yaml({"runs": ["diffusion", "consensus"]}))
    plant(tmp_path / "runs" / "second" / "now", rows_of(3), state="running")
    plant(tmp_path / "runs" / "second" / "next", state="waiting")
    return tmp_path / "runs"


@contextmanager
def serving(folder, host="127.0.0.1"):
    with WatchServer(folder, host, 0) as server:
        server.index.age = 0.0
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(runs):
    with serving(runs) as found:
        yield found


def ask(server, path, method="GET", **headers):
    """Send a request as it stands, whatever it holds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    read = json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content
    return SimpleNamespace(status=answer.status, headers=answer.headers, content=read)


def listing(server, since=0):
    return ask(server, f"/api/runs?since={since}").content


def test_runs_are_listed_with_their_state_keys_and_last_values(server, runs):
    found = {run["id"]: run for run in listing(server)["runs"]}
    assert {name: run["state"] for name, run in found.items()} == {
        "first/consensus": "done",
        "first/diffusion": "done",
        "second/next": "waiting",
        "second/now": "running",
    }
    assert found["first/diffusion"]["study"] == "first" and found["second/now"]["step"] == 20
    assert found["first/consensus"]["config"]["strategy.name"] == "consensus"
    final = load_run(runs / "first" / "consensus").final("train_loss").values()
    assert found["first/consensus"]["finals"]["train_loss"] == pytest.approx([fmean(final), stdev(final), 2], rel=1e-3)


def test_only_what_has_changed_is_listed_again(server, runs):
    before = listing(server)
    assert listing(server, before["version"])["runs"] == []
    with open(runs / "second" / "now" / "metrics.jsonl", "ab") as file:
        file.write(lines_of([{"step": 30, "replica": 0, "train_loss": 0.125, "epoch": 1.5}]))
    shutil.rmtree(runs / "first" / "diffusion")
    after = listing(server, before["version"])
    (run,) = after["runs"]
    assert run["id"] == "second/now" and len(after["numbers"]) == 3
    assert ask(server, f"/api/run?run={before['runs'][1]['number']}").status == 404


@pytest.mark.parametrize("asked", ["runs", "first", "first/diffusion"])
def test_a_folder_of_studies_a_study_and_a_run_can_be_served(runs, asked):
    with serving(runs if asked == "runs" else runs / asked) as server:
        found = listing(server)
    assert len(found["runs"]) == {"runs": 4, "first": 2}.get(asked, 1) and not found["problems"]


def damage_status(run):
    (run / "status.json").write_text("{")


def damage_config(run):
    (run / "config.yaml").write_text("# crc32 00000000 of what follows\na: 1\n")


def lose_config(run):
    (run / "config.yaml").unlink()


def damage_line(run):
    content = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(content.replace(b'"train_loss"', b"train_loss", 9))


def damage_number(run):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 20,', b'"step": ' + b"9" * 40 + b","))


def link_out(run):
    outside = run.parents[2] / "outside"
    shutil.move(run, outside)
    run.symlink_to(outside)


@pytest.mark.parametrize("damage", [damage_status, damage_config, lose_config, damage_line, link_out])
def test_what_cannot_be_read_is_named_and_the_rest_is_shown(server, runs, damage):
    damage(runs / "first" / "diffusion")
    found = listing(server)
    states = {run["id"]: run["state"] for run in found["runs"]}
    assert states["first/consensus"] == "done" and states.get("first/diffusion", "damaged") == "damaged"
    (problem,) = found["problems"]
    assert str(runs / "first" / "diffusion") in problem and "\n" not in problem


def lose_rows(run):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-200] + lines_of(rows_of(6)[-1:]))


@pytest.mark.parametrize("damage", [lose_rows, damage_number])
def test_lost_measurements_are_named_beside_the_curves(server, runs, damage):
    path = runs / "first" / "diffusion" / "metrics.jsonl"
    damage(path.parent)
    listing(server)
    found = ask(server, "/api/curves?metric=train_loss&groups=0;1").content
    assert [len(curve["x"]) for curve in found["curves"]] == [6, 0]
    (problem,) = found["problems"]
    assert str(path) in problem


# Files that grow


def same(metrics, folder, *names):
    run = load_run(folder)
    for name in names:
        found = metrics.series(name, "step")
        assert {replica: (s.tolist(), v.tolist()) for replica, (s, _, v) in found.items()} == run.series(name)


@pytest.mark.parametrize("spaces", [True, False])
def test_a_file_is_read_as_it_grows_whatever_the_pieces(tmp_path, spaces):
    rows = rows_of(40)
    later = [{"step": step, "replica": r, "hessian_trace": 1.0 + step + r} for step in (100, 390) for r in (0, 1)]
    agents = [{"step": 390, "replica": 0, "agent": k, "train_loss": 0.5} for k in range(3)]
    content = lines_of([*rows, *later[:2], *agents, *later[2:]])
    if not spaces:  # as runs never write it
        content = content.replace(b": ", b":")
    folder = plant(tmp_path / "run")
    (folder / "status.json").write_text(sealed_json({"state": "running", "step": 0}))
    metrics = GrowingMetrics(folder)
    for place in range(0, len(content), 997):  # which ends within lines
        with open(folder / "metrics.jsonl", "ab") as file:
            file.write(content[place : place + 997])
        metrics.read()
    same(metrics, folder, "train_loss", "hessian_trace", "epoch")
    # What the analysis adds has no epoch of its own.
    assert metrics.series("hessian_trace", "epoch")[1][1].tolist() == [5.0, 19.5]
    assert {name: last_values(folder, 2)[name] for name in ("train_loss", "hessian_trace")} == {
        name: load_run(folder).final(name) for name in ("train_loss", "hessian_trace")
    }


@pytest.mark.parametrize("change", ["cut and continued", "replaced", "deleted"])
def test_a_file_that_was_cut_or_replaced_is_read_again(tmp_path, change):
    folder = plant(tmp_path / "run", rows_of(20))
    metrics = GrowingMetrics(folder)
    metrics.read()
    path = folder / "metrics.jsonl"
    (folder / "status.json").write_text(sealed_json({"state": "running", "step": 0}))
    other = lines_of(rows_of(30, seed=1))
    if change == "replaced":
        (folder / "new").write_bytes(other)
        os.replace(folder / "new", path)
    elif change == "deleted":
        path.unlink()
    else:
        with open(path, "r+b") as file:
            file.truncate(len(other) // 3)
            file.seek(0, 2)
            file.write(b"\n" + other)
    if change == "cut and continued":
        with pytest.raises(Damaged, match="line"):  # the cut line is still there
            metrics.read()
        path.write_bytes(other)
    metrics.read()
    same(metrics, folder, "train_loss")


def test_long_files_are_thinned_to_every_so_many_evaluations(tmp_path):
    rows = rows_of(3001, replicas=2, every=1)
    folder = plant(tmp_path / "run", rows)
    pieces, whole = GrowingMetrics(folder), GrowingMetrics(folder)
    content = (folder / "metrics.jsonl").read_bytes()
    for end in (1000, 200_000, len(content)):
        (folder / "metrics.jsonl").write_bytes(content[:end])
        pieces.read()
    whole.read([GrowingFile(folder / "metrics.jsonl").vouch()])
    assert whole.every == pieces.every == 4
    for metrics in (whole, pieces):
        steps, _, values = metrics.series("train_loss", "step")[1]
        assert steps.tolist() == list(range(0, 3001, 4))
        assert values.tolist() == [row["train_loss"] for row in rows[1::2]][::4]


def test_measurements_are_checked_against_what_was_recorded(tmp_path):
    folder = plant(tmp_path / "run", rows_of(9))
    recorded = GrowingFile(folder / "metrics.jsonl").vouch()
    GrowingMetrics(folder).read([recorded])
    with pytest.raises(Damaged, match="missing or has changed"):
        GrowingMetrics(folder).read([{**recorded, "crc32": "00000000"}])
    with pytest.raises(Damaged, match="missing"):
        GrowingMetrics(folder).read([{**recorded, "bytes": recorded["bytes"] + 1}])


# Curves


def test_curves_are_means_and_deviations_over_the_replicas_of_a_group(runs):
    index = StudyIndex(runs)
    index.refresh(99)
    number = {entry.id: entry.number for entry in index.entries()}
    both = [number["first/diffusion"], number["first/consensus"]]
    found = curves(index, [both, [number["second/now"]], [99]], "train_loss", "epoch")
    one, two, none = found["curves"]
    every = [load_run(runs / "first" / name).series("train_loss") for name in ("diffusion", "consensus")]
    columns = list(zip(*(curve[1] for run in every for curve in run.values()), strict=True))
    assert one["x"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] and one["n"] == [4] * 6
    assert one["mean"] == pytest.approx(list(map(fmean, columns)), rel=1e-6)
    assert one["sd"] == pytest.approx(list(map(stdev, columns)), rel=1e-6)
    assert one["low"] == pytest.approx(list(map(min, columns)), rel=1e-6)
    assert len(two["x"]) == 3 and none["x"] == [] and found["pending"] == 0


def test_runs_measured_at_other_steps_are_interpolated_but_never_continued(tmp_path):
    for name, steps in (("a", (0, 10, 20)), ("b", (0, 20))):
        plant(tmp_path / name, [{"step": step, "replica": 0, "train_loss": step / 10} for step in (*steps, 30)[:3]])
    index = StudyIndex(tmp_path)
    index.refresh(99)
    (curve,) = curves(index, [[0, 1]], "train_loss")["curves"]
    assert curve["x"] == [0, 10, 20, 30] and curve["mean"] == [0, 1, 2, 3] and curve["n"] == [2, 2, 2, 1]


def test_diverged_replicas_are_left_out_and_a_slow_disk_gives_some_curves_first(tmp_path):
    for name in "abc":
        plant(tmp_path / name, rows_of(4), diverged={"1": 20})
    index = StudyIndex(tmp_path)
    while index.refresh(0.0):
        pass
    groups = [[0, 1], [2]]
    found = curves(index, groups, "train_loss", seconds=0.0)
    assert found["pending"] == 2 and [curve["n"][:1] for curve in found["curves"]] == [[1], []]
    found = curves(index, groups, "train_loss")
    assert [curve["n"] for curve in found["curves"]] == [[2] * 4, [1] * 4]


def test_values_that_overflow_are_left_out(tmp_path):
    rows = [
        {"step": 10 * k, "replica": r, "train_loss": 1.7e308 if k else 1.0, "gap": r} for k in (0, 1) for r in (0, 1)
    ]
    plant(tmp_path / "run", rows)
    with serving(tmp_path) as server:
        (run,) = listing(server)["runs"]
        (curve,) = ask(server, "/api/curves?metric=train_loss&groups=0").content["curves"]
    assert "train_loss" not in run["finals"] and run["finals"]["gap"] == [0.5, pytest.approx(0.7071, abs=1e-4), 2]
    assert curve["mean"] == [1.0, None] and curve["n"] == [2, 2]


# Agents, workers, logs


def test_agents_have_positions_labels_and_values_through_time(server, runs):
    folder = runs / "first" / "diffusion"
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(lines_of([{"step": 50, "replica": 1, "agent": k, "test_loss": k / 4} for k in (0, 2)]))
    (folder / "partition.csv").write_text("replica,agent,label,samples\n1,0,3,5\n1,2,7,6\n1,2,3,1\n0,1,9,9\n")
    (folder / "attackers.csv").write_text("replica,agent\n1,2\n")
    writer = TrajectoryWriter(folder, 10, 50)
    for frame in range(6):
        agents = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, frame]])
        writer.add(torch.zeros(2, 2), torch.cat([agents * 0, agents]))
    listing(server)
    found = ask(server, "/api/agents?run=1&replica=1").content
    assert len(found["positions"]) == 3 and found["attackers"] == [2] and len(found["edges"]) == 3
    assert found["labels"] == [3, 7] and found["mix"] == [[5, 0], [0, 0], [1, 6]]
    assert found["values"]["test_loss"] == {"steps": [50], "frames": [[0.0, None, 0.5]]}
    assert found["values"]["distance"]["steps"] == [0, 10, 20, 30, 40, 50]
    assert found["values"]["distance"]["frames"] == [[0.0, 5.0, float(frame)] for frame in range(6)]


def test_a_run_without_a_graph_says_so(server, runs):
    (runs / "first" / "diffusion" / "topology.csv").unlink()
    listing(server)
    answer = ask(server, "/api/agents?run=1")
    assert answer.status == 200 and "topology.csv" in answer.content["missing"]


def test_a_failed_run_shows_its_reason_its_traceback_and_the_ends_of_its_logs(server, runs):
    folder = plant(runs / "third" / "bad", rows_of(1), state="failed", error="no room", traceback="Traceback: …")
    (folder.parent / "slurm-1.out").write_bytes(b"x" * 100_000 + b"\xff the end")
    (folder.parent / "linked.log").symlink_to("/etc/passwd")
    (folder.parent / "report.html").write_text("<p>report</p>")
    (number,) = (run["number"] for run in listing(server)["runs"] if run["id"] == "third/bad")
    found = ask(server, f"/api/run?run={number}").content
    assert found["status"]["error"] == "no room" and found["traceback"] == "Traceback: …"
    assert any("no room" in sentence for sentence in found["incidents"])
    assert list(found["logs"]) == ["third/slurm-1.out"] and found["logs"]["third/slurm-1.out"].endswith("� the end")
    assert found["files"] == ["third/report.html"]


def test_who_works_on_a_run(runs):
    index = StudyIndex(runs)
    index.refresh(99)
    entries = {entry.id: entry for entry in index.entries()}
    now, lock = entries["second/now"], runs / "second" / ".lock"
    for holder, sentence, gone in (
        ("", "nobody: no process has locked the folder", True),
        (f"process {os.getpid()} on {socket.gethostname()}\n", f"process {os.getpid()} on", False),
        # more than a system numbers
        (f"process {2**22 + 1} on {socket.gethostname()}\n", f"nobody: process {2**22 + 1} on", True),
        ("process 1 on another-machine\n", "process 1 on another-machine", False),
    ):
        lock.write_text(holder)
        assert worker_of(index, now).startswith(sentence)
        assert abandoned(index, entries.values()) == ([now.number] if gone else [])
    assert worker_of(index, entries["first/diffusion"]) == "nobody: the run has ended (done)"


# Safety


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_is_answered(server, method):
    assert ask(server, "/api/runs", method).status == 405


def test_head_is_answered_without_content(server):
    answer = ask(server, "/", "HEAD")
    assert answer.status == 200 and answer.content == b""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "a b", "10.0.0.1"])
def test_foreign_names_are_refused(server, host):
    assert ask(server, "/api/runs", Host=host).status == 421
    assert ask(server, "/", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_names_of_this_machine_are_answered(server, host):
    assert ask(server, "/api/runs", Host=host).status == 200


def test_a_host_that_was_asked_for_is_known_and_names_of_others_never(runs):
    with serving(runs, "0.0.0.0") as server:
        assert server.is_open
        for host, status in (("192.0.2.7:80", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            assert ask(server, "/api/runs", Host=host).status == status


def test_other_sites_may_not_ask(server):
    assert ask(server, "/api/runs", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403
    answer = ask(server, "/api/runs", Origin="http://evil.example", Sec_Fetch_Site="same-origin")
    assert answer.status == 200 and not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/runs", "/nothing"])
def test_headers_confine_the_page(server, path):
    headers = ask(server, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


TRAVERSALS = [
    "/../secret/report.html",
    "/report/../secret/report.html",
    "/report/%2e%2e/secret/report.html",
    "/report/..%2fsecret%2freport.html",
    "/report//etc/passwd",
    "/report/first/linked/report.html",
    "/report/second/report.html",
    "/report/first/.hidden/report.html",
    "/report/first/diffusion/config.yaml",
    "/report/first/..\\..\\secret/report.html",
    "/report/%00/report.html",
    "/report/first/%ff/report.html",
    "/page/../watch_server.py",
    "/%2e%2e/watch_server.py",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_paths_lead_nowhere_else(server, runs, path):
    secret = runs.parent / "secret"
    secret.mkdir()
    (secret / "report.html").write_text("secret")
    (runs / "first" / "linked").symlink_to(secret)
    (runs / "second" / "report.html").symlink_to(secret / "report.html")
    (runs / "first" / ".hidden").mkdir()
    (runs / "first" / ".hidden" / "report.html").write_text("secret")
    answer = ask(server, path)
    assert answer.status in (403, 404) and "secret" not in json.dumps(answer.content.get("error"))


def test_reports_are_served_in_a_sandbox(server, runs):
    (runs / "first" / "report.html").write_text("<script>parent</script>")
    answer = ask(server, "/report/first/report.html")
    assert answer.status == 200 and answer.content == b"<script>parent</script>"
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy and "allow-same-origin" not in policy and "connect-src" not in policy


def test_a_run_that_becomes_a_link_while_it_is_watched_is_not_followed(server, runs):
    listing(server)
    link_out(runs / "first" / "diffusion")
    answer = ask(server, "/api/run?run=1")
    assert answer.status == 422 and "leads out of" in answer.content["error"]
    assert "first/diffusion" not in {server.index.entry(n).id for n in listing(server)["numbers"]}


@pytest.mark.parametrize(
    "query",
    ["run=-1", "run=x", "run=1&replica=1e9", f"run={'9' * 40}", "run=999", "run=%00"],
)
def test_wrong_requests_are_answered_in_a_sentence(server, query):
    answer = ask(server, f"/api/agents?{query}")
    assert answer.status in (400, 404) and answer.content["error"]


@pytest.mark.parametrize("groups", ["x", "0-999999", "1--2", "0,"])
def test_wrong_groups_are_answered_in_a_sentence(server, groups):
    assert ask(server, f"/api/curves?groups={quote(groups)}").status == 400


def test_many_connections_are_answered_one_after_another(server):
    open_ones = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        assert ask(server, "/api/runs").status == 200
    finally:
        for connection in open_ones:
            connection.close()


# The page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def page(browser, server, runs):
    """The page on runs of which one has a name that would be a script."""
    plant(runs / "first" / HOSTILE, rows_of(6), strategy=HOSTILE)
    browser.said.clear()
    yield SimpleNamespace(browser=browser, server=server, runs=runs, open=lambda hash: browser.open(server.url + hash))
    assert not browser.said
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_the_page_lists_runs_and_escapes_their_names(page):
    page.browser.look()
    damage_status(plant(page.runs / "first" / "damaged"))
    page.open("#view=runs")
    page.browser.wait("document.querySelectorAll('tbody tr').length === 6")
    page.browser.wait("document.querySelector('#side summary.problem')?.checkVisibility()")
    names = page.browser.run("[...document.querySelectorAll('td.name')].map(each => each.textContent)")
    assert f"first/{HOSTILE}" in names


CURVES = "document.querySelectorAll('#curves polyline.curve').length"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_curves_are_drawn_in_light_and_dark_on_screens_and_phones(page, width, dark):
    page.browser.look(width, 740, dark=dark)
    page.open("#view=curves&metric=train_loss&ylog=1&study=first")
    page.browser.wait(f"{CURVES} === 3")
    assert page.browser.run("document.querySelectorAll('#curves polygon.band').length") == 3
    assert page.browser.run("document.documentElement.scrollWidth") <= width
    ground = page.browser.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 60) == dark
    page.browser.run("document.getElementById('theme').click()")  # auto, light, dark
    assert page.browser.run("document.documentElement.dataset.theme") == "light"


def test_curves_grow_while_a_run_writes(page):
    page.browser.look()
    page.open("#view=curves&metric=train_loss&study=second")
    points = "document.querySelector('#curves polyline.curve')?.getAttribute('points').split(' ').length"
    page.browser.wait(f"{points} === 3")
    with open(page.runs / "second" / "now" / "metrics.jsonl", "ab") as file:
        file.write(lines_of(rows_of(5)[6:]) + b'{"step": 5')
    page.browser.wait(f"{points} === 5")


def test_other_views_show_points_agents_and_differences(page):
    page.browser.look()
    page.open("#view=scatter&study=first&xmetric=train_loss&ymetric=test_accuracy")
    page.browser.wait("document.querySelectorAll('#scatter .mark').length === 3")
    page.browser.run("document.querySelector('#scatter a').dispatchEvent(new Event('focus'))")
    page.browser.wait("document.querySelector('.tip')?.textContent.includes('replicas')")
    page.open("#view=compare&study=first")
    page.browser.wait("document.querySelector('#differences')?.textContent.includes('strategy.name')")
    page.open("#view=run&run=first/diffusion")
    page.browser.wait("document.body?.textContent.includes('nobody: the run has ended (done)')")
    with open(page.runs / "first" / "diffusion" / "metrics.jsonl", "ab") as file:
        for step in (20, 50):
            rows = [{"step": step, "replica": 0, "agent": k, "test_loss": k * step} for k in range(3)]
            file.write(lines_of(rows))
    page.open("#view=agents&run=first/diffusion")
    page.browser.wait("document.querySelectorAll('#agents .node').length === 3")
    colors = "JSON.stringify([...document.querySelectorAll('#agents .node')].map(each => each.style.fill))"
    before = page.browser.wait(colors)
    page.browser.run("document.querySelector('.player button').click()")  # from the last step to the first
    page.browser.wait(f"{colors} !== {before!r}")
    page.browser.wait(f"{colors} === {before!r}")  # and on to the last again


# The command


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    with WatchServer(tmp_path, port=0) as server:
        assert main(["serve", str(tmp_path), "--port", str(server.port)]) == 2
        assert "--port" in capsys.readouterr().err
    with pytest.raises(ExperimentError, match="--host"):
        WatchServer(tmp_path, "no.such.host.invalid", 0)
