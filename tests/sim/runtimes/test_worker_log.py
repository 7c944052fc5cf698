"""What workers print is in the run's folder, and what they need is sent along."""

import logging
import os
import re
import socket
import sys
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from basinet.sim.experiment.component import ExperimentError, look_in
from basinet.sim.runtimes import worker_log
from basinet.sim.runtimes.on_ray import ray_cluster, ray_losses
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.runtimes.worker_log import WorkerLog, keep_collected


def speak(text):
    print(f"{text} of Python")
    os.write(1, f"{text} of the system\n".encode())
    print(f"{text}, an error", file=sys.stderr)
    logging.getLogger("speaks").warning("%s, a warning", text)


def test_a_log_has_what_a_process_prints_until_it_is_closed_and_grows(tmp_path, capfd, monkeypatch):
    # As in a process of its own: pytest puts streams of its own in their place.
    for number, name in ((1, "stdout"), (2, "stderr")):
        monkeypatch.setattr(sys, name, os.fdopen(number, "w", closefd=False))
    for text in ("first", "second"):
        speak("before")
        log = WorkerLog(tmp_path, 1)
        speak(text)
        try:
            raise ArithmeticError(f"the {text} is too much")
        except ArithmeticError:
            log.failed()
        assert f"{text} of Python" in (tmp_path / "worker-1.log").read_text()  # if it is killed now
        assert not log.is_far and log.collected() == ""
        log.close()
        log.close()
    speak("after")
    shown = "".join(capfd.readouterr())
    assert "first" not in shown and "second" not in shown and shown.count("of the system") == 3

    lines = (tmp_path / "worker-1.log").read_text().splitlines()
    assert [line.split(", ")[0] for line in lines if line.startswith("---")] == [
        f"--- worker 1: process {os.getpid()} on {socket.gethostname()}"
    ] * 2
    for text in ("first", "second"):
        assert {f"{text} of Python", f"{text} of the system", f"{text}, an error"} <= {*lines}
        assert f"ArithmeticError: the {text} is too much" in lines
    assert not any("before" in line or "after" in line for line in lines)


def test_the_log_of_the_process_that_leads_is_a_copy(tmp_path, capsys):
    log = WorkerLog(tmp_path, 0, leads=True)
    speak("now")
    log.close()
    speak("later")
    shown = capsys.readouterr()
    assert shown.out == "now of Python\nlater of Python\n" and "now, an error" in shown.err  # where progress is shown
    assert (tmp_path / "worker-0.log").read_text().splitlines()[1:] == ["now of Python", "now, a warning"]


def test_the_log_of_a_machine_that_does_not_see_the_folder_is_collected_piece_by_piece(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(worker_log, "_MOST", 1000)
    for number, name in ((1, "stdout"), (2, "stderr")):
        monkeypatch.setattr(sys, name, os.fdopen(number, "w", closefd=False))
    log = WorkerLog(tmp_path / "nowhere", 1)
    assert log.is_far
    for text in ("first", "second", "x" * 2000):
        speak(text)
        keep_collected(tmp_path, ["", log.collected()])
    assert log.collected() == ""
    log.close()
    assert log.collected() == "" and "first" not in "".join(capfd.readouterr())
    (file,) = tmp_path.iterdir()
    lines = file.read_text().splitlines()
    assert file.name == "worker-1.log" and lines[0].startswith(f"--- worker 1: process {os.getpid()} on ")
    for text in ("first", "second"):
        assert lines.count(f"{text} of Python") == lines.count(f"{text} of the system") == 1
    assert re.fullmatch(r"--- [\d,]+ bytes are left out", lines[-2]) and lines[-1].startswith("xxx")


def test_a_cluster_gets_the_environment_and_the_modules_of_the_user(tmp_path, monkeypatch):
    asked = []
    fake = SimpleNamespace(
        is_initialized=lambda: False,
        shutdown=lambda: None,
        init=lambda *_, **given: asked.append(given["runtime_env"]),
        _private=SimpleNamespace(worker=SimpleNamespace()),
    )
    monkeypatch.setattr(ray_cluster, "ray", fake)
    monkeypatch.setattr(ray_cluster, "_say_less", lambda: None)
    (tmp_path / "basinettest_sent.py").write_text("import basinettest_beside.part")
    (tmp_path / "basinettest_beside").mkdir()
    for name in ("__init__", "part"):
        (tmp_path / "basinettest_beside" / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    look_in(tmp_path)
    __import__("basinettest_sent")
    sent = [str(tmp_path / name) for name in ("basinettest_beside", "basinettest_sent.py")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with ray_cluster.cluster({"pip": ["einops"], "py_modules": ["mine"]}):
            pass
    (env,) = asked
    assert env["pip"] == ["einops"] and env["py_modules"][0] == "mine" and {*sent} <= {*env["py_modules"]}
    assert not any("site-packages" in module or "basinet/sim" in module for module in env["py_modules"])

    monkeypatch.delenv("RAY_ADDRESS")  # here, they are where they are
    with ray_cluster.cluster({"env_vars": {"A": "3"}}):
        pass
    assert asked[1:] == [{"env_vars": {"A": "3"}}]

    fake.is_initialized = lambda: True
    with ray_cluster.cluster():
        pass
    with (
        pytest.raises(ExperimentError, match=r"runtime.env: Ray has been initialized in this process"),
        ray_cluster.cluster({"pip": []}),
    ):
        pass


def test_an_environment_is_for_actors_and_one_for_all(make_setup):
    env = {"env_vars": {"A": 3}}
    ray = make_setup(trial=False, runtime={"name": "ray", "env": env})
    runtime_of(ray.config.runtime).check(ray)
    assert ray.config.describe()["runtime"]["env"]["env_vars"] == {"A": "3"}
    inline = make_setup(trial=False, runtime={"env": env})
    with pytest.raises(ExperimentError, match=r"runtime.env: the workers of runtime.name=inline"):
        runtime_of(inline.config.runtime).check(inline)
    other = make_setup(trial=False, runtime={"name": "ray"})
    for env, wrong in (
        ({"working_dir": "/nowhere"}, r"runtime.env.working_dir: /nowhere does not exist here"),
        ({"py_modules": ["s3://mine/x.zip", "/nowhere"]}, r"runtime.env.py_modules: /nowhere does not exist here"),
    ):
        config = make_setup(trial=False, runtime={"name": "ray", "env": env})
        with pytest.raises(ExperimentError, match=wrong):
            runtime_of(config.config.runtime).check(config)
    with pytest.raises(ExperimentError, match=r"runtime.env: got pip and conda; allowed is one of pip, uv and conda"):
        make_setup(trial=False, runtime={"name": "ray", "env": {"pip": ["a"], "conda": "b"}})
    with pytest.raises(ExperimentError, match=r"runtime.env: it differs among the runs"):
        type(runtime_of(ray.config.runtime)).carry_out([], [ray.config.runtime, other.config.runtime])


def test_an_actor_that_cannot_be_set_up_is_explained_in_a_sentence(monkeypatch):
    def get(*_, **__):
        raise ActorDiedError(RayTaskError("Actor.__init__", "ray::Actor()\nImportError: no mine", ImportError()))

    monkeypatch.setattr(ray_losses.ray, "get", get)
    with pytest.raises(RuntimeError, match=r"^an actor cannot be set up: ImportError: no mine$"):
        ray_losses.answers([])
