"""Loggers receive each measurement once, whatever happens to the run; a function may stop it."""

import json
import logging
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest

import basinet
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment, parse_loggers
from basinet.sim.experiment.words import override
from basinet.sim.loggers import LOGGERS, Logger
from basinet.sim.run.listeners import Feeds, Listeners, readings
from basinet.sim.run.records import lines_of
from tests.processes import HANGS

TINY = {
    "task": {"name": "digits", "train_size": 32},
    "model": {"name": "mlp", "hidden": [3]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "isolated",
    "steps": 6,
    "evaluate_every": 2,
    "replicas": 2,
    "analysis": [],
    "runtime": {"engine": "stacked", "device": "cpu"},
}
ROWS = [
    {"step": step, "replica": replica, "train_loss": step + replica, "only_0": 1.0, **({"x": 2.0} if replica else {})}
    for step in (0, 5, 10)
    for replica in (0, 1)
]


class Kept:
    """Keeps what it receives, of each run by itself."""

    got: ClassVar[dict] = {}

    def __init__(self, run="all", identity="", fails_at=None):
        self.run, self.identity, self.fails_at = run, identity, fails_at
        self.received = self.got.setdefault((run, identity), [])

    def log(self, metrics, step):
        if step == self.fails_at:
            raise OSError("no room")
        self.received.append((step, dict(metrics)))

    def close(self):
        self.received.append("closed")


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(Kept, "got", {})
    return Kept.got


@pytest.fixture
def silent():
    quiet = dict.fromkeys(("started", "advanced", "waiting", "analyzing", "finished"), lambda *_: None)
    return SimpleNamespace(**quiet)


@contextmanager
def listening(monitor, out, *loggers):
    with Feeds(parse_loggers(loggers), out, several=True) as feeds:
        yield Listeners(monitor, out, feeds)


def journal(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("steps: 10\n")
    (folder / "metrics.jsonl").write_bytes(lines_of(rows))


def steps_of(received):
    return [entry if entry == "closed" else entry[0] for entry in received]


def test_readings_are_means_and_the_values_of_replicas():
    agents = [{"step": 10, "replica": 0, "agent": 1, "train_loss": 9.0}, {"step": 10, "replica": 0, "trace": 3.0}]
    found = [*readings([*ROWS[2:4], *agents])]
    assert [(count, step) for count, step, _ in found] == [(2, 5), (4, 10)]
    assert found[0][2] == {
        "train_loss": 5.5,
        "only_0": 1.0,
        "train_loss/replica_0": 5,
        "only_0/replica_0": 1.0,
        "train_loss/replica_1": 6,
        "only_0/replica_1": 1.0,
        "x/replica_1": 2.0,  # and no mean of one of them
    }
    assert found[1][2] == {"trace": 3.0}


def test_a_logger_receives_each_line_once_over_several_processes(tmp_path, kept, silent):
    def listen():
        return listening(silent, tmp_path, Kept)

    with listen() as first:
        journal(tmp_path / "a", ROWS[:2])
        first.started("a", 0, 10, 3, "loop")
        journal(tmp_path / "a", ROWS[:4])
        first.advanced("a", 5, ROWS[2:4])
        first.advanced("a", 6, [])
    with listen() as second:  # it resumes before step 5, and is interrupted again
        journal(tmp_path / "a", ROWS[:2])
        second.started("a", 3, 10, 3, "loop")
        journal(tmp_path / "a", ROWS[:4])
        second.advanced("a", 5, ROWS[2:4])
        journal(tmp_path / "a", ROWS)
        second.finished("a", "interrupted at step 10 of 10")
    with listen() as third:  # what was measured as the process died, and at the end
        journal(tmp_path / "a", [*ROWS, {"step": 10, "replica": 0, "trace": 3.0}])
        third.finished("a", "done")
    with listen() as fourth:
        fourth.finished("a", "done")
    ((_, received),) = kept.items()
    assert steps_of(received) == [0, 5, "closed", 10, "closed"]
    assert received[3][1]["trace/replica_0"] == 3.0
    journal(tmp_path / "b", ROWS[:2])
    with listen() as another:
        another.finished("b", "done")
    assert len(kept) == 2 and len({identity for _, identity in kept}) == 2


def test_a_run_that_begins_again_in_the_same_process_is_logged_once(tmp_path, kept, silent):
    with listening(silent, tmp_path, Kept) as listener:
        journal(tmp_path / "a", ROWS[:4])
        listener.advanced("a", 5, ROWS[2:4])
        journal(tmp_path / "a", ROWS[:2])  # its worker died
        listener.started("a", 3, 10, 3, "loop")
        journal(tmp_path / "a", [*ROWS[:2], *(row | {"also": 1.0} for row in ROWS[2:])])
        listener.finished("a", "done")
    assert [steps_of(received) for received in kept.values()] == [[0, 5, 10, "closed"]]


def test_a_logger_that_fails_says_so_once_and_is_made_up_for(tmp_path, kept, silent, caplog):
    for name in "ab":
        journal(tmp_path / name, ROWS)
    good = SimpleNamespace(log=lambda *_: None, close=lambda: None)
    loggers = {"name": Kept, "fails_at": 5}, good
    with caplog.at_level(logging.WARNING), listening(silent, tmp_path, *loggers) as both:
        for name in "ab":
            both.finished(name, "done")
    assert {run for run, _ in kept} == {"a"}  # and is not asked again
    said = [record.getMessage() for record in caplog.records if "nothing more" in record.getMessage()]
    assert len(said) == 1 and "OSError: no room" in said[0] and ":Kept fails" in said[0]
    lines = json.loads((tmp_path / "a" / "logged.json").read_text())["lines"]
    assert sorted(lines.values()) == [2, 6]
    with listening(silent, tmp_path, Kept) as again:  # under the same name
        again.finished("a", "done")
    assert [step for (run, _), got in kept.items() if run == "a" for step in steps_of(got)] == [
        *(0, "closed", 5, 10, "closed")
    ]


def test_a_logger_that_is_waited_for_is_named(tmp_path, silent):
    journal(tmp_path / "a", ROWS[:2])
    said = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record):
            if "Hanging has not returned for 0 seconds, and its runs wait" in record.getMessage():
                said.set()

    class Hanging:
        def log(self, metrics, step):
            assert said.wait(HANGS)

        def close(self):
            pass

    heard, root = Heard(), logging.getLogger()
    root.addHandler(heard)
    try:
        with listening(silent, tmp_path, Hanging()) as listener:
            listener.feeds.patience = 0.0
            listener.finished("a", "done")
    finally:
        root.removeHandler(heard)
    assert said.is_set() and not listener.feeds.failed


def test_a_logger_that_would_end_the_process_does_not_and_a_monitor_still_stops_a_run(tmp_path, silent):
    journal(tmp_path / "a", ROWS[:4])
    silent.advanced = lambda *_: "enough"
    quitting = SimpleNamespace(log=lambda *_: sys.exit(3), close=lambda: None)
    with listening(silent, tmp_path, quitting) as listener:
        assert listener.advanced("a", 5, ROWS[2:4]) == listener.advanced("a", 6, []) == "enough"


def test_runs_tell_loggers_and_stop_where_a_function_says(tmp_path, kept, no_reports):
    logger, asked = Kept(), []

    def enough(run, step, metrics):
        asked.append((run, step, sorted(metrics)))
        assert metrics[0]["train_loss"] > 0
        return "stop" if run.endswith("0.2") and step == 4 else None

    def go():
        lr = {"optimizer": {"name": "sgd", "lr": [0.1, 0.2]}}
        return basinet.run(**TINY | lr, loggers=[logger], on_evaluate=enough, out=tmp_path, quiet=True)

    whole, stopped = go().runs
    assert (whole.status["step"], stopped.status["step"]) == (6, 4) and "stopped" not in whole.status
    assert stopped.status["stopped"].endswith("enough) asked to stop at step 4")
    assert [step for run, step, _ in asked if run == stopped.name] == [0, 2, 4]
    assert all(replicas == [0, 1] for *_, replicas in asked)
    assert steps_of(logger.received) == [0, 2, 4, 6, 0, 2, 4, "closed"]
    assert f"{whole.name}/train_loss" in logger.received[0][1]
    assert "loggers" not in (tmp_path / "experiment.yaml").read_text()
    assert go().states == {whole.name: "done", stopped.name: "done"}
    assert steps_of(logger.received) == [0, 2, 4, 6, 0, 2, 4, "closed", "closed"]


def test_an_object_receives_the_runs_of_all_stages(tmp_path, kept, no_reports):
    logger, asked = Kept(), []
    basinet.run(
        **TINY | {"steps": 2, "replicas": 1},
        stages={"one": {}, "two": {}},
        loggers=[logger],
        on_evaluate=lambda run, step, metrics: asked.append((run, step)),
        out=tmp_path,
        quiet=True,
    )
    assert asked == [(f"{stage}/isolated", step) for stage in ("1-one", "2-two") for step in (0, 2)]
    assert steps_of(logger.received) == [0, 2, 0, 2, "closed"]
    assert "2-two/isolated/train_loss" in logger.received[2][1]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda: 1 / 0, r"on_evaluate: .*answering raises ZeroDivisionError: division by zero \(.*test_listeners.py:"),
        (lambda: 3, "on_evaluate: .*answering returned 3; allowed are None or False to go on, True or 'stop' to stop"),
    ],
)
def test_a_function_that_fails_names_itself(tmp_path, no_reports, answer, sentence):
    def answering(run, step, metrics):
        return answer()

    with pytest.raises(basinet.RunFailed, match=sentence):
        basinet.run(**TINY, on_evaluate=answering, out=tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("tensorbord", "loggers: there is no logger 'tensorbord'; allowed: .*did you mean 'tensorboard'"),
        ({"name": "wandb", "key": "secret"}, "loggers.key: wandb has no setting 'key'; allowed: project, mode"),
        (3, "loggers: got 3; allowed are a name"),
    ],
)
def test_mistakes_in_loggers_are_named(given, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        Experiment(TINY | {"loggers": [given]})


def test_a_missing_package_is_a_mistake_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(LOGGERS["wandb"], "package", "no_such_package")
    with pytest.raises(ExperimentError, match=r'wandb needs the package no_such_package: pip install "basinet\['):
        basinet.run(**TINY, loggers="wandb", out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_addresses_of_loggers_are_in_no_record(tmp_path):
    stages = {"stages": {"one": {"loggers": [{"name": "mlflow", "uri": "https://me:secret@host"}]}, "two": {}}}
    pipeline = basinet.Pipeline(TINY | {"loggers": {"name": "mlflow", "uri": "https://me:secret@host"}} | stages)
    assert "secret" not in repr(pipeline.description)
    described = TINY | {"about": "A test."}
    override(described, ["loggers={name: mlflow, uri: 'https://me:secret@host'}", "steps=3"])
    assert "secret" not in repr(Experiment(described).description)
    assert all(stage.loggers for stage in pipeline.stages.values())


class FakeMLflow:
    """A store of MLflow that keeps what it is given."""

    def __init__(self):
        self.runs, self.metrics, self.params, self.tags, self.uris = {}, [], [], {}, []
        self.updates = []

    def client(self, uri):
        self.uris.append(uri)
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name)

    def search_runs(self, places, condition, max_results):
        return [SimpleNamespace(info=SimpleNamespace(run_id=r)) for r, i in self.tags.items() if f"'{i}'" in condition]

    def create_run(self, place, run_name, tags):
        self.tags[run_name], self.runs[run_name] = tags["basinet"], "RUNNING"
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def update_run(self, run, status):
        self.updates.append((run, status))

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100 and all(len(value) <= 6000 for _, value in params)  # as MLflow has it
        self.metrics += metrics
        self.params += params

    def set_terminated(self, run):
        self.runs[run] = "FINISHED"


def test_mlflow_finds_a_run_again(tmp_path, monkeypatch, silent):
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=fake.client))
    entities = SimpleNamespace(Metric=lambda *given: given, Param=lambda *given: given)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for known in (ROWS[:2], ROWS):
        journal(tmp_path / "a", known)
        (tmp_path / "a" / "config.yaml").write_text(
            "".join(f"k{place}: {'x' * 50 * place}\n" for place in range(1, 251))
        )
        with listening(silent, tmp_path, "mlflow") as again:
            again.finished("a", "done")
    assert fake.updates == [("a", "RUNNING")]
    assert fake.runs == {"a": "FINISHED"} and [key for key, _ in fake.params] == [
        f"k{place}" for place in range(1, 251)
    ]
    assert [step for name, _, _, step in fake.metrics if name == "train_loss"] == [0, 5, 10]
    assert fake.uris == [f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"] * 2


def test_wandb_is_offline_and_goes_on_with_the_same_run(tmp_path, monkeypatch, silent):
    begun, logged = [], []
    fake = SimpleNamespace(define_metric=lambda *_, **__: None, log=logged.append, finish=lambda: logged.append("over"))

    def init(**given):
        place = tmp_path / "wandb" / f"offline-run-{len(begun)}-{given['id']}" / "files"
        place.mkdir(parents=True)
        fake.dir = str(place)
        begun.append(given)
        return fake

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **given: given))
    wandb = {"name": "wandb", "project": "graphs"}
    for known in (ROWS[:2], ROWS):
        journal(tmp_path / "a", known)
        killed = Feeds(parse_loggers([wandb]), tmp_path)
        if known == ROWS:
            killed.update("a", tmp_path / "a")  # and the process dies, with all that was in memory
            del logged[-2:]
        with listening(silent, tmp_path, wandb) as again:
            again.finished("a", "done")
    assert len([*(tmp_path / "wandb").iterdir()]) == 2
    assert [(given["mode"], given["project"], given["name"]) for given in begun] == [("offline", "graphs", "a")] * 3
    assert len({given["id"] for given in begun}) == 1 and begun[0]["config"] == {"steps": 10}
    assert [entry if entry == "over" else entry["step"] for entry in logged] == [0, "over", 5, 10, "over"]


def test_loggers_are_loggers(tmp_path):
    assert isinstance(Kept(), Logger) and all(isinstance(maker.package, str) for maker in LOGGERS.values())
