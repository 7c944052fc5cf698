import pytest
import torch
from torch import nn

from basinet.sim.models import CNN, MLP, MODELS, Linear, Point, Softmax

SETTINGS = [
    ("mlp", {}),
    ("mlp", {"hidden": [16, 8], "activation": "tanh", "norm": "layer", "dropout": 0.5}),
    ("mlp", {"hidden": [], "norm": "batch"}),
    ("mlp", {"hidden": [4], "norm": "batch", "activation": "softplus"}),
    ("cnn", {}),
    ("cnn", {"channels": [6, 12, 5], "norm": "group", "dropout": 0.1, "activation": "gelu", "kernel": 5}),
    ("cnn", {"norm": "batch", "activation": "silu"}),
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


def test_cnn_wants_images() -> None:
    with pytest.raises(ValueError, match=r"cnn needs inputs of shape .* but has \(64,\)"):
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
