"""Text from finished runs, and the folders that transformers reads."""

import json
import threading

import pytest
import torch

import basinet
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models import Llama
from basinet.sim.models.language.generation import choose, generate
from basinet.sim.run.files import sealed_json
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.setup.weights import write_folder
from basinet.sim.tasks.language.tokens import Bytes, train_bpe

pytestmark = pytest.mark.usefixtures("untried")

SMALL = {
    "model": {"name": "llama", "layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "tied": True},
    "topology": {"name": "ring", "agents": 2},
    "strategy": "diffusion",
    "optimizer": {"name": "adam", "lr": 0.02},
    "batch_size": 4,
    "steps": 60,
    "replicas": 1,
    "analysis": [],
    "evaluate_every": 60,
    "runtime": {"device": "cpu"},
}


def carry_out(out, **keys):
    """Carry an experiment out without its report, which takes longer than all else."""
    setups = prepare(basinet.Experiment(SMALL | keys), out)
    simulate(setups, out, TerminalMonitor(len(setups), quiet=True), threading.Event(), measure_replica)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A text that repeats a few characters."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("é=1, " * 48, encoding="utf-8")
    return {"name": "language_model", "path": str(file), "length": 8}


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """The folder of a run that has learned it."""
    folder = tmp_path_factory.mktemp("trained")
    carry_out(folder, task=task)
    return folder / "diffusion-atc"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Llama((6,), 5, layers=2, width=8, heads=2).double()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    return model


def test_outputs_that_are_not_finite_are_told():
    with pytest.raises(ValueError, match="the model's outputs are not finite"):
        tokens_of(lambda tokens: torch.full((1, tokens.shape[1], 5), float("nan")), [1], 3)


def tokens_of(model, prompt, count, seed=0, **settings):
    return [*generate(model, prompt, 6, torch.Generator().manual_seed(seed), tokens=count, **settings)]


def test_generation_with_a_cache_is_that_of_full_passes(model):
    """Once six tokens are seen, it goes on from the last three."""
    for settings in ({"temperature": 0.0}, {"temperature": 0.7, "top_k": 3}):
        found = tokens_of(model, [1, 2], 20, **settings)
        assert found == tokens_of(lambda tokens: model(tokens), [1, 2], 20, **settings)
        assert len(found) == 20 and found == tokens_of(model, [1, 2], 20, **settings)
    greedy, seen = tokens_of(model, [1, 2], 20, temperature=0.0), [1, 2]
    for token in greedy:
        seen = seen[-3:] if len(seen) > 6 else seen
        assert token == int(model(torch.tensor([seen]))[0, -1].argmax())
        seen.append(token)
    assert tokens_of(model, [4] * 9 + [1, 2, 3, 0, 1, 2], 3) == tokens_of(model, [1, 2, 3, 0, 1, 2], 3)


def test_generation_stops_at_the_end_of_the_text(model):
    whole = tokens_of(model, [1], 12, seed=4)
    end = whole[5]
    assert tokens_of(model, [1], 12, seed=4, end=end) == whole[: whole.index(end)]
    assert tokens_of(model, [1], 0) == []


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {0, 2}),
        ({"top_p": 0.5}, {2}),
        ({"top_p": 0.7}, {0, 2}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_k": 3, "top_p": 0.8}, {0, 2}),
        ({"temperature": 0.0}, {2}),
        ({"temperature": 1e-3}, {2}),
    ],
)
def test_tokens_are_drawn_from_those_that_are_allowed(settings, allowed):
    """Probabilities .25, .15, .5, .1; with three left, .28, .17, .56, of which two reach .8."""
    logits = torch.tensor([0.25, 0.15, 0.5, 0.1]).log()
    generator = torch.Generator().manual_seed(0)
    settings = {"temperature": 1.0, "top_k": None, "top_p": 1.0} | settings
    found = torch.tensor([choose(logits, **settings, generator=generator) for _ in range(2000)])
    shares = found.bincount(minlength=4) / 2000
    kept = logits.exp().where(torch.tensor([token in allowed for token in range(4)]), 0)
    # Five standard errors of 2,000 draws, of at most .0112 each.
    torch.testing.assert_close(shares, kept / kept.sum(), rtol=0, atol=0.056)
    assert set(found.tolist()) == allowed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"top_k": 0}, "top_k: got 0"),
        ({"top_p": 0.0}, "top_p: got 0.0"),
        ({"count": -1}, "tokens: got -1"),
        ({"prompt": [1, 5]}, "prompt: got the token 5; the model has 5"),
        ({"prompt": []}, "prompt: it is empty"),
    ],
)
def test_impossible_settings_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        tokens_of(model, **{"prompt": [1], "count": 3} | settings)


def test_text_streams_from_a_run(trained, capsys):
    found = []
    whole = basinet.generate(trained, "é=1", tokens=23, temperature=0, show=found.append)
    assert whole == ", é=1, é=1, é=1, é="  # 23 bytes
    assert "".join(found) == whole and "é" in found  # both of its bytes at once
    assert main(["generate", str(trained), "--prompt", "é=1", "--tokens", "23", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == f"é=1{whole}\n"
    assert main(["generate", str(trained), "--tokens", "9", "--seed", "3", "--agent", "1", "--temperature", "5"]) == 0
    again = basinet.generate(trained, tokens=9, seed=3, agent=1, temperature=5)
    assert capsys.readouterr().out == f"{again}\n"
    assert again != basinet.generate(trained, tokens=9, seed=4, agent=1, temperature=5)


def test_tokens_stay_with_the_run_when_its_text_changes(tmp_path, capsys):
    """Other text of the same words, of which as many tokens are made, but others."""
    file, out = tmp_path / "text.txt", tmp_path / "out"
    words = {"path": str(file), "length": 8}
    bpe = {"name": "language_model", **words, "tokens": "bpe", "vocabulary": 260}
    file.write_text("to be or not to be. " * 60)
    carry_out(out, task=bpe, steps=30)
    run = out / "diffusion-atc"
    first = basinet.generate(run, "to be", tokens=9, temperature=0)
    basinet.export(run, tmp_path / "hub", transformers=True)
    content = (tmp_path / "hub" / "tokenizer.json").read_text()

    file.write_text("abracadabra and kadabra " * 60)
    assert main(["generate", str(run), "--prompt", "to be", "--tokens", "9", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == f"to be{first}\n"
    basinet.export(run, tmp_path / "hub", transformers=True)
    assert (tmp_path / "hub" / "tokenizer.json").read_text() == content == (run / "tokens.json").read_text()

    carry_out(out, task=bpe, steps=30)  # nothing is left to do
    status = run / "status.json"
    status.write_text(sealed_json(json.loads(status.read_text()) | {"state": "interrupted"}))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ExperimentError, match=rf"task.tokens: {run} began with other tokens than are made of the data"):
        carry_out(out, task=bpe, steps=30)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status.write_text(sealed_json(json.loads(status.read_text()) | {"state": "done"}))

    prompts = {"name": "prompt_classification", "length": 24, "shots": 2, "test_shots": 2}
    allowed = f"allowed is task.tokens={run}/tokens.json"
    for task in (bpe, prompts):
        with pytest.raises(
            ExperimentError, match=rf"start.run: {run} has other tokens than task.tokens here.*{allowed}"
        ):
            carry_out(tmp_path / "next", task=task, start=str(run))
    same = {"name": "language_model", **words, "tokens": str(run / "tokens.json")}
    carry_out(tmp_path / "next", task=same, steps=1, start=str(run))

    (run / "tokens.json").unlink()
    assert main(["generate", str(run)]) == main(["export", str(run), str(tmp_path / "hub"), "--transformers"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert f"RUN: {run} began with other tokens (task.tokens) than are made of the data now" in line


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--temperature", "-1"], "temperature: got -1.0; allowed are numbers of at least 0"),
        (["--top-p", "2"], "top_p: got 2.0"),
        (["--tokens", "0", "--top-p", "7"], "top_p: got 7.0; allowed are numbers above 0, and up to 1"),
        (["--tokens", "0", "--top-k", "0"], "top_k: got 0; allowed are numbers of at least 1"),
        (["--tokens", "-1"], "tokens: got -1; allowed are numbers of at least 0"),
        (
            ["--seed", "99999999999999999999"],
            "seed: got 99999999999999999999; allowed are whole numbers from 0 to 9223",
        ),
        (["--seed", "-1"], "seed: got -1; allowed are whole numbers from 0"),
        (["--agent", "2"], "has 2 agents; allowed: centroid, 0 to 1"),
        (["--replica", "1"], "has 1 replica; allowed is 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(trained, words, sentence, capsys):
    assert main(["generate", str(trained), *words]) == 2
    out, err = capsys.readouterr()
    assert not out and sentence in err and err.count("\n") == 1


def test_a_run_without_text_generates_none(tmp_path, capsys):
    carry_out(tmp_path / "out", task="digits", model={"name": "mlp", "hidden": [2]}, steps=1)
    run = tmp_path / "out" / "diffusion-atc"
    assert main(["generate", str(run)]) == 2
    assert "has no tokens of text; allowed are runs of a task such as language_model" in capsys.readouterr().err
    assert main(["export", str(run), str(tmp_path / "model"), "--transformers"]) == 2
    assert "--transformers: MLP is no model of transformers" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_transformers_reads_an_exported_folder_and_a_run_starts_from_it(trained, task, tmp_path, tried):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "hub"
    assert main(["export", str(trained), str(folder), "--transformers"]) == 0
    ours = basinet.load(trained).model("diffusion-atc")
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-4)
    assert theirs.config.eos_token_id == 256 and theirs.dtype == torch.float32
    assert theirs.lm_head.weight is theirs.model.embed_tokens.weight

    theirs.save_pretrained(tmp_path / "again")  # as transformers writes it
    carry_out(tmp_path / "out", task=task, steps=1, start=str(tmp_path / "again"))
    before, after = (load_run(path).metrics for path in (trained, tmp_path / "out" / "diffusion-atc"))
    assert after[0]["step"] == 0 and after[0]["train_loss"] == pytest.approx(before[-1]["train_loss"], rel=1e-6)

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5, "rope_theta": 5e5}))
    sentence = r"holds another model: rms_norm_eps is 1e-05 instead of 1e-06; rope_theta is 500000.0 instead of 10000"
    with pytest.raises(ExperimentError, match=sentence):
        carry_out(tmp_path / "other", task=task, start=str(folder))
    assert not (tmp_path / "other").exists()


def test_the_folder_need_not_be_new_but_is_no_file(trained, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert main(["export", str(trained), str(file), "--transformers"]) == 2
    assert f"--out: {file} is a file; choose a folder" in capsys.readouterr().err
    for _ in range(2):
        state = basinet.export(trained, tmp_path / "hub", transformers=True)
    written = {path.name for path in (tmp_path / "hub").iterdir()}
    assert written == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert "lm_head.weight" not in state and len(state) == 11


@pytest.mark.parametrize(
    "make", [Bytes, lambda: train_bpe(["to be, or not to be; that is"] * 9, 275)], ids=["bytes", "bpe"]
)
def test_transformers_reads_the_tokens(make, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokens = make()
    write_folder(Llama((6,), tokens.size, layers=1, width=8, heads=2), tmp_path, tokens, {})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    every = bytes(range(256)).decode("latin-1")
    for text in ("to be, or\n\t naïve 日本 (that)", every):
        found = theirs(text)["input_ids"]
        assert found == tokens.encode(text)
        assert theirs.decode(found, clean_up_tokenization_spaces=False) == text == tokens.decode(found)
    assert theirs.eos_token_id == tokens.end and theirs.model_max_length == 6
