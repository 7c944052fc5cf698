"""Studies without training, and a server that is asked about them."""

import http.client
import json
import shutil
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from basinet.launch.serve.watch_server import WatchServer
from basinet.sim.run.files import GrowingFile, sealed_json, sealed_yaml
from basinet.sim.run.records import lines_of

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


def plant(folder, rows=(), *, state="done", strategy="diffusion", lr=0.1, batch_size=16, agents=3, **status):
    """Write the folder of a run without training."""
    folder.mkdir(parents=True)
    replicas = len({row["replica"] for row in rows}) or 1
    config = {
        "task": {"name": "digits"},
        "strategy": {"name": strategy},
        "optimizer": {"name": "sgd", "lr": lr},
        "topology": {"name": "ring", "agents": agents},
        "batch_size": batch_size,
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


def damage_status(run):
    (run / "status.json").write_text("{")


def link_out(run):
    outside = run.parents[2] / "outside"
    shutil.move(run, outside)
    run.symlink_to(outside)
