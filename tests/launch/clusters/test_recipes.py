"""The scripts and manifests that start an experiment on several machines."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from basinet.launch.cli import main

TINY = {
    "task": "quadratic",
    "topology": {"name": "ring", "agents": 8},
    "strategy": "diffusion",
    "steps": 20,
    "replicas": 2,
    "analysis": [],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my tiny.yaml").write_text(yaml.safe_dump(TINY))


def launch(capsys, *words):
    assert main(["launch", *words]) == 0
    text = capsys.readouterr().out
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and not checked.stderr, text
    assert text.startswith("#!/bin/bash\n")
    return text


def command(text, first):
    """Find the words of the line that begins with a word."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(first)]
    return shlex.split(line)


WORDS = ["my tiny.yaml", "optimizer.lr=0.1,0.2", "runtime.name=inline", "--out", "my runs"]


def requests(text):
    """Read what a job asks for, a mapping for each kind of machine."""
    lines = text.splitlines()[1:]
    asked = lines[: lines.index("")]
    assert all(line.startswith("#SBATCH") for line in asked) and text.count("#SBATCH") == len(asked)
    groups = "\n".join(asked).split("#SBATCH hetjob\n")
    return [
        dict(f"{line}=".removeprefix("#SBATCH --").split("=")[:2] for line in group.splitlines()) for group in groups
    ]


def test_the_tasks_of_a_slurm_job_are_the_ranks(capsys):
    more = ["--gpus", "a100:2", "--cpus", "3", "--time", "1-02:00:00", "--memory", "64G"]
    text = launch(capsys, "slurm", *WORDS, "--nodes", "4", *more, "--slurm", "partition=gpu", "--slurm", "qos=long")
    assert requests(text) == [
        {
            "job-name": "my_tiny",
            "nodes": "4",
            "ntasks-per-node": "2",
            "cpus-per-task": "3",
            "gpus-per-node": "a100:2",
            "mem": "64G",
            "time": "1-02:00:00",
            "signal": "TERM@120",
            "open-mode": "append",
            "partition": "gpu",
            "qos": "long",
            "requeue": "",
        }
    ]
    assert "export WORLD_SIZE=8 OMP_NUM_THREADS=3" in text
    (given,) = re.findall(r"^run=\((.*)\)$", text, flags=re.MULTILINE)
    words = ["optimizer.lr=0.1,0.2", "runtime.name=torchrun"]
    assert shlex.split(given) == ["basinet", "run", "my tiny.yaml", *words, "--out", "my runs"]


RANKS = """#!/bin/bash
echo "$RANK/$WORLD_SIZE local $LOCAL_RANK/$LOCAL_WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT: $*" >> ranks
"""


def submit(commands, text, basinet):
    """Submit a job whose tasks do something else than `basinet`; return the status, and what the tasks have noted."""
    (commands / "basinet").write_text(RANKS + basinet)
    (commands / "basinet").chmod(0o755)
    Path("ranks").unlink(missing_ok=True)
    done = subprocess.run(["sbatch"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, sorted(Path("ranks").read_text().splitlines()), done.stderr


def test_machines_with_several_kinds_of_gpus_are_one_job(capsys, commands):
    text = launch(capsys, "slurm", "my tiny.yaml", "--gpus", "a100:4,v100:2", "--nodes", "2", "--requeue", "0")
    asked = requests(text)
    assert [group["gpus-per-node"] for group in asked] == ["a100:4", "v100:2"]
    assert [group["ntasks-per-node"] for group in asked] == ["4", "2"] and all("no-requeue" in group for group in asked)
    assert asked[0].keys() == asked[1].keys() and "scontrol requeue" not in text
    status, noted, _ = submit(commands, text, "exit 130")
    assert status == 130  # with nobody to queue it again
    places = [(f"{rank}/12", f"{rank % 4}/4") for rank in range(8)] + [
        (f"{8 + rank}/12", f"{rank % 2}/2") for rank in range(4)
    ]
    assert sorted(tuple(line.split()[0:3:2]) for line in noted) == sorted(places)
    assert len({line.split(": ")[0].split(" at ")[1] for line in noted}) == 1


def test_an_interrupted_job_queues_itself_again_a_few_times_and_no_other_does(capsys, commands):
    text = launch(capsys, "slurm", "my tiny.yaml", "--nodes", "2", "--requeue", "3")
    always, twice = '[ "$RANK" = 0 ] || exit 130', '[ "${SLURM_RESTART_COUNT:-0}" -lt 2 ] && exit 130; exit 0'
    status, noted, _ = submit(commands, text, always)
    assert status == 130 and len(noted) == 2 * (1 + 3)
    status, noted, _ = submit(commands, text, twice)
    assert status == 0 and len(noted) == 2 * (1 + 2)
    for ends in (0, 1, 2):
        status, noted, _ = submit(commands, text, f"exit {ends}")
        assert status == ends and len(noted) == 2


def test_the_jobs_of_an_array_each_have_a_part(capsys, commands):
    text = launch(capsys, "slurm", "my tiny.yaml", "optimizer.lr=0.1,0.2", "--array", "2", "--workers", "2")
    assert requests(text)[0]["array"] == "1-2"
    status, noted, _ = submit(commands, text, "")
    assert status == 0 and [line.rpartition(" ")[2] for line in noted] == ["1/2", "2/2"] * 2
    ports = {line.rpartition(" ")[2]: re.search(r":(\d+): ", line)[1] for line in noted}
    assert len({*ports.values()}) == 2  # jobs on one machine do not meet


def test_torchrun_is_the_same_on_all_machines(capsys):
    words = command(launch(capsys, "torchrun", *WORDS, "--workers", "8"), "torchrun")
    assert words[1:3] == ["--standalone", "--nproc_per_node=8"]
    text = launch(capsys, "torchrun", *WORDS, "--nodes", "2", "--workers", "8")
    assert "--rdzv_endpoint=$HEAD:${PORT:-29500}" in command(text, "torchrun")
    without = subprocess.run(["/bin/bash"], input=text, capture_output=True, text=True, env={}, check=False)
    assert without.returncode != 0 and "HEAD" in without.stderr


def test_ray_gathers_machines_before_it_runs(capsys):
    text = launch(capsys, "ray", *WORDS, "--nodes", "2", "--workers", "4", "--gpus", "2")
    assert "runtime.actors=8" in text and "runtime.gpus_per_actor=0.5" in text and "runtime.name=inline" not in text
    assert "--num-cpus=4 --num-gpus=2" in text and "ray stop" not in text
    assert "ray start" not in launch(capsys, "ray", *WORDS)
    for verb, needed in (("join", "HEAD"), ("run", "HEAD"), ("", "head, join, run or stop")):
        without = subprocess.run(["/bin/bash", "-s", verb], input=text, capture_output=True, text=True, check=False)
        assert without.returncode != 0 and needed in without.stderr


SUBMIT = """#!{python} -IS
import json, os, sys
json.dump([sys.argv[1:], os.environ["RAY_API_SERVER_ADDRESS"]], open("submitted.json", "w"))
sys.exit(3)
"""


def test_a_job_of_ray_takes_the_folder_of_the_experiment_along(capsys, commands, tmp_path):
    elsewhere = tmp_path / "there"
    elsewhere.mkdir()
    Path("my tiny.yaml").rename(elsewhere / "my tiny.yaml")
    env = "runtime.env={pip: [einops], env_vars: {A: 3}}"
    out = ["--out", "there/results", "--workers", "2"]
    text = launch(capsys, "ray-job", "there/my tiny.yaml", env, *out)
    without = subprocess.run(["/bin/bash"], input=text, capture_output=True, text=True, env={}, check=False)
    assert without.returncode != 0 and "RAY_API_SERVER_ADDRESS: name the dashboard" in without.stderr

    (commands / "ray").write_text(SUBMIT.format(python=sys.executable))
    (commands / "ray").chmod(0o755)
    there = {"RAY_API_SERVER_ADDRESS": "http://head:1", "PATH": f"{commands}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", text, "submit"], env=there, check=False)
    assert done.returncode == 3  # the status is that of the job
    words, address = json.loads(Path("submitted.json").read_text())
    split = words.index("--")
    given = dict(zip(words[2:split:2], words[3:split:2], strict=True))
    assert words[:2] == ["job", "submit"] and address == "http://head:1"
    assert given.keys() == {"--working-dir", "--runtime-env-json"} and given["--working-dir"] == str(elsewhere)
    environment = json.loads(given["--runtime-env-json"])
    assert environment == {"pip": ["einops"], "env_vars": {"A": "3"}, "excludes": [".git", "runs", "results"]}
    # The job's own process has that environment, too; Ray refuses to be given it twice.
    assert words[split + 1 :] == ["basinet", "run", "my tiny.yaml", "runtime.name=ray", "runtime.actors=2",
        "runtime.cpus_per_actor=1", "runtime.env=null", "--out", str(elsewhere / "results")]  # fmt: skip


LABEL = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
POD = {"spec"}
POD_SPEC = {"containers", "volumes", "nodeSelector"}
CONTAINER = {"name", "image", "resources", "volumeMounts"}
JOB = {
    "entrypoint",
    "shutdownAfterJobFinishes",
    "activeDeadlineSeconds",
    "backoffLimit",
    "runtimeEnvYAML",
    "rayClusterSpec",
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def check_pod(template):
    assert template.keys() == POD and template["spec"].keys() <= POD_SPEC
    (container,) = template["spec"]["containers"]
    assert container.keys() == CONTAINER and re.fullmatch(LABEL, container["name"])
    for amounts in container["resources"].values():
        assert all(isinstance(amount, str) and re.fullmatch(r"\d+(Mi|Gi|Ti)?", amount) for amount in amounts.values())
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in template["spec"]["volumes"]}
    assert mounted.keys() == volumes.keys() and len({*mounted.values()}) == len(mounted)
    return container, {mounted[name]: volume for name, volume in volumes.items()}


def test_a_manifest_of_kuberay_has_the_fields_of_its_definition(capsys):
    """Fields of RayJob in ray.io/v1, and of a pod of Kubernetes, with their types."""
    Path("basinettest_manifest.py").write_text("from torch.optim import SGD\n\n\nclass Own(SGD):\n    pass\n")
    Path("2 Tiny.yaml").write_text(yaml.safe_dump(TINY | {"optimizer": "basinettest_manifest:Own"}))
    words = ["--nodes", "2", "--gpus", "A100:2,V100:1", "--memory", "16G", "--time", "1-02:00:10", "--cpus", "4"]
    words += [
        "--image",
        "me/basinet:1",
        "--volume",
        "claim:/results",
        "--out",
        "here",
        "runtime.env={env_vars: {A: 3}}",
    ]
    assert main(["launch", "kuberay", "2 Tiny.yaml", *words]) == 0
    files, job = yaml.safe_load_all(capsys.readouterr().out)
    assert (files["apiVersion"], files["kind"], job["apiVersion"], job["kind"]) == (
        "v1",
        "ConfigMap",
        "ray.io/v1",
        "RayJob",
    )
    assert re.fullmatch(LABEL, job["metadata"]["name"]) and files["metadata"] == job["metadata"]
    assert files["data"] == {name: Path(name).read_text() for name in ("2 Tiny.yaml", "basinettest_manifest.py")}
    spec = job["spec"]
    assert spec.keys() == JOB and spec["activeDeadlineSeconds"] == 26 * 3600 + 10 and spec["backoffLimit"] == 3
    assert spec["shutdownAfterJobFinishes"] is True and yaml.safe_load(spec["runtimeEnvYAML"]) == {
        "env_vars": {"A": "3"}
    }
    entry = shlex.split(spec["entrypoint"])
    assert entry[:3] == ["basinet", "run", "/experiment/2 Tiny.yaml"] and entry[-2:] == ["--out", "/results/here"]
    assert {"runtime.actors=6", "runtime.gpus_per_actor=1", "runtime.env=null"} <= {*entry}

    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["headGroupSpec"].keys() == {"rayStartParams", "template"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}  # texts, as the definition has it
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for container, volumes in map(check_pod, pods):
        assert container["image"] == "me/basinet:1"
        assert volumes == {
            "/results": {"persistentVolumeClaim": {"claimName": "claim"}},
            "/experiment": {"configMap": {"name": job["metadata"]["name"]}},
        }
    for group, (kind, gpus) in zip(cluster["workerGroupSpecs"], (("A100", "2"), ("V100", "1")), strict=True):
        assert group.keys() == GROUP and re.fullmatch(LABEL, group["groupName"])
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 2
        assert group["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": kind}
        has = group["template"]["spec"]["containers"][0]["resources"]
        assert has["limits"] == has["requests"]
        assert has["limits"] == {"cpu": str(4 * int(gpus)), "memory": "16Gi", "nvidia.com/gpu": gpus}


SLURM = ["slurm", "my tiny.yaml"]
KUBERAY = ["kuberay", "my tiny.yaml", "--image", "i"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*SLURM, "strategy=difusion"], "did you mean 'diffusion'"),
        ([*SLURM, "--nodes", "3", "--workers", "6"], "got 18 on 9 machines; allowed are at most 16"),
        ([*SLURM, "other.yaml"], "one experiment at a time"),
        ([*SLURM, "--gpus", "two"], "--gpus: got two; allowed are N, KIND:N"),
        ([*SLURM, "--gpus", "a:1,a:2"], "several kinds of machines need a KIND:N each, all different"),
        ([*SLURM, "--gpus", "a:1,b:2", "--array", "1"], "Slurm's arrays allow one kind"),
        ([*SLURM, "--array", "2"], "--array: got 2; allowed are at most 1, one per run"),
        ([*SLURM, "--array", "1", "tune={batch_size: [1, 2]}"], "neither stages nor tune"),
        ([*SLURM, "--time", "soon"], "--time: got soon; allowed are HH:MM:SS"),
        ([*SLURM, "--memory", "16"], "--memory: got 16; allowed are such as"),
        ([*SLURM, "--slurm", "nodes=3"], "give --nodes instead"),
        ([*SLURM, "--slurm", "comment=a b"], "allowed are KEY=VALUE"),
        ([*SLURM, "runtime.env={env_vars: {A: 3}}"], "give runtime.name=ray"),
        (["ray", "my tiny.yaml", "--time", "01:00:00"], "--time: ray takes none; slurm and kuberay would"),
        (["ray", "my tiny.yaml", "--gpus", "a:1,b:1"], "allowed is one kind (slurm and kuberay take several)"),
        (["rai", "my tiny.yaml"], "ray-job, kuberay; did you mean 'ray'"),
        (["ray-job", "my tiny.yaml", "runtime.env={working_dir: /usr}"], "allowed are folders that"),
        (KUBERAY, "--volume: got None; kuberay needs CLAIM:PATH"),
        ([*KUBERAY[:2], "--volume", "c:/r"], "--image: none is given"),
        ([*KUBERAY, "--volume", "c:/r", "--out", "/elsewhere"], "allowed are folders in /r"),
        (["ray", "my tiny.yaml", "runtime.env={pips: [a]}"], "runtime.env has no key 'pips'; allowed: env_vars"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, sentence):
    assert main(["launch", *words]) == 2
    found = capsys.readouterr()
    assert sentence in found.err and found.err.count("\n") == 1 and found.out == ""


def test_numbers_of_machines_are_positive(capsys):
    with pytest.raises(SystemExit) as error:
        main(["launch", "slurm", "my tiny.yaml", "--nodes", "0"])
    assert error.value.code == 2 and "got 0; allowed are 1, 2" in capsys.readouterr().err
