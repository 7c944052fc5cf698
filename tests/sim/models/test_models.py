import pytest
import torch
from torch import nn

from basinet.sim.models import CNN, MLP, MODELS, Linear, Point, ResNet, Softmax, WideResNet
from basinet.sim.models.modules import copy_model

SETTINGS = [
    ("mlp", {}),
    ("mlp", {"hidden": [16, 8], "activation": "tanh", "norm": "layer", "dropout": 0.5}),
    ("mlp", {"hidden": [], "norm": "batch"}),
    ("mlp", {"hidden": [4], "norm": "batch", "activation": "softplus"}),
    ("cnn", {}),
    ("cnn", {"channels": [6, 12, 5], "norm": "group", "dropout": 0.1, "activation": "gelu", "kernel": 5}),
    ("cnn", {"norm": "batch", "activation": "silu"}),
    ("resnet", {"norm": "batch", "widths": [4, 8], "blocks": [2, 1]}),
    ("resnet", {"norm": "group", "widths": [6], "blocks": [1]}),
    ("resnet", {"norm": "none", "widths": [4, 4], "blocks": [1, 1]}),
    ("wide_resnet", {"norm": "batch", "depth": 10, "widen_factor": 1, "dropout": 0.1}),
    ("wide_resnet", {"norm": "none", "depth": 10, "widen_factor": 1}),
    ("softmax", {}),
    ("linear", {}),
    ("linear", {"bias": True}),
]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_maps_images_to_outputs_and_is_traceable(name: str, settings: dict, shape: tuple[int, ...]) -> None:
    model = MODELS[name](shape, 10, **settings).eval()
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    assert outputs.shape == (4, 10)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), outputs)


def test_parameter_counts() -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(MLP((1, 8, 8), 10, hidden=[20])) == 65 * 20 + 21 * 10
    assert count(MLP((1, 8, 8), 10, hidden=[])) == count(Softmax((1, 8, 8), 10)) == 650
    assert count(Linear((8,), 3)) == 24
    assert count(CNN((3, 9, 9), 10, channels=[4])) == count(CNN((3, 32, 32), 10, channels=[4])) == 112 + 50


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (ResNet, {"norm": "batch"}, 11_173_962),
        (ResNet, {"norm": "group"}, 11_173_962),
        (WideResNet, {"norm": "batch", "depth": 16, "widen_factor": 8}, 10_961_370),
        (WideResNet, {"norm": "batch"}, 36_479_194),
    ],
)
def test_residual_networks_have_the_published_sizes(model: type, settings: dict, expected: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in model((3, 32, 32), 10, **settings).parameters()) == expected


def test_residual_networks_halve_the_image_at_each_later_stage() -> None:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    basic = ResNet((3, 16, 16), 10, norm="group", widths=[2, 4, 8], blocks=[1, 1, 1])
    wide = WideResNet((3, 16, 16), 10, norm="none", depth=10, widen_factor=2)
    assert nn.Sequential(*list(basic)[:-3])(x).shape == (2, 8, 4, 4)
    assert nn.Sequential(*list(wide)[:-3])(x).shape == (2, 128, 4, 4)


def test_a_block_adds_to_its_input() -> None:
    """Without its last convolution a block is its shortcut; He's comes before a ReLU, the wide one's does not."""
    x = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    basic = ResNet((3, 4, 4), 10, norm="none", widths=[16], blocks=[1])[2]
    wide = WideResNet((3, 4, 4), 10, norm="none", depth=10, widen_factor=1)[1]
    for block in (basic, wide):
        nn.init.zeros_(block.residual[-1].weight)
    torch.testing.assert_close(basic(x), x.relu())
    torch.testing.assert_close(wide(x), x)


def test_residual_networks_refuse_what_they_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"resnet needs inputs of shape .* but got \(64,\)"):
        ResNet((64,), 10, norm="none")
    with pytest.raises(ValueError, match="2 widths and 1 numbers of blocks"):
        ResNet((3, 8, 8), 10, norm="none", widths=[2, 2], blocks=[1])
    with pytest.raises(ValueError, match=r"wide_resnet needs inputs of shape .* but got \(64,\)"):
        WideResNet((64,), 10, norm="none")
    with pytest.raises(ValueError, match="6 n \\+ 4, such as 10, 16, 22 or 28, but got 12"):
        WideResNet((3, 8, 8), 10, norm="none", depth=12)


def test_cnn_wants_images() -> None:
    with pytest.raises(ValueError, match=r"cnn needs inputs of shape .* but got \(64,\)"):
        CNN((64,), 10)


def test_point_is_its_own_output() -> None:
    point = Point(3, start=[1.0, 2.0, 4.0])
    torch.testing.assert_close(point(torch.zeros(5, 1)), torch.tensor([[1.0, 2.0, 4.0]] * 5))
    assert [p.shape for p in point.parameters()] == [(3,)]
    assert Point(2, start=0.5).value.tolist() == [0.5, 0.5]
    x = torch.zeros(2, 1)
    torch.testing.assert_close(torch.fx.symbolic_trace(point)(x), point(x))
    with pytest.raises(ValueError, match="2 values for 3 coordinates"):
        Point(3, start=[0.0, 0.0])


def test_a_copy_shares_nothing_that_is_added_to_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    copied = copy_model(model)
    copied[0].register_forward_hook(lambda *_: torch.full((3, 2), torch.nan))
    copied[0].register_buffer("passing", torch.zeros(1), persistent=False)
    copied[1].layer = nn.Linear(2, 2)
    x = torch.ones(3, 2)
    assert copied(x).isnan().all() and not model(x).isnan().any()
    assert len([*model.modules()]) == 3 and not [*model[0].buffers()]
    model[0].register_buffer("passing", torch.zeros(1))
    assert "0.passing" in model.state_dict() and "0.passing" not in copied.state_dict()
