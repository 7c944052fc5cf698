"""The decoder computes what its formulas say, what transformers' does, and the same by all engines."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from basinet.sim.agents.state import StackedState, load_vector
from basinet.sim.engines import ENGINES
from basinet.sim.models import MODELS, Llama
from basinet.sim.models.language.decoder import SIZES
from basinet.sim.models.language.key_value_cache import KeyValueCache
from basinet.sim.tasks import Task

WORDS, LENGTH = 11, 9
SHAPES = {
    "plain": {"layers": 2, "width": 16, "heads": 4, "hidden": 12},
    "grouped, tied": {"layers": 2, "width": 24, "heads": 6, "kv_heads": 2, "tied": True, "rotary_base": 50.0},
    "one head of keys": {"layers": 1, "width": 8, "heads": 2, "kv_heads": 1, "hidden": 5, "eps": 1e-3},
}


def make(name: str = "plain", **more) -> Llama:
    """A model with values of order one, so that mistakes show."""
    torch.manual_seed(3)
    model = Llama((LENGTH,), WORDS, **SHAPES[name], **more).double()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]) + (parameter.ndim == 1))
    return model


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(WORDS, shape, generator=torch.Generator().manual_seed(seed))


def normal(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / ((x**2).sum(-1, keepdim=True) / x.shape[-1] + eps) ** 0.5


def turned(x: Tensor, base: float) -> Tensor:
    """Rotary embedding of [T, width] as products of complex numbers."""
    length, width = x.shape
    numbers = torch.complex(x[:, : width // 2], x[:, width // 2 :])
    speeds = torch.tensor([base ** (-2 * i / width) for i in range(width // 2)], dtype=x.dtype)
    numbers = numbers * torch.exp(1j * torch.arange(length)[:, None] * speeds)
    return torch.cat([numbers.real, numbers.imag], 1)


def written_out(model: Llama, sequence: Tensor, name: str) -> Tensor:
    """The logits [T, vocabulary] of a sequence by the formulas, a head at a time."""
    shape = {"rotary_base": 10_000.0, "eps": 1e-6, **SHAPES[name]}
    values = dict(model.state_dict())
    length, size = len(sequence), shape["width"] // shape["heads"]
    share = shape["heads"] // shape.get("kv_heads", shape["heads"])
    x = values["model.embed_tokens.weight"][sequence]
    for layer in range(shape["layers"]):
        own = {key.split(".", 3)[3]: t for key, t in values.items() if key.startswith(f"model.layers.{layer}.")}
        y, found = normal(x, own["input_layernorm.weight"], shape["eps"]), []
        q, k, v = (y @ own[f"self_attn.{part}_proj.weight"].T for part in "qkv")
        for head in range(shape["heads"]):
            of, group = slice(head * size, head * size + size), head // share
            shared = slice(group * size, group * size + size)
            query, key = turned(q[:, of], shape["rotary_base"]), turned(k[:, shared], shape["rotary_base"])
            rows = [
                ((key[: t + 1] @ query[t]) / math.sqrt(size)).softmax(0) @ v[: t + 1, shared] for t in range(length)
            ]
            found.append(torch.stack(rows))
        x = x + torch.cat(found, 1) @ own["self_attn.o_proj.weight"].T
        y = normal(x, own["post_attention_layernorm.weight"], shape["eps"])
        gate = y @ own["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + torch.exp(-gate)) * (y @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
    return normal(x, values["model.norm.weight"], shape["eps"]) @ values["lm_head.weight"].T


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_the_formulas(name: str) -> None:
    model, batch = make(name), tokens(2, LENGTH)
    expected = torch.stack([written_out(model, sequence, name) for sequence in batch])
    torch.testing.assert_close(model(batch), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SHAPES)
def test_a_later_token_changes_no_earlier_logit(name: str) -> None:
    model, batch = make(name), tokens(1, LENGTH)
    logits = model(batch)
    for place in range(LENGTH):
        other = batch.clone()
        other[:, place] = (other[:, place] + 1) % WORDS
        changed = (model(other) != logits).any(-1)[0]
        assert not changed[:place].any() and changed[place:].all()


@pytest.mark.parametrize("name", SHAPES)
def test_documents_are_as_if_each_were_alone(name: str) -> None:
    model, batch = make(name), tokens(2, LENGTH)
    ends = ((4, 5, LENGTH), (2, LENGTH))
    documents = torch.tensor([[sum(place >= end for end in own) + 7 for place in range(LENGTH)] for own in ends])
    logits = model(batch, documents)
    for row, own in enumerate(ends):
        for start, end in zip((0, *own), own, strict=False):
            alone = model(batch[row : row + 1, start:end])[0]
            torch.testing.assert_close(logits[row, start:end], alone, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(model(batch, torch.zeros_like(batch)), model(batch), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("parts", [[1] * LENGTH, [5, 1, 3]])
def test_reading_in_parts_gives_the_same_logits(name: str, parts: list[int]) -> None:
    model, batch, cache = make(name), tokens(2, LENGTH), KeyValueCache()
    found = torch.cat([model(part, cache=cache) for part in batch.split(parts, 1)], 1)
    torch.testing.assert_close(found, model(batch), rtol=1e-11, atol=1e-11)
    assert len(cache) == LENGTH


@pytest.mark.parametrize("name", ["plain", "grouped, tied"])
def test_logits_are_those_of_transformers(name: str) -> None:
    """transformers takes norms and angles in float32, whose roundings (2⁻²⁴ each) add up to less than 1e-5."""
    transformers = pytest.importorskip("transformers")
    shape = {"kv_heads": SHAPES[name]["heads"], "tied": False, "rotary_base": 10_000.0, **SHAPES[name]}
    model, batch = make(name), tokens(2, LENGTH)
    config = transformers.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=shape["width"],
        intermediate_size=model.model.layers[0].mlp.gate_proj.out_features,
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        rope_theta=shape["rotary_base"],
        tie_word_embeddings=shape["tied"],
    )
    theirs = transformers.LlamaForCausalLM(config).double().eval()
    theirs.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(theirs(batch).logits, model(batch), rtol=1e-5, atol=1e-5)


@dataclasses.dataclass
class Packed:
    """Tokens of several documents, and the next ones."""

    tokens: Tensor
    documents: Tensor
    targets: Tensor


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_engines_compute_what_autograd_does(name: str, packed: bool) -> None:
    agents, batch_size = 3, 2
    data = tokens(6, LENGTH), (tokens(6, LENGTH, seed=1) % 3).cumsum(1), tokens(6, LENGTH, seed=2)
    task = Task(
        train=Packed(*data) if packed else (data[0], data[2]), num_outputs=WORDS, vocabulary=WORDS, model="llama"
    )
    model = make(name)
    state = StackedState(model, agents, torch.device("cpu"), torch.float64)
    state.fill(slice(None), model)
    state.parameters += 0.1 * torch.randn(state.parameters.shape, dtype=torch.float64)
    rows = [t.view(agents, batch_size, LENGTH) for t in data]
    batch = Packed(*rows) if packed else (rows[0], rows[2])
    losses, gradients = [], []
    for n in range(agents):
        agent = load_vector(copy.deepcopy(model), state.parameters[n], {})
        logits = agent(rows[0][n], rows[1][n] if packed else None)
        losses.append(functional.cross_entropy(logits.flatten(0, 1), rows[2][n].flatten()))
        losses[-1].backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in agent.parameters()]))
    for kind in ENGINES.values():
        engine = kind(model, task, state)
        keys = torch.arange(agents)
        torch.testing.assert_close(engine.losses(batch, keys), torch.stack(losses), rtol=1e-11, atol=1e-11)
        for _ in range(2):  # nothing of the first pass may leak into the second
            found = engine.gradients(batch, keys)
            torch.testing.assert_close(found, torch.stack(losses), rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(state.gradients, torch.stack(gradients), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "vocabulary", "expected"),
    [
        ("100k", 257, 107_952),
        ("1m", 257, 1_070_720),
        ("6m", 257, 5_755_136),
        ("20m", 257, 19_670_400),
        ("60m", 32_000, 58_073_600),
    ],
)
def test_sizes(size: str, vocabulary: int, expected: int) -> None:
    with torch.device("meta"):
        model = MODELS["llama"]((64,), vocabulary, size=size)
        tied = MODELS["llama"]((64,), vocabulary, size=size, tied=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == expected
    assert count - sum(parameter.numel() for parameter in tied.parameters()) == vocabulary * SIZES[size].width
    if size == "60m":  # as in the GaLore paper
        assert (len(model.model.layers), *model.model.layers[0].mlp.up_proj.weight.shape) == (8, 1376, 512)


def test_initial_values_have_the_usual_deviation() -> None:
    torch.manual_seed(0)
    for tied in (False, True):
        model = Llama((8,), 300, size="1m", tied=tied)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                assert (parameter == 1).all()
            else:  # six standard errors of at least 16,384 draws
                assert abs(float(parameter.detach().std()) - 0.02) < 6 * 0.02 / math.sqrt(2 * parameter.numel()), name


@pytest.mark.parametrize(
    ("shape", "vocabulary", "settings", "message"),
    [
        ((1, 8, 8), None, {}, r"llama needs sequences of tokens .* but got numbers of shape \(1, 8, 8\)"),
        ((2, 8), 5, {}, r"but got tokens of shape \(2, 8\)"),
        ((8,), 5, {"width": 20}, "heads: got 3 for a width of 20"),
        ((8,), 5, {"width": 15}, "heads: got 3 for a width of 15; heads have to be of the same even width"),
        ((8,), 5, {"kv_heads": 2}, "kv_heads: got 2 for 3 heads; allowed are divisors"),
    ],
)
def test_impossible_shapes_are_refused(shape, vocabulary, settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Llama(shape, vocabulary, **settings)
