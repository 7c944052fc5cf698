"""Low-rank adapters: what they compute, and what they leave as it was."""

import copy
import math

import pytest
import torch
from torch import nn

from basinet.sim.models.adapters import added_parameters, attach, merge
from basinet.sim.models.adapters.lora import LoRA
from basinet.sim.models.freezing import choose_trained


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5, bias=False))

    def forward(self, x):
        return self.body(self.embed(x))


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return Words().double()


X = torch.arange(14).reshape(2, 7) % 7


def disturbed(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def test_at_first_a_model_computes_what_it_did(plain):
    wanted = plain(X)
    model = attach(copy.deepcopy(plain), LoRA(rank=3))
    assert torch.equal(model(X), wanted)
    added = added_parameters(model)
    size = sum(p.numel() for name, p in model.named_parameters() if name in added)
    assert size == 3 * ((7 + 4) + (4 + 6) + (6 + 5))
    assert {name: p for name, p in model.named_parameters() if name not in added}.keys() == plain.state_dict().keys()


@pytest.mark.parametrize("stabilized", [False, True])
def test_a_layer_computes_the_closed_form_and_so_does_the_merged_one(plain, stabilized):
    model = disturbed(attach(plain, LoRA(rank=2, alpha=3.0, stabilized=stabilized)))
    scale = 3.0 / (math.sqrt(2) if stabilized else 2)
    low, x = model.body[0], torch.randn(5, 4, dtype=torch.float64)
    weight = low.weight + scale * low.lora_B @ low.lora_A
    torch.testing.assert_close(low(x), x @ weight.T + low.bias, rtol=1e-12, atol=1e-12)
    rows = model.embed.weight + scale * (model.embed.lora_B @ model.embed.lora_A).T
    torch.testing.assert_close(model.embed(X), rows[X], rtol=1e-12, atol=1e-12)
    wanted = model(X)
    merged = merge(copy.deepcopy(model))
    torch.testing.assert_close(merged(X), wanted, rtol=1e-12, atol=1e-12)
    assert [type(layer) for layer in merged.modules()] == [type(layer) for layer in Words().modules()]
    fresh = Words().double()
    fresh.load_state_dict(merged.state_dict())
    assert torch.equal(fresh(X), merged(X)) and not added_parameters(merged)


def test_dropout_passes_the_layer_itself_by():
    layer = attach(nn.Linear(3, 2).double(), LoRA(dropout=0.5))
    x = torch.randn(64, 3, dtype=torch.float64)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    disturbed(layer)
    assert not torch.equal(layer.train()(x), layer.eval()(x))


def test_patterns_choose_layers(plain):
    assert added_parameters(attach(copy.deepcopy(plain), LoRA(targets=["body.2"]))) == {
        "body.2.lora_A",
        "body.2.lora_B",
    }
    for pattern in ("head.*", "body.1"):
        with pytest.raises(ValueError, match=f"no layer that can be adapted fits '{pattern}'; there are embed, body"):
            attach(plain, LoRA(targets=[pattern]))


def test_layers_that_others_compute_are_not_adapted():
    attention = nn.MultiheadAttention(4, 2)  # it reads the weight of its layer out_proj, and does not call it
    with pytest.raises(ValueError, match="no layer that can be adapted"):
        attach(attention, LoRA())


class Conv1D(nn.Module):
    """What transformers calls so."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def test_the_transposed_layers_of_transformers_are_adapted_as_linear_ones_are():
    plain = Conv1D(3, 4).double()
    layer = disturbed(attach(copy.deepcopy(plain), LoRA(rank=2, alpha=3.0)))
    x = torch.randn(5, 4, dtype=torch.float64)
    wanted = x @ (layer.weight + 1.5 * (layer.lora_B @ layer.lora_A).T) + layer.bias
    torch.testing.assert_close(layer(x), wanted, rtol=1e-12, atol=1e-12)
    merged = merge(copy.deepcopy(layer))
    assert type(merged) is Conv1D and merged.state_dict().keys() == plain.state_dict().keys() and merged.nf == 3
    torch.testing.assert_close(merged(x), wanted, rtol=1e-12, atol=1e-12)


def test_no_fast_path_of_torch_passes_adapters_by():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double().eval()
    model = disturbed(attach(layer, LoRA(targets=["linear*"])))
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        found = model(x)
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(merge(copy.deepcopy(model))(x), found, rtol=1e-12, atol=1e-12)


def test_a_tied_tensor_is_trained_if_one_of_its_names_is():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False), "other": nn.Linear(2, 2)})
    model["head"].weight = model["embed"].weight
    choose_trained(model, (), ("head.*",))
    assert model["embed"].weight.requires_grad and not model["other"].weight.requires_grad
    choose_trained(model, ("embed.*",), ("head.*",))
    assert not model["head"].weight.requires_grad


def test_tied_weights_stay_tied_and_are_not_merged():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    adapted = copy.deepcopy(attach(model, LoRA(targets=["head"])))
    assert adapted["head"].weight is adapted["embed"].weight
    with pytest.raises(ValueError, match=r"the adapter of head cannot be merged, since one tensor is embed.weight and"):
        merge(adapted)


@pytest.mark.parametrize("shared", ["module", "bias", "adapter"])
def test_what_merging_leaves_shared_does_not_hinder_it(shared):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, other = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
        if shared == "bias":
            other.bias = layer.bias
        model = attach(nn.Sequential(layer, nn.Tanh(), layer if shared == "module" else other), LoRA(rank=2))
        if shared == "adapter":
            model[2].lora_A = model[0].lora_A
        for adapted in (model[0], model[2]):
            nn.init.normal_(adapted.lora_B)
        x = torch.randn(5, 3, dtype=torch.float64)
    merged = merge(copy.deepcopy(model))
    assert type(merged[2]) is nn.Linear and (merged[0] is merged[2]) == (shared == "module")
    assert (merged[0].bias is merged[2].bias) == (shared != "adapter")
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-12)
