"""Networks that rate videos: their sizes and pooling, in all engines, and with second derivatives."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.sim.agents.state import load_vector
from basinet.sim.models import MODELS, FragmentNetwork, FrameNetwork, QualityPerceptron
from basinet.sim.models.vision.video.video_heads import LocalContrast
from basinet.sim.tasks import Regression
from tests.sim.engines.one_agent_at_a_time import check_engines

AGENTS, BATCH = 2, 3
SHAPE = (4, 3, 12, 12)
F64 = torch.float64
SMALL = {
    "factorised": ("fragment_network", {"width": 4, "depth": 2, "activation": "tanh"}),
    "full": ("fragment_network", {"width": 2, "depth": 2, "convolutions": "full", "dropout": 0.3}),
    "frames, mean": ("frame_network", {"channels": [4, 6], "hidden": 5}),
    "frames, attention": ("frame_network", {"channels": [4], "hidden": 5, "pooling": "attention"}),
    "frames, hysteresis": ("frame_network", {"channels": [4], "hidden": 5, "pooling": "hysteresis", "memory": 2}),
    "image": ("frame_network", {"channels": [4], "hidden": 5}),
    "two rates": ("quality_perceptron", {"hidden": 6, "activation": "softplus"}),
}


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=F64)


def task_of(case):
    shapes = {"two rates": [(3, 7), (5, 4)], "image": [SHAPE[1:]]}.get(case, [SHAPE])
    inputs = [random(8, *shape) for shape in shapes]
    return Regression(train=(*inputs, 1 + 4 * random(8, 1)), num_outputs=1)


def made(case, dropout=True):
    name, settings = SMALL[case]
    torch.manual_seed(3)
    task = task_of(case)
    shapes = task.input_shapes if name == "quality_perceptron" else task.input_shape
    kept = {key: value for key, value in settings.items() if dropout or key != "dropout"}
    return task, MODELS[name](shapes, task.num_outputs, **kept).double()


@pytest.mark.parametrize("case", SMALL)
def test_engines_agree_with_autograd_one_agent_at_a_time(case):
    task, model = made(case, dropout=False)
    check_engines(task, model, tuple(part[: AGENTS * BATCH] for part in task.train), AGENTS)


@pytest.mark.parametrize("case", SMALL)
def test_samples_are_rated_by_themselves_by_copies_too(case):
    task, model = made(case)
    inputs = task.train[:-1]
    scores = model.eval()(*inputs)
    assert scores.shape == (8, 1) and scores.std() > 0
    for size in (1, 5):
        torch.testing.assert_close(model(*(part[:size] for part in inputs)), scores[:size], rtol=1e-10, atol=1e-10)
    assert torch.equal(copy.deepcopy(model)(*inputs), scores)
    _, other = made(case)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(*inputs), scores)


@pytest.mark.parametrize("case", SMALL)
def test_products_with_the_hessian_are_differences_of_gradients(case):
    task, model = made(case, dropout=False)
    batch = tuple(part[:BATCH] for part in task.train)
    hessian = HessianOperator(model.eval(), task.objective, batch)
    point = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    direction, step = random(len(point)) - 0.5, 1e-6
    nearby = []
    for shift in (step, -step):
        model = load_vector(model, point + shift * direction, {})
        found = torch.autograd.grad(task.objective(model, batch), list(model.parameters()))
        nearby.append(torch.cat([part.flatten() for part in found]).numpy())
    estimate = (nearby[0] - nearby[1]) / (2 * step)
    # Gradients of order 1 are rounded to 1e-15 or so, divided by the step; no kink of ReLU lies in between.
    assert np.linalg.norm(hessian @ direction.numpy() - estimate) < 1e-6 * max(1.0, np.linalg.norm(estimate))


def test_defaults_have_the_stated_sizes():
    def size(model):
        return sum(p.numel() for p in model.parameters())

    assert size(FragmentNetwork((8, 3, 64, 64), 1)) == size(FragmentNetwork((1, 3, 9, 7), 1)) == 76_501
    assert size(FrameNetwork((8, 3, 64, 64), 1)) == 62_401
    assert size(QualityPerceptron([(4, 36), (7, 12)], 1)) == 128 * (37 + 13) + 128 * 257 + 129


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_number_of_frames_is_rated(frames):
    video = random(2, frames, 3, 9, 7).float()
    for model in (FragmentNetwork((8, 3, 64, 64), 1, width=2), FrameNetwork((8, 3, 64, 64), 1, channels=[4])):
        assert model(video).shape == (2, 1)


def test_factorised_and_full_convolutions_see_as_far():
    """A change of one pixel reaches the same places and times of the features."""
    video = torch.zeros(2, 3, 6, 16, 16)
    video[1, :, 3, 8, 8] = 1
    reached = []
    for convolutions in ("factorised", "full"):
        torch.manual_seed(0)
        model = FragmentNetwork((6, 3, 16, 16), 1, width=4, depth=1, convolutions=convolutions, activation="tanh")
        layers = nn.Sequential(*[m for m in model.features.modules() if isinstance(m, nn.Conv3d)])
        before, after = layers(video)
        reached.append((before != after).any(0))
    assert torch.equal(*reached) and not reached[0].all()


def test_local_contrast_is_that_of_windows_cut_off_at_the_borders():
    video = random(2, 3, 3, 9, 5)
    found, reach = LocalContrast()(video), 3
    for y in range(9):
        for x in range(5):
            window = video[..., max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].flatten(-2)
            wanted = (video[..., y, x] - window.mean(-1)) / (window.std(-1, correction=0) + 1 / 255)
            torch.testing.assert_close(found[..., y, x], wanted, rtol=1e-10, atol=1e-12)


def test_hysteresis_remembers_the_worst_and_minds_bad_frames_ahead():
    torch.manual_seed(0)
    model = FrameNetwork((6, 3, 8, 8), 1, channels=[2], hidden=3, pooling="hysteresis", memory=3).double()
    plain = FrameNetwork((6, 3, 8, 8), 1, channels=[2], hidden=3).double()
    plain.load_state_dict(model.state_dict())
    video = random(2, 6, 3, 8, 8)
    ratings = torch.stack([plain(video[:, t : t + 1])[:, 0] for t in range(6)], 1)
    for found, own in zip(model(video)[:, 0], ratings, strict=True):
        pooled = []
        for t in range(6):
            worst = min(own[max(0, t - 2) : t + 1])
            ahead = own[t : t + 3]
            weights = (-ahead).exp()
            pooled.append((worst + (weights * ahead).sum() / weights.sum()) / 2)
        torch.testing.assert_close(found, torch.stack(pooled).mean(), rtol=1e-12, atol=1e-12)


def test_an_image_is_a_video_of_one_frame():
    task, model = made("image")
    assert torch.equal(model(task.train[0]), model(task.train[0][:, None]))


@pytest.mark.parametrize("name", ["fragment_network", "frame_network"])
def test_inputs_that_are_no_videos_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} needs inputs of shape \(frames, channels, .* but got \(8, 8\)"):
        MODELS[name]((8, 8), 1)
    with pytest.raises(ValueError, match=r"quality_perceptron needs two inputs of shapes .* but got \(3, 8, 8\)$"):
        QualityPerceptron([(3, 8, 8)], 1)
