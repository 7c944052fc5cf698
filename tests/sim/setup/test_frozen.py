"""Frozen parameters and adapters: what is trained and sent, what is shared, and what a folder holds of it."""

import copy
import shutil
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

import basinet
from basinet.analysis.runs.measure_again import measure_again
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.engines import ENGINES
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import Interrupted, prepare, simulate

pytestmark = pytest.mark.usefixtures("no_reports")

BASE = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [5], "norm": "layer"},
    "topology": {"name": "star", "agents": 3, "policy": "uniform"},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 6,
    "evaluate_every": 3,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "vectorized"},
}
NAME = "diffusion-atc"
LORA = {"adapters": {"name": "lora", "rank": 2, "dropout": 0.25}, "trained": ["4.*"]}
FROZEN = {"frozen": ["1.*", "2.bias"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    out = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder / "report.html")
        return basinet.run(**BASE, out=out / "out", quiet=True).runs[0].path


def state_of(folder):
    return load_checkpoint(folder / "checkpoint" / "state.safetensors")


def numbers(block, steps=3):
    block.advance(steps)
    return block.x.detach().clone(), block.channel.bytes_sent


def test_a_pattern_freezes_as_the_users_own_module_does(make_block):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10)).double()
    by_hand = copy.deepcopy(module)
    by_hand[1].weight.requires_grad_(False)
    wanted, sent = numbers(make_block(**BASE | {"model": by_hand}))
    for keys in ({"frozen": ["1.w*"]}, {"trained": ["*.bias", "3.weight"]}):
        found, bytes_sent = numbers(make_block(**BASE | {"model": module} | keys))
        assert torch.equal(found, wanted) and bytes_sent == sent
    everything, all_sent = numbers(make_block(**BASE | {"model": module}))
    assert found.shape[1] == 5 + 60 and everything.shape[1] == 5 * 64 + 5 + 60
    assert all_sent * 65 == sent * (65 + 320)


def test_adapters_alone_are_trained_and_sent(make_block):
    block = make_block(**BASE | {"model": {"name": "mlp", "hidden": [5]}, "adapters": {"name": "lora", "rank": 3}})
    size = 3 * (64 + 5) + 3 * (5 + 10)
    assert block.setup.num_parameters == block.x.shape[1] == size
    a, b = block.state.parameter_views["1.lora_A"], block.state.parameter_views["1.lora_B"]
    assert not b.any() and torch.equal(a[0], a[2]) and not torch.equal(a[0], a[3])  # each replica has its own draws
    block.advance(1)
    plain = make_block(**BASE | {"model": {"name": "mlp", "hidden": [5]}})
    plain.advance(1)
    assert block.channel.bytes_sent / plain.channel.bytes_sent == size / plain.x.shape[1]


def test_a_module_of_ones_own_is_adapted_and_stays_as_it_is(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10)).double()
    before = copy.deepcopy(module.state_dict())
    keys = BASE | {"model": module, "adapters": {"name": "lora", "targets": ["1"]}}
    results = basinet.run(**keys, out=tmp_path, quiet=True)
    assert [type(layer) for layer in module] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Linear]
    first, second = (results.state_dict(NAME, replica) for replica in range(2))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(first[name], value) and torch.equal(second[name], value)
    assert not torch.equal(first["1.lora_A"], second["1.lora_A"])  # each replica has its own draws
    again = basinet.load(tmp_path).state_dict(NAME, 1, module=module)
    assert again.keys() == second.keys() and all(torch.equal(again[name], second[name]) for name in second)


@pytest.mark.parametrize("start", [None, "own", 0])
@pytest.mark.parametrize("keys", [LORA, FROZEN], ids=["lora", "frozen"])
def test_engines_agree(keys, start, source, make_setup):
    begin = {} if start is None else {"start": {"run": str(source), "replica": start}}
    setup = make_setup(**BASE | keys | begin)
    placement = Placement.split(2, 3)
    blocks = []
    for engine in ENGINES:
        with suppress(ValueError):  # some engines cannot run every model
            blocks.append(Block(setup, placement, torch.device("cpu"), engine))
    assert len(blocks) > 1
    before = [{name: b.clone() for name, b in block.state.buffers.items()} for block in blocks]
    (one, sent), *others = (numbers(block) for block in blocks)
    for other, _ in others:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert bool(before[0]) == (start == "own")
    for block, buffers in zip(blocks, before, strict=True):
        assert all(torch.equal(block.state.buffers[name], value) for name, value in buffers.items())
    mixed_setup = make_setup(**BASE | keys | begin | {"buffers": "mix"})
    mixed = Block(mixed_setup, placement, torch.device("cpu"), blocks[0].oracle.engine.name)
    found, mixed_sent = numbers(mixed)
    assert torch.equal(found, one) and mixed_sent == sent  # frozen values are no running statistics


def test_each_replica_freezes_what_it_has_reached(source, make_block):
    block = make_block(**BASE | LORA | {"start": str(source)})
    rows, pi = state_of(source)["rows"]["parameters"].numpy(), block.setup.honest_weights[0]
    weight = block.state.buffers["1.weight"].flatten(1)
    for replica in range(2):
        wanted = np.einsum("k,kp->p", pi, rows[3 * replica : 3 * replica + 3, : 5 * 64])
        np.testing.assert_allclose(weight[3 * replica : 3 * replica + 3], np.stack([wanted] * 3), rtol=1e-12)


@pytest.mark.parametrize("begin", ["own", 0, "given"])
def test_a_folder_outlives_where_its_frozen_values_came_from(begin, source, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    plain = basinet.load(copied).state_dict(copied.name, 0)
    start = plain if begin == "given" else {"run": str(copied), "replica": begin}
    first = basinet.run(**BASE | LORA | {"start": start}, out=tmp_path / "out", quiet=True)
    shutil.rmtree(copied)
    folder = tmp_path / "out" / NAME
    loaded = basinet.load(folder)
    state = loaded.state_dict(NAME, 0)
    assert all(torch.equal(state[name], plain[name]) for name in plain if not name.startswith("4."))
    assert not torch.equal(state["4.weight"], plain["4.weight"]) and set(state) - set(plain)
    assert all(torch.equal(value, first.state_dict(NAME, 0)[name]) for name, value in state.items())
    measured = load_run(folder).final("train_loss")
    model = loaded.model(NAME, 1, merge=True)
    assert model.state_dict().keys() == plain.keys()
    measure_again(folder, {"analysis": ["hessian_trace"], "analysis_samples": 20})
    assert len(load_run(folder).final("hessian_trace")) == 2
    again = {"start": {"run": str(folder)}, "seed": 7}
    third = basinet.run(**BASE | LORA | again, out=tmp_path / "third", quiet=True)
    begun = {row["replica"]: row["train_loss"] for row in third.runs[0].metrics if row["step"] == 0}
    assert begun == pytest.approx(measured, rel=1e-10)


def test_a_resumed_run_ends_like_an_unbroken_one(source, tmp_path):
    keys = BASE | LORA | {"start": str(source)}
    ends = []
    for name, stop_at in (("whole", None), ("broken", 3)):
        for at in dict.fromkeys((stop_at, None)):
            stop = threading.Event()
            monitor = TerminalMonitor(1, quiet=True)
            if at is not None:
                monitor.advanced = lambda run, step, rows, at=at, stop=stop: stop.set() if step >= at else None
            setups = prepare(Experiment(keys), tmp_path / name)
            try:
                simulate(setups, tmp_path / name, monitor, stop)
            except Interrupted:
                assert load_run(tmp_path / name / NAME).status["step"] == 3
        ends.append(state_of(tmp_path / name / NAME)["rows"])
    assert torch.equal(ends[0]["parameters"], ends[1]["parameters"])
    assert all(torch.equal(value, ends[1]["buffers"][name]) for name, value in ends[0]["buffers"].items())


def test_replicas_cannot_share_frozen_values_that_differ(source, make_setup):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 10))
    module[1].requires_grad_(False)
    with pytest.raises(ExperimentError, match=r"other values of the frozen parameter 1.weight, .*start.replica: 0"):
        make_setup(**BASE | {"model": module, "start": str(source)})
    for begin in ({"start": str(source), "replicas": 1}, {"start": {"run": str(source), "replica": 0}}):
        setup = make_setup(**BASE | {"model": module} | begin)
        assert torch.equal(setup.template()[1].weight, basinet.load(source).state_dict(NAME)["1.weight"])
    setup = make_setup(**BASE | {"frozen": ["1.*"], "start": str(source), "replicas": 1})
    assert torch.equal(
        setup.template()[1].weight.flatten(), basinet.load(source).state_dict(NAME)["1.weight"].flatten()
    )


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"frozen": ["head.*"]}, "frozen: no parameter fits 'head.*'; there are 1.weight, 1.bias, 2.weight, 2.bias,"),
        ({"trained": ["0.*"]}, "trained: no parameter fits '0.*'"),
        ({"frozen": ["*"]}, "frozen: all parameters are frozen, so that nothing is left to train"),
        ({"adapters": {"name": "lora", "targets": ["3"]}}, "adapters.targets: no layer that can be adapted fits '3'"),
        ({"adapters": "lorra"}, "adapters: there is no adapter 'lorra'; allowed: lora; did you mean 'lora'?"),
        ({"adapters": {"name": "lora", "rank": 0}}, "adapters.rank: got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(keys, sentence, make_setup):
    with pytest.raises(ExperimentError) as error:
        make_setup(**BASE | keys)
    assert str(error.value).startswith(sentence)
