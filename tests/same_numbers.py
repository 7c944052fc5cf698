"""Compare the numbers of seventeen experiments before and after a change, byte for byte.

`python -m tests.same_numbers BEFORE` runs them into a folder; `python -m tests.same_numbers AFTER BEFORE` runs them
into another one, and names the files that differ. Both on the same machine: processors round differently.
"""

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

LOGISTIC = {"task": {"name": "logistic", "partition": {"name": "dirichlet", "alpha": 0.5}}, "batch_size": 8}
DIGITS = {"task": {"name": "digits", "train_size": 200, "partition": "shards"}, "batch_size": 4}
SMALL = {"topology": {"name": "ring", "agents": 6}, "replicas": 2, "steps": 30, "evaluate_every": 10, "seed": 7}
MLP = {"name": "mlp", "hidden": [8]}
QSGD = {"name": "choco", "compressor": "qsgd"}

EXPERIMENTS = {
    "strategies": {
        **DIGITS,
        **SMALL,
        "model": MLP,
        "strategy": ["centralized", "consensus", {"name": "diffusion", "order": ["atc", "cta"]}],
        "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.9},
        "optimizer_state": "mix",
        "schedule": "cosine",
        "keep_every": 20,
        "trajectory": "agents",
    },
    "measures": {
        **DIGITS,
        **SMALL,
        "model": MLP,
        "strategy": ["diffusion", "consensus"],
        "analysis_points": ["centroid", "agents"],
        "analysis_views": ["all", "own"],
        "analysis": "all",
    },
    "training_mode": {
        **DIGITS,
        **SMALL,
        "model": {"name": "cnn"},
        "strategy": "diffusion",
        "buffers": "mix",
        "analysis_mode": "training",
        "analysis_samples": 60,
        "analysis": ["hessian_top_eigenvalue", "excess_risk", "average_sharpness", "tail_index"],
    },
    "ray": {**LOGISTIC, **SMALL, "strategy": ["diffusion", "exact_diffusion"], "runtime": {"name": "ray", "actors": 2}},
    "torchrun": {**LOGISTIC, **SMALL, "strategy": ["gradient_tracking", "nids"], "runtime": "torchrun"},
    "attack": {
        **LOGISTIC,
        **SMALL,
        "strategy": ["diffusion", {"name": "robust", "rule": "median"}],
        "attack": {"name": "alie", "share": 0.2},
    },
    "personal": {
        **DIGITS,
        **SMALL,
        "model": MLP,
        "strategy": ["diffusion", "local_sgd", "gradient_tracking"],
        "personal": ["*bias"],
        "analysis_points": ["agents"],
    },
    "compression": {
        **LOGISTIC,
        **SMALL,
        "strategy": [QSGD, {"name": "beer", "compressor": "top_k"}, "lead", "deepsqueeze", "dcd", "powergossip"],
    },
    "sequence": {
        **LOGISTIC,
        **SMALL,
        "topology": [{"name": "one_peer_exponential", "agents": 6}, {"name": "random_matchings", "agents": 6}],
        "strategy": ["diffusion", "asynchronous", "gossip_pga"],
        "skip": "impossible",
    },
    "loop": {**DIGITS, **SMALL, "model": {"name": "cnn"}, "strategy": "consensus", "runtime": {"engine": "loop"}},
    "stacked": {
        **DIGITS,
        **SMALL,
        "model": MLP,
        "strategy": "diffusion",
        "runtime": {"engine": "stacked", "dtype": "float64"},
    },
    "vectorized": {**DIGITS, **SMALL, "model": MLP, "strategy": "diffusion", "runtime": {"engine": "vectorized"}},
    "optimizers": {
        **DIGITS,
        **SMALL,
        "model": MLP,
        "strategy": ["diffusion"],
        "analysis": [],
        "optimizer": [
            {"name": "adam", "lr": 0.01},
            {"name": "galore", "lr": 0.01, "rank": 2, "period": 7},
            {"name": "golore", "lr": 0.01, "rank": 2, "period": 7},
            {"name": "lozo_m", "lr": 0.01, "period": 7},
            {"name": "mezo", "lr": 0.01},
            {"name": "nsgdc_vr", "lr": 0.01},
            {"name": "clipped_sgd", "lr": 0.1},
            {"name": "adamw", "lr": 0.01},
        ],
    },
    "periods": {
        **LOGISTIC,
        **SMALL,
        "strategy": ["slowmo", "k_gt", "gt_sarah", "gt_hsgd", "sam", "subspace_diffusion", "nids", "push_pull"],
        "topology": {"name": "tree", "agents": 6},
        "skip": "impossible",
    },
    "escape": {
        **SMALL,
        "task": "double_well",
        "strategy": ["centralized", "diffusion", "consensus"],
        "optimizer": {"name": "sgd", "lr": 0.1},
        "gradient_noise": {"law": "student", "tail": 3, "size": 1},
        "steps": 200,
        "escape": {"name": "risk_above", "level": 0.2, "every": 5},
    },
}
STUDIES = {"zeroth-order": ["runs=4", "replicas=1", "steps=40"], "galore-counterexample": ["steps=400"]}


def run(name: str, experiment: dict, out: Path) -> None:
    """Run an experiment as a user would."""
    basinet = [sys.executable, "-m", "basinet"]
    if experiment.get("analysis") == "all":
        listed = subprocess.run([*basinet, "list", "measures", "--json"], check=True, capture_output=True, text=True)
        experiment = experiment | {"analysis": list(json.loads(listed.stdout)["measures"])}
    if experiment.get("runtime") == "torchrun":
        basinet = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "basinet"]
    out.mkdir(parents=True)
    file = out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(experiment))
    subprocess.run([*basinet, "run", str(file), "--out", str(out / "run"), "--quiet"], check=True)


def main(after: str, before: str = "") -> int:
    """Run all experiments, and compare."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name, experiment in EXPERIMENTS.items():
        run(name, experiment, Path(after) / name)
    for name, words in STUDIES.items():
        command = [sys.executable, "-m", "basinet", "reproduce", name, *words, "--quiet"]
        subprocess.run([*command, "--out", str(Path(after) / name)], check=True)
    if not before:
        return 0
    wanted = ("metrics.jsonl", "*.csv", "*.npz")
    files = sorted({file.relative_to(before) for kind in wanted for file in Path(before).rglob(kind)})
    differing = [str(file) for file in files if not _same(Path(before) / file, Path(after) / file)]
    print(f"{len(files)} files, {len(differing)} differ", *differing, sep="\n")
    return bool(differing)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
