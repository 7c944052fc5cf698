"""Networks that enlarge images begin as bicubic interpolation, take images of any size, and run in all engines."""

import copy
import io
import math

import pytest
import torch

from basinet.sim.agents.state import StackedState, instantiate
from basinet.sim.engines import ENGINES
from basinet.sim.models import MODELS, DistillationUpscaler, ResidualUpscaler, WindowUpscaler
from basinet.sim.tasks import Regression
from basinet.sim.vision.resizing import resize

AGENTS, CPU = 2, torch.device("cpu")

SMALL = {
    "residual_upscaler": {"features": 3, "blocks": 1},
    "distillation_upscaler": {"features": 8, "blocks": 2},
    "window_upscaler": {"features": 4, "groups": 1, "layers": 2, "heads": 2, "window": 4},
}


def made(name, shape=(2, 6, 7), factor=2):
    """A small network with a seed of its own."""
    return instantiate(lambda: MODELS[name](shape, math.prod(shape) * factor**2, **SMALL[name]), 3).double()


def pixels(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moved(model, seed=1):
    """Move a network away from where it begins, where most gradients are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return model


@pytest.fixture(scope="module")
def task():
    low = pixels(8, 2, 6, 7)
    high = resize(low, 2) + 0.1 * pixels(8, 2, 12, 14, seed=1)
    return Regression(train=(low, high), num_outputs=high[0].numel())


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (ResidualUpscaler, {}, 88_752),
        (DistillationUpscaler, {}, 433_448),
        (DistillationUpscaler, {"features": 24}, 106_560),
        (WindowUpscaler, {}, 118_192),
        (WindowUpscaler, {"features": 60, "groups": 4, "layers": 6, "heads": 6}, 929_628),
    ],
)
def test_they_have_the_stated_sizes(model, settings, expected):
    with torch.device("meta"):
        assert sum(p.numel() for p in model((3, 24, 24), 3 * 96 * 96, **settings).parameters()) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_they_begin_as_bicubic_interpolation(name, factor, dtype):
    model = made(name, (3, 8, 8), factor).to(dtype)
    for size in ((8, 8), (17, 5), (1, 2), (20, 33)):
        low = pixels(2, 3, *size).to(dtype)
        assert torch.equal(model(low), resize(low, factor))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SMALL)
def test_gradients_equal_a_loop_of_autograd(name, engine, size, task):
    model = made(name)
    state = StackedState(model, AGENTS, CPU, torch.float64)
    state.fill(slice(None), model)
    agents = [moved(copy.deepcopy(model), seed) for seed in range(AGENTS)]
    for n, agent in enumerate(agents):
        state.parameters[n] = torch.cat([p.detach().flatten() for p in agent.parameters()])
    batch = tuple(t[torch.arange(AGENTS * size).view(AGENTS, size)] for t in task.train)
    runner = ENGINES[engine](model, task, state)
    for verb in ("losses", "gradients", "gradients"):  # twice: nothing of the first pass may leak into the second
        found = getattr(runner, verb)(batch, torch.arange(AGENTS))
        for n, agent in enumerate(agents):
            loss = (agent(batch[0][n]) - batch[1][n]).square().mean()
            torch.testing.assert_close(found[n], loss.detach(), rtol=1e-10, atol=1e-10)
    for n, agent in enumerate(agents):
        loss = (agent(batch[0][n]) - batch[1][n]).square().mean()
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*agent.parameters()])])
        assert (expected != 0).double().mean() > 0.7
        torch.testing.assert_close(state.gradients[n], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_hessian_products_equal_differences_of_gradients(name, task):
    model = moved(made(name))
    parameters = [*model.parameters()]
    direction = [pixels(*p.shape, seed=2) - 0.5 for p in parameters]
    gradients = torch.autograd.grad(task.objective(model, task.train), parameters, create_graph=True)
    products = torch.autograd.grad(gradients, parameters, direction, materialize_grads=True)
    step, ends = 1e-6, []
    for sign in (1, -1):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, part in zip(twin.parameters(), direction, strict=True):
                parameter.add_(sign * step * part)
        ends.append(torch.autograd.grad(task.objective(twin, task.train), [*twin.parameters()]))
    found = torch.cat([p.flatten() for p in products])
    expected = torch.cat([(plus - minus).flatten() for plus, minus in zip(*ends, strict=True)]) / (2 * step)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", SMALL)
def test_states_and_copies_give_the_same_images(name):
    model, low = moved(made(name)), pixels(1, 2, 9, 5)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = made(name)
    other.load_state_dict(torch.load(file))
    assert [*model.buffers()] == [] and not torch.equal(model(low), resize(low, 2))
    assert torch.equal(copy.deepcopy(model)(low), model(low)) and torch.equal(other(low), model(low))


@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_enlarged_as_it_is_in_a_batch(name):
    model, low = moved(made(name)), pixels(3, 2, 9, 5)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in low]), model(low), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("place", [0, 1])
def test_pixels_attend_to_those_of_their_window(place):
    """A layer written for pixels in a list, with windows that are not wrapped around, but cut off at the border."""
    model = moved(made("window_upscaler"))
    layer, window, (height, width) = model.groups[0].layers[place], 4, (8, 12)
    shift = 2 * place
    rows, columns = (t.flatten() for t in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    numbers = torch.stack(
        [(rows - shift).div(4, rounding_mode="floor"), (columns - shift).div(4, rounding_mode="floor")]
    )
    together = (numbers[:, :, None] == numbers[:, None]).all(0)
    down, right = rows[:, None] - rows, columns[:, None] - columns
    pairs = ((down + window - 1) * (2 * window - 1) + right + window - 1).where(together, torch.tensor(0))

    def layer_of(image):
        x = image.flatten(0, 1)
        parts = layer.projections(layer.attention_norm(x)).view(-1, 3, 2, 2)
        heads = []
        for head in range(2):
            query, key, value = parts[:, :, head].unbind(1)
            scores = query @ key.T / math.sqrt(2) + layer.nearness[pairs, head]
            heads.append(scores.where(together, torch.tensor(-math.inf, dtype=x.dtype)).softmax(-1) @ value)
        x = x + layer.output(torch.cat(heads, -1))
        return (x + layer.mlp(layer.mlp_norm(x))).view_as(image)

    seen = {}
    layer.register_forward_hook(lambda _, inputs, output: seen.update(given=inputs[0], found=output))
    model(pixels(1, 2, height, width))
    torch.testing.assert_close(seen["found"][0], layer_of(seen["given"][0]), rtol=1e-12, atol=1e-12)


def test_what_fills_up_windows_is_the_mirrored_image():
    model, low = moved(made("window_upscaler")), pixels(1, 2, 6, 3)
    filled = torch.cat([low, low.flip(-2)[..., :2, :]], -2)
    filled = torch.cat([filled, filled.flip(-1)[..., :1]], -1)
    torch.testing.assert_close(model.features(low), model.features(filled)[..., :6, :3])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (((64,), 256), r"needs inputs of shape \(channels, height, width\), but got \(64,\)$"),
        (
            ((3, 8, 8), 10),
            "enlarges images by a whole factor, 2 or more, but 10 outputs are not a square multiple of 192",
        ),
        (((3, 8, 8), 192), "2 or more, but 192 outputs"),
        (((3, 8, 8), 192 * 6), "2 or more, but 1152 outputs"),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_enlargement_is_refused(name, given, sentence):
    with pytest.raises(ValueError, match=rf"^{name} .*{sentence}"):
        MODELS[name](*given)


def test_heads_divide_the_features():
    with pytest.raises(ValueError, match=r"^heads: got 3, which does not divide the 32 features$"):
        WindowUpscaler((3, 8, 8), 3 * 32 * 32, heads=3)
