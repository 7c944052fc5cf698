import json
from pathlib import Path

import numpy as np
import pytest
import yaml

STRATEGIES = {
    "centralized": {"name": "centralized"},
    "consensus": {"name": "consensus"},
    "atc": {"name": "diffusion", "order": "atc"},
    "cta": {"name": "diffusion", "order": "cta"},
}
AGENTS = 12


def config(strategy, batch_size):
    return {
        "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "model": {"name": "mlp", "hidden": [32]},
        "topology": {"name": "ring", "agents": AGENTS, "policy": "metropolis"},
        "strategy": strategy,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
        "schedule": {"name": "cosine"},
        "batch_size": batch_size,
        "steps": 1000,
        "replicas": 5,
        "seed": 0,
        "runtime": {"name": "inline", "device": "cpu", "dtype": "float32"},
        "evaluate_every": 50,
        "analysis": ["hessian_trace", "hessian_top_eigenvalue", "excess_risk"],
    }


def measurements(rng, shift, flat, *, centralized, last, diverged):
    level = rng.normal(0, 0.004)
    for step in range(0, last + 1, 50):
        decay = np.exp(-step / 180)
        loss = (2.3 * decay + 0.02 + shift / 5 + 0.01 * rng.random()) * (50 if step >= diverged else 1)
        row = {"step": step, "epoch": step / 45, "communicated_bytes": step * 4096, "train_loss": loss}
        row |= {"test_loss": loss * 1.1, "test_accuracy": 0.97 - 0.87 * decay - shift + level}
        row |= {"gradient_norm": decay + 0.01}
        row["consensus_distance"] = (
            0.0 if centralized or step == 0 else 0.05 * (decay + 0.01) * rng.lognormal()
        )
        if step >= diverged:
            yield {"step": step, "train_loss": float("nan")}
            return
        if step == 1000:
            trace = flat * rng.lognormal(0, 0.1)
            row |= {"hessian_trace": trace, "hessian_trace_error": trace / 50}
            row |= {"hessian_top_eigenvalue": trace / 9 * rng.lognormal(0, 0.1)}
            row |= {"excess_risk": 2e-4 * 1000 / flat * rng.lognormal(0, 0.4)}
            row |= {"excess_risk_gradient_norm": 1e-6}
        yield row


def write_run(path, settings, rng, *, shift, flat, state="done", last=1000, diverged=None):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    diverged = diverged or {}
    centralized = settings["strategy"]["name"] == "centralized"
    with open(path / "metrics.jsonl", "w") as file:
        for replica in range(5):
            end = diverged.get(replica, 10**9)
            rows = measurements(rng, shift, flat, centralized=centralized, last=last, diverged=end)
            file.writelines(json.dumps(row | {"replica": replica}) + "\n" for row in rows)
    status = {"state": state, "step": last, "steps": 1000, "diverged": diverged, "engine": "inline"}
    (path / "status.json").write_text(json.dumps(status))
    ring = [(k, (k + move) % AGENTS, 1 / 3) for k in range(AGENTS) for move in (-1, 0, 1)]
    lines = [f"{receiver},{sender},{weight}" for receiver, sender, weight in ring]
    (path / "topology.csv").write_text("\n".join(["receiver,sender,weight", *lines]) + "\n")
    held = np.random.default_rng(7).dirichlet([0.3] * AGENTS, size=10)
    lines = [f"0,{k},{label},{int(140 * held[label, k])}" for k in range(AGENTS) for label in range(10)]
    (path / "partition.csv").write_text("\n".join(["replica,agent,label,samples", *lines]) + "\n")


def write_experiment(folder):
    """Two batch sizes by four strategies by five replicas; one replica diverged, one run is unfinished."""
    rng = np.random.default_rng(0)
    runs = []
    for batch_size in (32, 256):
        for index, (name, strategy) in enumerate(STRATEGIES.items()):
            last = [(256, "cta")] == [(batch_size, name)]
            extra = {"state": "interrupted", "last": 400} if last else {}
            if (batch_size, name) == (32, "consensus"):
                extra = {"diverged": {3: 150}}
            flat = batch_size**0.5 * (200 - 40 * index)
            settings = config(strategy, batch_size)
            shift = batch_size / 8000 + (0.01 if index == 0 else 0.0)
            runs.append(f"{name}-{batch_size}")
            write_run(folder / runs[-1], settings, rng, shift=shift, flat=flat, **extra)
    whole = config(list(STRATEGIES.values()), [32, 256])
    whole |= {"runs": runs, "versions": {"basinet": "0.1.0", "torch": "2.13.0", "python": "3.11.7"}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return folder
