"""The command line as a user types it: statuses, sentences, files."""

import fcntl
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
import yaml

from basinet import __version__
from basinet.analysis.metrics import METRICS
from basinet.launch.cli import main
from basinet.launch.cli.built_in import BUILT_IN
from tests.processes import HANGS

pytestmark = pytest.mark.usefixtures("shared_parts")

TINY = {
    "task": {"name": "digits", "train_size": 100},
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": ["centralized", "diffusion"],
    "batch_size": 4,
    "steps": 20,
    "replicas": 2,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def test_a_run_writes_its_folder_and_says_where_the_report_is(folder, capsys, request, least_measured):
    assert main(["run", "tiny.yaml", "--out", "out", "--json"]) == 0
    found = capsys.readouterr()
    rows = json.loads(found.out)
    assert [row["label"] for row in rows] == ["centralized", "diffusion ATC"]
    assert all(rows[0][f"{name}_mean"] is not None for name in ("hessian_trace", "excess_risk", "test_accuracy"))
    assert found.err.rstrip().endswith("report: out/report.html")
    out = folder / "out"
    assert {
        ".lock",
        ".report.lock",
        "experiment.yaml",
        "report.html",
        "summary.csv",
        "figures",
        "centralized",
        "diffusion-atc",
    } == {path.name for path in out.iterdir()}
    names = {path.stem for path in (out / "figures").glob("*.png")}
    assert names and {path.name for path in (out / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("png", "csv")
    }
    # again: nothing is run twice; a table comes out, and the folder goes on where it stopped
    assert main(["run", "tiny.yaml", "--out", "out"]) == 0
    assert "finished before" in capsys.readouterr().err
    assert main(["compare", "out", "out/centralized"]) == 0
    assert main(["report", "out", "--svg"]) == 0
    assert {path.stem for path in (out / "figures").glob("*.svg")} == names
    request.getfixturevalue("no_reports")  # the others are not looked at
    assert main(["analyze", "out/centralized", "--only", "hessian_trace", "--agents"]) == 0
    lines = [json.loads(line) for line in (out / "centralized" / "metrics.jsonl").read_text().splitlines()]
    assert sum("agent" in row for row in lines) == 2 * 4
    assert main(["run", "out/experiment.yaml", "analysis=[]", "--out", "again", "--quiet"]) == 0
    for name in ("centralized", "diffusion-atc"):
        again = (folder / "again" / name / "metrics.jsonl").read_text().splitlines()
        assert again[0] == (out / name / "metrics.jsonl").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "tiny.yaml", "strategy=difusion"], "strategy: there is no strategy 'difusion'"),
        (["run", "tiny.yaml", "stepss=3"], "did you mean 'steps'"),
        (["run", "nowhere.yaml"], "nowhere.yaml: the experiment cannot be read: No such file"),
        (["run", "mian"], "mian: neither a file nor a built-in experiment; allowed: forecast.*did you mean 'main'"),
        (["run", "tiny"], "did you mean 'tiny.yaml'"),
        (["run", "tiny.yaml", "optimizer.lr={logg: [0.1, 1, 3]}"], "or a range; allowed.*did you mean 'log'"),
        (["run", "tiny.yaml", "other.yaml"], "other.yaml: one experiment at a time"),
        (["run", "tiny.yaml", "topology.agents=4000"], "4000"),
        (["analyze", "nowhere"], "holds no runs"),
        (["compare", "nowhere"], "holds no runs"),
        (["report", "nowhere"], "holds no runs"),
        (["reproduce", "heavy-tail"], "did you mean 'heavy-tails'"),
        (["reproduce", "heavy-tails", "--out", "."], "holds something other than a study"),
        (["reproduce", "heavy-tails", "repeat=2"], "heavy-tails has no setting 'repeat'"),
        (["reproduce", "heavy-tails", "16"], "16: an override is written key=value"),
        (["reproduce", "flatness-tradeoff", "scale=cifar"], "flatness-tradeoff.scale: got 'cifar'"),
        (["reproduce", "flatness-tradeoff", "replica=2"], "no setting 'replica'; allowed: scale, name"),
        (["run", "tiny.yaml", "steps="], "steps: a value is needed"),
        (["run", "tiny.yaml", "steps=true"], "steps: got True"),
        (
            ["run", "tiny.yaml", "runtime.engine=stacked", "runtime.autocast=bfloat16"],
            "runtime.engine: stacked cannot run mlp: its layers compute in the type of the parameters",
        ),
        (["run", "tiny.yaml", "strategy=os:getcwd"], "strategy: os:getcwd returns no object with a method 'step'"),
        (["run", "tiny.yaml", "topology=os:getcwd"], "topology: "),
        (["run", "tiny.yaml", "runtime.threads=-1"], "runtime.threads: got -1"),
        (["run", "tiny.yaml", "model.hidden=8"], "model.hidden: got 8, where a list is needed"),
        (["run", "tiny.yaml", "--out", "tiny.yaml"], "tiny.yaml is a file"),
        (["topology", "ring", "agents=["], "agents: the value '[' is not YAML"),
        (["topology", "ring", "--out", "x.xyz"], "allowed endings"),
        (["topology", "rign"], "did you mean 'ring'"),
        (["topology", "ring,rign", "agents=4"], "did you mean 'ring'"),
        (["topology", "agents=4"], "topology: name one before its settings"),
        (["topology", "ring", "agents=4", "agents=5"], "basinet: agents=5: it would undo agents=4"),
        (["topology", "ring", "policy=lazy", "policy.kep=4"], "basinet: policy.kep: lazy has no setting 'kep'"),
        (["topology", "ring", "agents=true"], "basinet: agents: got True"),
        (["topology", "ring", "{a: 1, a: 2}=3"], "{a"),
        (["topology", "hypercube", "agents=3"], "hypercube"),
        (["list", "optimizers", "sdg"], "there is no 'sdg' among the optimizers; allowed: .*did you mean 'sgd'"),
        (["list", "measures", "trace"], "there is no 'trace' among the measures; allowed: .*did you mean"),
        (["list", "tasks", "models", "sdg"], "list: got tasks models sdg; allowed are kinds, or a kind and one name"),
        (
            ["list", "linear"],
            "list: 'linear' is no kind, but a name among schedules and models; allowed: basinet list s",
        ),
        (["list", "hivit", "mlp"], "'hivit' is no kind, but a name among models; allowed: basinet list models hivit"),
        (["list", "strategy"], "there is no kind 'strategy'; allowed: .*did you mean 'strategies'"),
        (
            ["run", "tiny.yaml", "schedule={name: step, name: cosine}"],
            "schedule: the value '{name: step, name: cosine}' is",
        ),
        (["reproduce", "heavy-tails", "repeats=2", "repeats=3"], "repeats=3: it would undo repeats=2"),
        (["topology", "torus", "agents=12", "shape=[5,2]"], "12"),
    ],
)
def test_a_mistake_is_one_sentence_with_status_2_and_nothing_is_written(folder, capsys, words, sentence):
    assert main(words) == 2
    found = capsys.readouterr().err.strip()
    assert all(part in found for part in sentence.split(".*")) and found.startswith("basinet: ") and "\n" not in found
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_a_folder_of_another_experiment_is_refused(folder, no_reports, capsys):
    assert main(["run", "tiny.yaml", "analysis=[]", "--out", "out", "--quiet"]) == 0
    assert main(["run", "tiny.yaml", "batch_size=5", "--out", "out"]) == 2
    assert "holds another experiment" in capsys.readouterr().err
    assert main(["run", "tiny.yaml", "batch_size=5", "analysis=[]", "--out", "out", "--fresh", "--quiet"]) == 0


def test_the_command_line_goes_before_the_cases(folder, capsys):
    assert main(["run", "main", "optimizer.lr=0.5", "epochs=2", "strategy=isolated", "--dry-run", "--json"]) == 0
    for config in json.loads(capsys.readouterr().out).values():
        assert config["optimizer"]["lr"] == 0.5 and config["epochs"] == 2 and "steps" not in config


def test_two_processes_do_not_share_a_folder(folder, no_reports, capsys, monkeypatch):
    assert main(["run", "tiny.yaml", "analysis=[]", "--out", "out", "--quiet"]) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
    monkeypatch.setattr("basinet.sim.run.simulation.build", None)  # nothing is built in vain
    run = ["run", "tiny.yaml", "analysis=[]", "--out", "out", "--quiet"]
    with open("out/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("process 7 on there", file=file, flush=True)
        commands = (run, [*run, "--fresh"], ["analyze", "out"], ["analyze", "out/centralized"])
        before[Path("out/.lock")] = Path("out/.lock").stat().st_mtime_ns
        for command in commands:
            assert main(command) == 2
            assert (
                "another process is at work in " in (said := capsys.readouterr().err) and "(process 7 on there)" in said
            )
        assert before == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
        assert main(["report", "out"]) == 0  # one may look at what is at work


def test_damaged_folders_are_named(folder, capsys, no_reports):
    assert main(["run", "tiny.yaml", "analysis=[]", "--out", "out", "--quiet"]) == 0
    for name in ("experiment.yaml", "diffusion-atc/status.json", "diffusion-atc/config.yaml"):
        path = Path("out") / name
        kept = path.read_text()
        path.write_text("{")
        capsys.readouterr()
        assert main(["report", "out"]) == 2
        assert f"{path}: the file is damaged" in capsys.readouterr().err
        path.write_text(kept)
    (Path("out") / "centralized" / "checkpoint" / "state.safetensors").write_bytes(b"nothing")
    assert main(["analyze", "out", "--only", "hessian_trace"]) == 2
    assert "the checkpoint is damaged" in capsys.readouterr().err


def test_a_dry_run_prints_the_runs_and_writes_nothing(folder, capsys):
    assert main(["run", "tiny.yaml", "optimizer.lr=0.1,0.2", "runtime.actors=2", "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err.count("runtime.actors: 2 is not used, since runtime.name is inline\n") == 1
    assert printed.err.startswith("loss: cross-entropy, since the targets are classes\n")
    assert list(found)[-1] == "diffusion-atc_lr=0.2" and found["centralized_lr=0.1"]["optimizer"]["lr"] == 0.1
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_a_dry_run_shows_what_runs_differ_in_and_have_in_common(folder, capsys):
    words = ["topology=[{name: ring, agents: 4}, {name: hypercube, agents: 6}]", "skip=impossible", "seed=3,4"]
    assert main(["run", "tiny.yaml", *words, "--dry-run"]) == 0
    found = capsys.readouterr()
    rows = [line.split("│")[1:3] for line in found.out.splitlines() if line.startswith("│")]
    cells = {row[0].strip(): row[1].strip() for row in rows}
    assert cells["centralized_topology=ring-4_seed=3"] == "strategy=centralized, seed=3"
    assert cells["steps"] == "20" and cells["topology"] == "ring (agents=4)" and "seed" not in cells
    assert not any("hypercube" in name for name in cells)
    assert (
        "left out as impossible: centralized_topology=hypercube-6_seed=3, " in found.err and "power of two" in found.err
    )
    assert found.err.endswith("4 runs, nothing written\n")
    assert main(["run", "tiny.yaml", "strategy=isolated", f"keep_every={list(range(1, 206))}", "--dry-run"]) == 0
    found = capsys.readouterr()
    assert found.err.startswith("205 runs to check\n")
    assert "5 more runs; --json prints all" in found.err and len(found.out.splitlines()) < 260
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_what_is_impossible_is_listed_at_the_end_and_in_the_report(folder, capsys, one_figure):
    words = ["topology=[{name: ring, agents: 4}, {name: hypercube, agents: 6}]", "skip=impossible", "analysis=[]"]
    assert main(["run", "tiny.yaml", *words, "steps=2", "--out", "out"]) == 0
    said = capsys.readouterr().err
    assert "2 runs into out; 2 left out as impossible\n" in said
    page = (folder / "out" / "report.html").read_text()
    for text in (said, page):
        assert "left out as impossible: centralized_topology=hypercube-6, diffusion-atc_topology=hypercube-6" in text
        assert "must be a power of two" in text


def test_studies_are_listed_run_and_written(folder, capsys, monkeypatch):
    from basinet.analysis import studies

    def growth(progress, scale: Literal["small", "large"] = "small", repeats: int = 3):
        """Measure growth."""
        progress(0.5, "half way")
        check = studies.Check.near("slope", 2.0, 1.95, within=0.1)
        return studies.Findings("Growth", [], [check], [], [])

    monkeypatch.setitem(studies.STUDIES, "growth", growth)
    assert main(["reproduce", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["growth"] == "Measure growth."
    assert main(["reproduce"]) == 0
    assert "scale=small (small | large), repeats=3" in " ".join(capsys.readouterr().out.split())
    assert main(["reproduce", "growth", "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)[0]["verdict"] == "agrees"
    assert found.err.rstrip().endswith("report: runs/growth/report.html")
    assert main(["reproduce", "growth", "--out", "runs/growth"]) == 0
    assert "within 0.1" in capsys.readouterr().out


SEQUENCES = ("listops", "pathfinder", "pixel_sequence", "retrieval", "text")


def test_the_built_in_experiments_are_valid(folder, capsys):
    assert set(SEQUENCES) < set(BUILT_IN)
    elsewhere = {*SEQUENCES, "image_quality", "video_quality", "video_language", "pretrained_ensemble"}
    elsewhere |= {"quality_pretraining"}  # takes steps in the tests of its task
    for name in BUILT_IN.keys() - elsewhere:
        assert main(["run", name, "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", SEQUENCES)
def test_experiments_with_sequences_take_steps(name, folder, capsys, no_reports, no_trials):
    few = ["steps=3", "batch_size=2", "task.train_size=40", "task.test_size=10"]
    assert main(["run", name, *few, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["state"] == "done" and row["step"] == 3
        assert list(row["baselines"]) == ["majority class", *(["root operator"] if name == "listops" else [])]


def test_the_experiment_with_videos_takes_steps(folder, capsys, no_reports, no_trials):
    """Whatever the inputs are."""
    few = ["steps=2", "task.contents=6", "task.size=64", "task.cache=cache", "task.frames=3", "strategy=diffusion"]
    for inputs in (
        ["model.width=2"],
        ["task.inputs=features", "model=quality_perceptron"],
        ["task.inputs=frames", "model={name: frame_network, channels: [2]}"],
    ):
        assert main(["run", "video_quality", *few, *inputs, "--out", inputs[0], "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["state"] == "done" and [*row["baselines"]] == ["mean target", "ridge on scene statistics"]
    ensemble = ["task.extractors=[random,scene_statistics]", "task.contents=6", "task.size=64", "task.cache=cache"]
    assert main(["run", "pretrained_ensemble", *ensemble, "steps=2", "strategy=diffusion", "--out", "e", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "done" and len(row["baselines"]) == 3


def test_the_experiment_with_images_takes_steps(folder, capsys, no_reports, no_trials):
    """Of distorted photos, and of edited ones."""
    few = ["steps=2", "task.levels=1", "task.cache=cache", "strategy=diffusion", "model.channels=[2]"]
    for images in (
        ["task.contents=6", "task.size=32", "task.patch=32"],
        ["task.name=image_aesthetics", "task.size=16"],
    ):
        assert main(["run", "image_quality", *few, *images, "--out", images[0], "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["state"] == "done" and [*row["baselines"]] == ["mean target", "ridge on scene statistics"]
        assert {"test_srocc_mean", "test_plcc_mean", "test_krocc_mean", "test_plcc_fitted_mean"} < row.keys()


def test_the_experiment_with_videos_and_language_takes_steps(folder, capsys, no_reports, no_trials):
    few = ["steps=2", "batch_size=2", "evaluate_every=2", "task.videos=12", "task.test_videos=1", "strategy=diffusion"]
    assert main(["run", "video_language", *few, "task.partition=iid", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "done" and [*row["baselines"]] == ["chance", "most frequent phase"]


IMPORTS = """
import sys
from basinet.launch.cli import main

def check(absent, *words):
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    found = sorted(absent & set(sys.modules))
    assert not status and not found, (words, status, found)

unused = {"datasets", "joblib", "pandas", "pyarrow", "ray", "scipy.integrate", "scipy.optimize", "scipy.spatial"}
unused |= {"scipy.stats", "sklearn", "sympy", "torch._dynamo", "torchvision", "basinet.analysis.studies"}
unused |= {"statsmodels"}
drawing = {"matplotlib"}
check(unused | drawing | {"torch", "scipy", "numpy", "networkx"}, "--help")
check(unused | drawing | {"torch", "scipy", "numpy", "networkx"}, "--version")
# Before the first step there is nothing to draw, tabulate or compile.
late = {"numba", "scipy.special", "basinet.analysis.compare", "basinet.analysis.report.report"}
late |= {"basinet.launch.tuning.search", "basinet.sim.tasks.language.language_model"}
late |= {"basinet.sim.tasks.vision.videos.video_quality", "basinet.sim.models.attention.transformer"}
late |= {"basinet.algorithms.strategies.compressed.choco"}
from basinet.launch import api
simulate, api.simulate = api.simulate, lambda *_, **__: sys.exit()
check(unused | drawing | late, "run", "tiny.yaml", "strategy=diffusion", "--out", "never")
api.simulate = simulate

check(unused | drawing | {"numba"}, "list", "--json")
check(unused | drawing, "run", "tiny.yaml", "--dry-run", "--json")
check(unused | drawing, "run", "forecast", "strategy=isolated", "--dry-run", "--json")

# Python names each file that is opened in the encoding of the locale.
import warnings

warnings.filterwarnings("error", category=EncodingWarning, module="basinet")
check(unused, "run", "named.yaml", "--out", "named", "--json")

# What was put off is done as soon as something is compiled.
import torch

weight = torch.nn.Parameter(torch.ones(()))
optimizer = torch.optim.SGD([weight], lr=0.5)

@torch.compile(backend="eager")
def step(x):
    optimizer.zero_grad()
    (weight * x).backward()
    optimizer.step()

step(torch.tensor(1.0))
step(torch.tensor(1.0))
assert weight.item() == 0 and optimizer.state_dict()
"""


@pytest.fixture(scope="module")
def another_process(tmp_path_factory):
    """What a process of its own has printed, and its folder."""
    place = tmp_path_factory.mktemp("process")
    (place / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    keys = {"strategy": "diffusion", "steps": 4, "replicas": 1, "analysis": ["hessian_trace"]}
    keys |= {"about": "für Åsa", "cases": {"größe": {}}}
    (place / "named.yaml").write_text(yaml.safe_dump(TINY | keys), encoding="utf-8")
    command = [sys.executable, "-X", "warn_default_encoding", "-c", IMPORTS]
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    return done.stdout, place


def test_a_command_imports_what_it_needs_alone(another_process):
    assert f"basinet {__version__}\n" in another_process[0]


def test_an_unknown_command_is_a_mistake(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["frobnicate"])
    assert "frobnicate" in capsys.readouterr().err


def test_texts_are_utf_8_whatever_the_locale(another_process):
    _, place = another_process
    assert "für Åsa" in (place / "named" / "experiment.yaml").read_text(encoding="utf-8")
    assert "für Åsa" in (place / "named" / "report.html").read_text(encoding="utf-8")


def test_what_is_printed_fits_any_stream(folder, capsys, monkeypatch, one_figure):
    words = ["run", "tiny.yaml", "strategy=diffusion", "analysis=[]", "--out", "a[/b]"]
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 0  # it is done, wherever its summary goes
        said = capsys.readouterr().err
        assert "1 run into a[/b]" in said and "standard output: No space left" in said and "a[/b]/report.html" in said
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["compare", "a[/b]"]) == 1
        assert capsys.readouterr().err == "basinet: standard output: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does
    with open(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert main(words) == 0
        said = capsys.readouterr().err
        assert "standard output: Broken pipe" in said and "a[/b]/report.html" in said
    for encoding, plus_minus in (("ascii", "+-"), ("latin-1", "±"), ("utf-8", "±")):
        printed = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
        assert main(["compare", "a[/b]"]) == 0
        text = printed.getvalue().decode(encoding)
        assert plus_minus in text and ("↑" in text or "accuracy ^" in text)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["compare", "a[/b]"]) == 0
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(words) == 0


def test_what_the_system_refuses_is_one_sentence(folder, capsys):
    Path("loop").symlink_to("loop")
    for place in ("x" * 300, "loop/out", "loop", "tiny.yaml/out", "/proc/out"):
        assert main(["run", "tiny.yaml", "analysis=[]", "--out", place, "--quiet"]) == 2
        found = capsys.readouterr().err
        assert found.startswith("basinet: ") and found.count("\n") == 1 and "Errno" not in found
    assert sorted(path.name for path in folder.iterdir()) == ["loop", "tiny.yaml"]


def without_large_files(words):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    return main(words)


def test_a_disk_that_takes_no_checkpoint_fails_the_run_which_says_so(folder, processes):
    words = ["run", "tiny.yaml", "strategy=diffusion", "analysis=[]", "--out", "out"]
    processes.start(without_large_files, words)
    (status,), ((_, said),) = processes.end()
    assert status == 1 and "Traceback" not in said
    assert re.search(r"diffusion-atc: failed: out/diffusion-atc/\S+: File too large", said)
    assert "\ndiffusion-atc failed: " in said and "\nthe report cannot be written: out/" in said
    status = json.loads((folder / "out" / "diffusion-atc" / "status.json").read_text())
    assert status["state"] == "failed" and "File too large" in status["error"]
    assert not list(folder.rglob("*.partial"))


def test_a_run_that_fails_is_named_once_with_where_it_goes_on(folder, capsys, no_reports):
    Path("failing.py").write_text(
        "import torch\n\n\nclass Fails(torch.optim.SGD):\n    taken = 0\n\n    def step(self, closure=None):\n"
        "        Fails.taken += 1\n        if Fails.taken > 40:\n            raise ArithmeticError('too much of it')\n"
        "        return super().step(closure)\n"
    )
    words = ["run", "tiny.yaml", "strategy=diffusion", "optimizer=failing:Fails", "analysis=[]", "--quiet"]
    assert main([*words, "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert said.count("too much of it") == 1
    assert "status.json); the same command begins it anew" in said


def test_only_commands_that_work_together_look_for_other_ranks(folder, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "some")
    assert main(["list", "policies"]) == 0
    assert main(["run", "tiny.yaml", "--dry-run"]) == 0
    monkeypatch.setenv("MASTER_ADDR", "no.such.host.invalid")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert main(["list", "policies"]) == 0
    capsys.readouterr()
    shared = ["run", "tiny.yaml", "runtime.name=torchrun", "--quiet"]
    for size, sentence in (("some", "got '0', 'some', '29500'"), ("2", "at no.such.host.invalid:29500: ")):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert main(shared) == 2
        found = capsys.readouterr().err
        assert sentence in found and found.count("\n") == 1
    assert main(["run", "tiny.yaml"]) == 2
    assert "give runtime.name=torchrun, or unset them" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("xyz", "RAY_ADDRESS: got 'xyz'; allowed are HOST:PORT, auto"),
        ("127.0.0.1:1", "the cluster that RAY_ADDRESS names, 127.0.0.1:1: "),
        ("no.such.host.invalid:6379", "no.such.host.invalid:6379: "),
    ],
)
def test_a_cluster_that_is_not_there_is_a_sentence(folder, capsys, monkeypatch, address, sentence):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("BASINET_WAIT_SECONDS", "3")
    assert main(["run", "tiny.yaml", "runtime.name=ray", "analysis=[]", "--quiet"]) == 2
    found = capsys.readouterr().err
    assert sentence in found and found.count("\n") == 1


@pytest.mark.parametrize("notebook", [False, True])
def test_without_a_terminal_a_line_now_and_then_says_how_far_a_run_is(capsys, monkeypatch, notebook):
    from basinet.launch.progress_bar import TerminalMonitor, bar

    if notebook:  # its stream says that it is a terminal, as its environment does
        monkeypatch.setenv("FORCE_COLOR", "1")
        stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream", "isatty": lambda self: True})()
        monkeypatch.setattr(sys, "stderr", stream)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TerminalMonitor(1) as monitor, bar("study") as show:
        monitor.started("one", 0, 1000, 4, "stacked")
        for step in range(100):
            now[0] += 1.0
            monitor.advanced("one", step, [{"train_loss": 0.5}])
            show(step / 100, "half")
    lines = (stream.getvalue() if notebook else capsys.readouterr().err).splitlines()
    assert "one: step 10 of 1000  train loss 0.5000 · 3.64 agent-steps/s" in lines and "study: 10 % half" in lines
    assert 5 <= sum(line.startswith("one: ") for line in lines) <= 10


@pytest.mark.parametrize("width", [80, 100])
def test_a_bar_names_the_data_of_its_numbers_and_fits(monkeypatch, width):
    from rich.console import Console

    from basinet.launch.progress_bar import TerminalMonitor

    def console(file, **_):
        return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)

    monkeypatch.setattr("basinet.launch.progress_bar.console", console)
    judged_by = {"diffusion-atc": ("test_detail_r2", METRICS["detail_r2"]().quantity("test"))}
    with TerminalMonitor(1, judged_by=judged_by) as monitor:
        monitor.started("diffusion-atc", 0, 1000, 4, "stacked")
        monitor.advanced("diffusion-atc", 350, [{"train_loss": 0.3711, "test_detail_r2": -0.0585}])
        monitor.progress.refresh()
    (*_, line) = [line for line in monitor.console.file.getvalue().splitlines() if "diffusion" in line]
    said = ["diffusion-atc", "350/1000", "train loss 0.3711 · test R² of details -0.0585", "--:--"]
    assert [part for part in said if part in line] == said and ("agent-steps/s" in line) is (width == 100)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_large_grid_is_one_display(monkeypatch, terminal):
    from rich.console import Console

    from basinet.launch.progress_bar import TerminalMonitor

    def console(file, **_):
        return Console(file=io.StringIO(), force_terminal=terminal, width=120, height=40, color_system=None)

    monkeypatch.setattr("basinet.launch.progress_bar.console", console)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TerminalMonitor(1000) as monitor:
        for k in range(100):
            monitor.finished(f"run-{k}", "done")
        for k in range(100, 120):
            monitor.started(f"run-{k}", 0, 100, 4, "stacked")
        now[0] += 60
        for k in range(100, 120):
            monitor.advanced(f"run-{k}", 50, [{"train_loss": 0.5}])
        monitor.restarted("run-101", "the Ray actor of process 7 died")
        monitor.started("run-101", 40, 100, 4, "stacked")
        monitor.advanced("run-101", 50, [])
        monitor.finished("run-100", "failed: optimizer: too much")
        for k in range(102, 112):
            monitor.finished(f"run-{k}", "done")
        monitor.progress.refresh()
        written = monitor.console.file.getvalue()
        for k in range(200, 300):
            monitor.started(f"run-{k}", 0, 100, 4, "stacked")
            monitor.finished(f"run-{k}", "failed: all alike")
    counts = "110 done (100 before) · 1 failed · 9 running · 880 waiting"
    # Of 900 runs, 10 are done, one has failed half-way, 8 are half-way, and one has only taken 10 steps since it was
    # taken up again: 884.5 are left after 14.6 in a minute.
    left = "1:00:35"
    if terminal:
        frame = written[written.rindex("runs ") :]
        assert counts.replace("9 running", "9 running (1 not shown)") in frame and "111/1000" in frame and left in frame
        assert [f"run-{k}" in frame for k in (101, 112, 118, 119)] == [True, True, True, False]
    else:
        assert "100 of 1,000 runs ended (100 done (100 before) · 20 running · 880 waiting); " in written
    said = monitor.console.file.getvalue().splitlines()
    assert sum("failed: optimizer: too much" in line for line in said) == 1
    assert sum("taken up again: the Ray actor of process 7 died" in line for line in said) == 1
    assert not any("run-105: done" in line for line in said)
    assert sum("failed: all alike" in line for line in said) == 19, "then they are only counted"
    assert "1,000 runs: 110 done (100 before) · 101 failed · " in said[-1]


def test_a_run_that_pauses_has_done_all_of_its_part(monkeypatch):
    from rich.console import Console

    from basinet.launch.progress_bar import TerminalMonitor

    stream = io.StringIO()
    monkeypatch.setattr(
        "basinet.launch.progress_bar.console",
        lambda file, **_: Console(file=stream, force_terminal=True, width=120, color_system=None),
    )
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TerminalMonitor(3) as monitor:
        monitor.started("one", 0, 60, 4, "stacked")
        for step in (0, 20):
            now[0] += step / 2
            monitor.advanced("one", step, [{"train_loss": 0.5}])
            monitor.progress.refresh()
        monitor.finished("one", "paused")
        monitor.progress.refresh()
    frame = stream.getvalue()[stream.getvalue().rindex("runs ") :]
    assert "1/3" in frame and "1 paused · 2 waiting" in frame and "0:00:20" in frame
    assert "8 agent-steps/s" in stream.getvalue() and " 0 agent-steps/s" not in stream.getvalue()


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_says_how_to_resume(folder, processes):
    words = ["run", "tiny.yaml", "strategy=diffusion", "steps=3000000", "evaluate_every=100", "--out", "out"]
    process = processes.start(main, words)
    metrics = folder / "out" / "diffusion-atc" / "metrics.jsonl"
    processes.wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 6)
    os.kill(process.pid, signal.SIGINT)
    statuses, [(_, said)] = processes.end()
    assert statuses == [130]
    assert "To go on: basinet run " + " ".join(words[1:]) in said and "Traceback" not in said
    status = json.loads((folder / "out" / "diffusion-atc" / "status.json").read_text())
    assert status["state"] == "interrupted" and status["step"] > 0
    assert (folder / "out" / "diffusion-atc" / "checkpoint" / "state.safetensors").exists()
