"""Starts from files of weights and from runs of other models: names, layers and shapes that fit or do not."""

import json
import pickle

import pytest
import torch
from torch import nn

import basinet
from basinet.analysis.report.report import write_report
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.models.loading import load_values, rename_values
from basinet.sim.run.simulation import prepare
from basinet.sim.setup.start import Start
from basinet.sim.setup.weights import read_weights, write_weights

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("no_reports")

BASE = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [5]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 2,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "stacked"},
}
NAME = "diffusion-atc"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)).double()
    return dict(layers.state_dict())


def flat(state):
    return torch.cat([value.flatten() for value in state.values()])


def written(state, folder, form):
    """Write a state dict in one of the forms in which weights are shared; return the start."""
    folder.mkdir(exist_ok=True)
    if form.startswith("."):
        write_weights(state, folder / f"weights{form}", {}, "out")
        return str(folder / f"weights{form}")
    if form == "nested":
        torch.save({"state_dict": state, "epoch": 3}, folder / "checkpoint.pt")
        return {"file": str(folder / "checkpoint.pt")}
    if form == "hub":
        write_weights(state, folder / "model.safetensors", {}, "out")
        return str(folder)
    parts = {name: f"model-{number % 2}-of-2.safetensors" for number, name in enumerate(state)}
    for part in set(parts.values()):
        write_weights({n: value for n, value in state.items() if parts[n] == part}, folder / part, {}, "out")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    return {"folder": str(folder)}


@pytest.mark.parametrize("form", [".safetensors", ".pt", ".bin", "nested", "hub", "shards"])
def test_agents_start_at_the_weights_in_a_file(form, state, tmp_path, make_block):
    block = make_block(**BASE | {"start": written(state, tmp_path / "w", form)})
    assert torch.equal(block.x, flat(state).expand(6, -1))


def test_a_file_that_has_changed_is_noticed(state, tmp_path):
    keys = BASE | {"start": written(state, tmp_path / "w", ".safetensors")}
    prepare(Experiment(keys), tmp_path / "out")
    prepare(Experiment(keys), tmp_path / "out")
    written(state | {"3.bias": state["3.bias"] + 1e-9}, tmp_path / "w", ".safetensors")
    with pytest.raises(ExperimentError, match=r"start: .*weights.safetensors has changed since the run was begun"):
        prepare(Experiment(keys), tmp_path / "out")


def test_names_are_mapped_and_layers_drawn_anew(state, tmp_path, make_block):
    theirs = {f"bert.{name}": value for name, value in state.items()}
    theirs |= {"bert.3.weight": torch.ones(7, 5), "bert.3.bias": torch.ones(7), "bert.pooler": torch.ones(2)}
    torch.save(theirs, tmp_path / "theirs.pt")
    start = {"file": str(tmp_path / "theirs.pt"), "rename": {"bert.*": "*"}, "reinitialize": ["3.*"], "strict": False}
    block, plain = make_block(**BASE | {"start": start}, trial=True), make_block(**BASE)
    for name, view in block.state.parameter_views.items():
        own = plain.state.parameter_views[name]
        assert torch.equal(view, state[name].expand_as(view) if name.startswith("1") else own), name
    assert block.setup.about_start == "2 of 4 tensors taken; not taken: pooler; drawn anew: 3.* (2)"


def test_a_run_of_another_model_with_another_head(tmp_path, make_block, capsys):
    source = basinet.run(**BASE, out=tmp_path / "source", quiet=True).runs[0].path
    keys = BASE | {"model": {"name": "mlp", "hidden": [5, 4]}}
    start = {"run": str(source), "strict": False}
    results = basinet.run(**keys | {"start": start}, out=tmp_path / "out", quiet=True)
    said = (
        "2 of 6 tensors taken; of another shape or value: 3.weight ([10, 5] instead of [4, 5]), 3.bias ([10] instead of"
        " [4]); drawn anew: 3.* (2), 5.* (2)"
    )
    assert results.runs[0].status["start"] == said
    assert f"<dt>Start</dt>\n<dd>{said}.</dd>" in write_report(tmp_path / "out").read_text()
    grid = {"start": [start, start | {"reinitialize": ["3.*", "5.*"]}]}
    assert len(Experiment(keys | grid).runs) == 2  # the list of names is one value
    file = tmp_path / "e.yaml"
    file.write_text(json.dumps(keys | {"start": start}))
    assert main(["run", str(file), "--dry-run"]) == 0
    assert f"start: {said}" in capsys.readouterr().err
    block = make_block(**keys | {"start": start | {"strict": True, "reinitialize": ["3.*", "5.*"]}})
    wanted = [basinet.load(source).state_dict(NAME, replica)["1.weight"] for replica in range(2)]
    assert torch.equal(block.state.parameter_views["1.weight"][[0, 3]], torch.stack(wanted))


def test_tied_tensors_have_one_value():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    values = {"0.weight": torch.ones(2, 2), "1.weight": torch.zeros(2, 2)}
    misfit = "of another shape or value: 1.weight (another value than 0.weight, with which it is tied)"
    assert str(load_values(model, values)) == misfit and model[0].weight.eq(1).all()
    assert not load_values(model, dict.fromkeys(values, torch.zeros(2, 2))) and model[0].weight.eq(0).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rename": {"4.*": "5.*"}}, "start.rename: no name fits '4.*'; there are 1.* (2), 3.* (2)"),
        ({"rename": {"3.*": "*.*"}}, "start.rename: '*.*' has more * than '3.*'"),
        ({"rename": {"*.bias": "b"}}, "start.rename: two values get the name 'b'"),
        ({"rename": {"3.*": "head.*"}}, "start.file: {file} does not belong to this model: missing: 3.* (2); "),
        ({"rename": {"*": "a.*"}, "strict": False}, "start.file: {file}: too little would be taken of it (0 of 4"),
        ({"reinitialize": ["*"]}, "start.file: {file}: too little would be taken of it (0 of 4 tensors"),
        ({"reinitialize": ["head"]}, "start.reinitialize: no parameter fits 'head'"),
        ({"strict": "no"}, "start.strict: got 'no', which should be true or false"),
        ({"strickt": True}, "start.strickt: start has no key 'strickt'; allowed: file, rename, strict, reinitialize"),
        ({"file": "nowhere.pt"}, "start.file: nowhere.pt cannot be read: No such file or directory"),
        ({"file": "e.yaml"}, "start.file: got e.yaml; allowed are files that end with .safetensors, .pt, .pth, .bin"),
    ],
)
def test_what_does_not_fit_is_named(change, sentence, state, tmp_path, make_setup):
    file = written(state, tmp_path / "w", ".pt")
    with pytest.raises(ExperimentError) as error:
        make_setup(**BASE | {"start": {"file": file} | change})
    assert str(error.value).startswith(sentence.format(file=file))


def test_what_is_not_taken_is_said_by_module():
    own, theirs = (nn.ModuleDict({"encoder": nn.ModuleList(nn.Linear(3, 3) for _ in range(8))}) for _ in range(2))
    own["head"], theirs["decoder"], theirs["fusion"] = nn.Linear(3, 1), nn.LSTM(3, 3, num_layers=2), nn.Linear(3, 3)
    values = theirs.state_dict()
    del values["encoder.0.bias"], values["encoder.3.weight"], values["encoder.3.bias"]
    missing, unexpected = "encoder.0.bias, encoder.3.* (2), head.* (2)", "decoder.* (8), fusion.* (2)"
    misfit = load_values(own, values)
    assert str(misfit) == f"missing: {missing}; not in the model: {unexpected}"
    assert misfit.summary == f"13 of 18 tensors taken; not taken: {unexpected}; drawn anew: {missing}"
    values |= {f"encoder.{layer}.bias": torch.zeros(layer + 4) for layer in range(8)}
    other = "of another shape or value: encoder.* (8 of 15), such as encoder.1.bias ([5] instead of [3])"
    assert other in str(load_values(own, values))


def test_a_start_of_another_width_is_refused(tmp_path, make_setup):
    source = basinet.run(**BASE, out=tmp_path / "source", quiet=True).runs[0].path
    wider = BASE | {"model": {"name": "mlp", "hidden": [6]}, "start": {"run": str(source), "strict": False}}
    said = r"^start.run: .*: too little would be taken of it \(1 of 4 tensors taken; of another shape or value: 1\."
    with pytest.raises(ExperimentError, match=said):  # the output layer's bias has the same shape
        make_setup(**wider)


class Code:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("form", ["code", "numbers", "cut"])
def test_no_code_in_a_file_is_run(form, state, tmp_path, capsys):
    file = tmp_path / "weights.pt"
    if form == "code":
        file.write_bytes(pickle.dumps({"a": Code()}))
    elif form == "numbers":
        torch.save({"a": 3}, file)
    else:
        written(state, tmp_path, ".safetensors")
        file = tmp_path / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ExperimentError, match=r"^start.file: .*weights.* (cannot be read: |holds no state dict)"):
        Start.parse(str(file))
    assert not capsys.readouterr().out


def test_an_index_names_no_files_elsewhere(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../b.safetensors"}}))
    with pytest.raises(ExperimentError, match=r"start.folder: .* names files outside of"):
        Start.parse(str(tmp_path))


def test_a_tied_tensor_needs_one_of_its_names_and_a_buffer_without_a_file_none():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    model.register_buffer("positions", torch.arange(3), persistent=False)
    assert not load_values(model, {"head.weight": torch.ones(5, 4)})
    assert model["embed"].weight.eq(1).all()
    assert not load_values(model, {"embed.weight": torch.ones(5, 4), "positions": torch.zeros(3).long()})
    assert not model.get_buffer("positions").any()


def test_every_star_keeps_its_own_characters():
    values = {"a.0.k.w": torch.zeros(1), "b": torch.ones(1)}
    assert list(rename_values(values, {"a.*.k.*": "body.*.key.*", "*": "other.*"})) == ["body.0.key.w", "other.b"]


def test_a_model_is_exported_with_where_it_is_from(tmp_path, capsys):
    run = (
        basinet.run(**BASE | {"adapters": "lora", "runtime": {"dtype": "float64"}}, out=tmp_path / "out", quiet=True)
        .runs[0]
        .path
    )
    loaded = basinet.load(run)
    about = {"run": NAME, "step": "2", "replica": "1", "agent": "2"}
    for suffix in (".safetensors", ".pt"):
        file = tmp_path / f"model{suffix}"
        words = ["export", str(run), str(file), "--replica", "1", "--agent", "2", "--merge"]
        assert main(words) == 0 and str(file) in capsys.readouterr().err
        state = read_weights(file, "file")
        wanted = loaded.state_dict(NAME, 1, 2, merge=True)
        assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)
        plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)).double()
        plain.load_state_dict(state)
        x = torch.rand(3, 64, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(plain(x), loaded.model(NAME, 1, 2)(x), rtol=1e-12, atol=1e-13)
    found = torch.load(file, weights_only=True).about
    assert json.loads(found["made"])["recorded"]["arguments"]["num_outputs"] == 10
    assert found == {**about, "made": found["made"]}
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt", **found}
    assert basinet.export(run, tmp_path / "all.safetensors").keys() > wanted.keys()
    assert main(["export", str(run), str(tmp_path / "model.onnx")]) == main(["export", str(run)]) == 2
    said = capsys.readouterr().err
    assert "allowed are files that end with .safetensors" in said and "FILE: a file is needed" in said


def test_tied_weights_are_written_under_both_names(tmp_path):
    tied = torch.rand(3, 2)
    write_weights({"a": tied, "b": tied, "c": tied.T}, tmp_path / "w.safetensors", {}, "out")
    state = read_weights(tmp_path / "w.safetensors", "file")
    assert torch.equal(state["a"], tied) and torch.equal(state["b"], tied) and torch.equal(state["c"], tied.T)
