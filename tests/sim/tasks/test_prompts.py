"""Prompts: the word that continues a passage, and fine-tuning of all parameters, of the head, or of adapters."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import basinet
from basinet.sim.data.partitions import by_column
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.models import Llama
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import PromptClassification, prompt_classification
from basinet.sim.tasks.language.texts import manuals, standard_library
from basinet.sim.tasks.language.tokens import train_bpe

PACKAGES = {"classes": "packages", "packages": ("json", "logging", "http"), "length": 40}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
MODEL = {"name": "llama", "layers": 1, "width": 8, "heads": 2}


def passages(task: PromptClassification, data: Any) -> list[str]:
    found = [task.tokens.decode(row.tolist()) for row in data[0]]
    assert all(text.endswith("\nThis is ") for text in found)
    return [text.removesuffix("\nThis is ") for text in found]


def test_prompts_are_passages_of_their_class_and_no_document_is_in_both_parts() -> None:
    task = prompt_classification(**PACKAGES, shots=6, test_shots=5)
    assert isinstance(task, PromptClassification)
    assert task.names == ("json", "logging", "http") and task.tokens.decode(task.words.tolist()) == "jlh"
    assert task.train[0].shape == (18, 40) and task.test[0].shape == (15, 40)
    assert (task.train[0][:, 0] == task.tokens.end).all()
    assert task.labels is not None and task.labels.bincount().tolist() == [6, 6, 6]
    files = {file: text for file, text in standard_library().items() if file.startswith(("json", "logging", "http"))}
    for text, label, file in zip(passages(task, task.train), task.labels, task.columns["document"], strict=True):
        assert text in files[str(file)] and str(file).startswith(task.names[label])
    for text, label in zip(passages(task, task.test), task.test[1], strict=True):
        homes = {file for file, content in files.items() if text in content}
        assert any(file.startswith(task.names[label]) for file in homes)
        assert not homes <= {*task.columns["document"]}
    parts = by_column(task.columns, 3, np.random.default_rng(0), column="package")
    assert sorted(task.labels[part].unique().tolist() for part in parts) == [[0], [1], [2]]


def test_the_seed_draws_the_shots_and_not_the_test() -> None:
    first, again, other = (prompt_classification(**PACKAGES, shots=6, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.train, again.train, strict=True))
    assert not torch.equal(first.train[0], other.train[0])
    assert all(torch.equal(a, b) for a, b in zip(first.test, other.test, strict=True))
    more = prompt_classification(**PACKAGES, shots=9)
    rows = torch.cat([torch.arange(6) + 9 * label for label in range(3)])
    assert torch.equal(more.train[0][rows], first.train[0])


def test_kinds_are_docstrings_and_code() -> None:
    task = prompt_classification(length=60, shots=5, test_shots=5)
    assert isinstance(task, PromptClassification) and task.names == ("text", "code")
    texts, files = passages(task, task.train), [standard_library()[str(name)] for name in task.columns["document"]]
    for text, file in zip(texts[:5], files, strict=False):
        docstrings = [ast.get_docstring(node) for node in ast.walk(ast.parse(file)) if isinstance(node, DOCUMENTED)]
        assert text in "\n".join(filter(None, docstrings))
    for text, file in zip(texts[5:], files[5:], strict=True):
        lines = text.split("\n")
        assert all(line in file for line in lines) and not any(line.strip().startswith("#") for line in lines[1:])
    assert task.baselines()["majority class"]["test_accuracy"] == 0.5


def test_only_the_label_words_behind_the_prompt_count() -> None:
    task = prompt_classification(**PACKAGES, shots=2, test_shots=2)
    assert isinstance(task, PromptClassification)
    model = Llama(task.input_shape, task.vocabulary, layers=1, width=8, heads=2).double()
    logits = model(task.train[0])
    scores = torch.stack([logits[:, -1, ord(letter)] for letter in "jlh"], 1)
    odds = scores.log_softmax(1)
    outputs = task.outputs(model, task.train)
    assert torch.equal(outputs, scores)
    wanted = -torch.stack([odds[row, label] for row, label in enumerate(task.train[1])]).mean()
    assert torch.allclose(task.objective(model, task.train), wanted, rtol=1e-12)
    assert torch.equal(task.predict(outputs), scores.argmax(1))

    def disturbed(tokens: Tensor) -> Tensor:
        others = torch.ones(257, dtype=torch.bool).index_fill(0, task.words, False)
        found: Tensor = model(tokens).masked_fill(others, 7.0)
        found[:, :-1] = 3.0
        return found

    assert torch.equal(task.outputs(disturbed, task.train), scores)
    assert task.evaluate(model)["test_accuracy"] == task.evaluate(model, chunk=1)["test_accuracy"]
    assert task.outputs_per_sample == 40 * 257


def test_words_of_several_tokens_are_told_by_the_first_that_differs(tmp_path: Path) -> None:
    tokens = train_bpe(["This is JSON, this is JOKE. " * 9, *list(manuals().values())[:5]], 300)
    (tmp_path / "tokenizer.json").write_text(tokens.content, encoding="utf-8")
    task = prompt_classification(
        **PACKAGES,
        shots=2,
        test_shots=2,
        tokens=str(tmp_path / "tokenizer.json"),
        words={"json": "JSON", "logging": "JOKE", "http": "JAM"},
    )
    assert isinstance(task, PromptClassification)
    prompts = [tokens.encode(f"\nThis is {word}") for word in task.names]
    same = next(place for place in range(99) if len({prompt[place] for prompt in prompts}) > 1)
    assert task.words.tolist() == [prompt[same] for prompt in prompts]
    assert task.train[0][0, 40 - same :].tolist() == prompts[0][:same]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": "bpe"}, "tokens: got 'bpe', which would be trained on other text than that of the model; allowed"),
        ({"classes": "packages", "packages": ["json", "jsn"]}, "packages: got 'jsn', which is no package or module"),
        ({"classes": "packages", "packages": ["json"]}, "packages: got 1 class, and at least two are needed"),
        ({"words": {"Welsh": "x"}}, "words: got one for 'Welsh', which is no class; allowed are text, code"),
        ({"words": {"text": "cod"}}, "words: got 'cod', with whose tokens 'code' begins; allowed are words that"),
        ({"words": {"text": "code"}}, "words: got 'code' for two classes; allowed is another word for each"),
        ({"words": {"text": ""}}, "words: got ''; allowed are words of at least a letter"),
        ({"classes": "packages", "packages": ["json", "http", "json"]}, "packages: got 'json' twice; allowed are"),
        (
            {"classes": "packages", "packages": ["json", "http", "html"]},
            r"words: got 'html', which differs from 'http' not in the token where the words part \('h'\)",
        ),
        ({**PACKAGES, "shots": 10**6}, r"shots: got 1000000, and json has \d+ train passages of 30 tokens; allowed"),
        ({"length": 9}, "length: got 9, and the prompt alone has 10 tokens; allowed are more"),
        ({"packages": ["json", "http"]}, r"packages is \['json', 'http'\], which is for classes: packages; allowed"),
        ({"path": "x", "packages": ["json"]}, r"packages is \['json'\], which is for classes: packages; allowed"),
        ({"path": "x", "classes": "packages"}, "classes is 'packages', which is for samples made here; allowed with"),
        ({"path": "nowhere/*/*.txt"}, "path: got 'nowhere/"),
    ],
    ids=range(15),
)
def test_mistakes_are_one_sentence(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_classification(**settings)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("prompt_classification", r"needs a language model, such as llama, .* \(2, 32, 257\), and not \(2, 2\)"),
        ("language_model", r"needs a language model, such as llama, .* \(2, 32, 257\), and not \(2, 257\)"),
        (
            {"name": "language_model", "separate": True},
            r"has to take \(tokens, documents\), which Transformer",
        ),
    ],
    ids=range(3),
)
def test_a_model_that_is_none_of_language_is_told_so(task: Any, message: str) -> None:
    given = {"name": task} if isinstance(task, str) else task
    small = {"shots": 2, "test_shots": 2} if task == "prompt_classification" else {"bytes": 8_000}
    keys = {
        "task": {**given, **small, "length": 32},
        "model": "transformer",
        "topology": {"name": "ring", "agents": 2},
        "strategy": "diffusion",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 2,
        "steps": 1,
        "runtime": {"device": "cpu"},
    }
    with pytest.raises(ExperimentError, match=message):
        build_setup(Config.parse(keys))


def test_defaults_as_a_run_records_them_mean_nothing_else(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for file in "12345":
            (tmp_path / name / file).write_text(name * 400)
    task = prompt_classification(
        path=f"{tmp_path}/*/*", packages=["asyncio", "email", "tkinter", "unittest"], shots=2, test_shots=2
    )
    assert isinstance(task, PromptClassification) and task.names == ("a", "b")


FINETUNED: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "full": ({}, lambda name: True),
    "head": ({"trained": ["lm_head.*"]}, lambda name: name == "lm_head.weight"),
    "lora": ({"adapters": {"name": "lora", "rank": 2, "targets": ["*_proj"]}}, lambda name: "_proj" in name),
}


def test_what_is_not_fine_tuned_stays_as_it_was_pretrained(tmp_path: Path, no_reports: None) -> None:
    prompts = {**PACKAGES, "packages": ["json", "http"], "shots": 4, "test_shots": 4}
    stages: dict[str, Any] = {
        "pretrain": {
            "task": {"name": "language_model", "bytes": 8_000, "length": 40},
            "optimizer": {"name": "adam", "lr": 0.01},
            "steps": 6,
        }
    }
    for name, (settings, _) in FINETUNED.items():
        stages[name] = {
            "task": {"name": "prompt_classification", **prompts},
            "optimizer": {"name": "mezo", "lr": 0.01} if name == "full" else {"name": "sgd", "lr": 0.1},
            "steps": 3,
            "start": {"stage": "pretrain"},
            **settings,
        }
    basinet.run(
        model=MODEL,
        topology={"name": "ring", "agents": 2},
        strategy="diffusion",
        runtime={"device": "cpu"},
        batch_size=2,
        replicas=1,
        analysis=[],
        stages=stages,
        out=tmp_path,
        quiet=True,
    )
    before = basinet.export(tmp_path / "1-pretrain" / "diffusion-atc", tmp_path / "before.pt")
    task = prompt_classification(**prompts)
    model = Llama(task.input_shape, task.vocabulary, layers=1, width=8, heads=2)
    model.load_state_dict(before)
    known = task.evaluate(model)
    for number, (name, (_, trained)) in enumerate(FINETUNED.items()):
        run = tmp_path / f"{2 + number}-{name}" / "diffusion-atc"
        assert basinet.load(run).runs[0].metrics[0]["test_loss"] == pytest.approx(known["test_loss"], rel=1e-5)
        after = basinet.export(run, tmp_path / f"{name}.pt", merge=True)
        assert after.keys() == before.keys()
        changed = {parameter for parameter, value in before.items() if not torch.equal(value, after[parameter])}
        assert changed == {*filter(trained, before)}, name
