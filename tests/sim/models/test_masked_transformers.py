"""Hierarchical transformers: against one of feature maps, without what is left out, inflated, and in all engines."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.sim.agents.state import instantiate, load_vector
from basinet.sim.models import MODELS, HiViT, HiViTVideo, MaskedHiViT
from basinet.sim.models.attention.relative_positions import (
    RelativeAttention,
    fitted_to_grid,
    numbered_distances,
    sines_and_cosines,
)
from basinet.sim.models.loading import load_values
from basinet.sim.models.vision.masked.hierarchical_encoder import units_of
from basinet.sim.setup.start import Start
from basinet.sim.tasks import Regression
from tests.sim.engines.one_agent_at_a_time import check_engines

AGENTS, BATCH, CPU, F64 = 2, 2, torch.device("cpu"), torch.float64
GRID = (2, 3)
HEIGHT, WIDTH = 32, 48
SMALL = {"width": 4, "depths": (1, 1, 2), "heads": 2, "expansions": (1, 2, 1)}
MASKED = {"decoder_width": 4, "grid": GRID}
CASES = {
    "image": ("hivit", {"hidden": 3}),
    "masked": ("masked_hivit", MASKED),
    "masked, last stage": ("masked_hivit", MASKED | {"fusion": False, "decoder_depth": 2}),
    "video": ("hivit_video", {"hidden": 3, "tube": 2}),
    "masked, contrast": ("masked_hivit", MASKED | {"contrast": True}),
}


def random(*shape, seed=0):
    return torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(sum(shape) + seed))


def places(samples, seed=0):
    """Orders of the six units, which differ between samples."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(math.prod(GRID), generator=generator) for _ in range(samples)])


def taken(units, which):
    return units[torch.arange(len(units))[:, None], which]


def masked_batch(samples=4):
    units, order = units_of(random(samples, 2, HEIGHT, WIDTH)), places(samples)
    kept, wanted = order[:, :2], order[:, 2:5]
    return taken(units, kept), kept, wanted, taken(units, wanted).flatten(2)


def task_of(name):
    if name == "masked_hivit":
        return Regression(train=masked_batch(), num_outputs=512)
    shape = (2, HEIGHT, WIDTH) if name == "hivit" else (4, 2, HEIGHT, WIDTH)
    return Regression(train=(random(4, *shape), 1 + 4 * random(4, 1)), num_outputs=1)


def made(case, seed=3):
    """A small network, away from where it begins, where distances hardly count."""
    name, settings = CASES[case]
    task = task_of(name)
    given = (task.input_shapes,) if name == "masked_hivit" else (task.input_shape, task.num_outputs)
    model = instantiate(lambda: MODELS[name](*given, **SMALL, **settings), seed).double()
    return task, moved(model, seed)


def moved(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return model


def encoded_map(encoder, image, seen=None):
    """Encode an image [C, H, W] as feature maps; units that are not seen, bool [rows, columns], get no attention."""

    def perceptron(block, x):
        return x + block.mlp(block.norm(x))

    def merged(block, x):
        squares = [x[i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return block.reduction(block.norm(torch.cat(squares, -1)))

    projection, norm = encoder.embedding
    kernel = projection.weight.view(len(projection.weight), len(image), 4, 4)
    x = norm(conv2d(4 * image - 2, kernel, projection.bias, stride=4).permute(1, 2, 0))
    for block in encoder.stages[0]:
        x = perceptron(block, x)
    merging, *blocks = encoder.stages[1]
    x = merged(merging, x)
    for block in blocks:
        x = perceptron(block, x)
    merging, *blocks = encoder.stages[2]
    x = merged(merging, x).flatten(0, 1) + encoder.positions
    mask = torch.zeros(len(x)) if seen is None else torch.zeros(len(x)).masked_fill(~seen.flatten(), -torch.inf)
    for block in blocks:
        x = x + by_the_table(block.attention, block.norm(x), mask)
        x = perceptron(block.perceptron, x)
    return encoder.norm(x)


def by_the_table(attention, x, mask):
    """Attend pair by pair, with the number for a distance taken from a table by rows and columns."""
    rows, columns = GRID
    table = attention.table.view(2 * rows - 1, 2 * columns - 1, attention.heads)
    heads = attention.projections(x).view(len(x), 3, attention.heads, -1)
    found = []
    for i in range(len(x)):
        parts = []
        for head in range(attention.heads):
            query, keys, values = heads[i, 0, head], heads[:, 1, head], heads[:, 2, head]
            near = [
                table[i // columns - j // columns + rows - 1, i % columns - j % columns + columns - 1, head]
                for j in range(len(x))
            ]
            scores = keys @ query / math.sqrt(len(query)) + torch.stack(near) + mask
            parts.append(scores.softmax(0) @ values)
        found.append(torch.cat(parts))
    return attention.output(torch.stack(found))


def test_they_have_the_stated_sizes():
    def size(model):
        return sum(p.numel() for p in model.parameters())

    masked = MaskedHiViT([(4, 3, 16, 16), (4,), (12,)])
    assert size(HiViT((3, 64, 64), 1)) == 275_493
    assert (size(masked), size(masked.encoder)) == (335_128, 269_220)
    with torch.device("meta"):
        published = HiViT((3, 224, 224), 1, width=96, depths=(2, 2, 10), heads=6, expansions=(3, 3, 4))
    assert size(published) == 18_821_373
    assert round((size(published) + 196**2) / 1e6, 1) == 18.9  # with the numbers of distances
    assert {b.attention.table.shape for b in published.encoder.stages[2][1:]} == {(27**2, 6)}


def test_an_image_is_rated_as_its_feature_maps_are():
    task, model = made("image")
    images = task.train[0]
    tokens = torch.stack([encoded_map(model.encoder, image) for image in images])
    torch.testing.assert_close(model.encoder(units_of(images))[2], tokens, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(images), model.head(tokens.mean(1)), rtol=1e-10, atol=1e-10)


def test_units_that_are_left_out_might_as_well_not_be_attended_to():
    """An encoder of some units is that of the image in which nothing attends to the others, in whichever order."""
    _, model = made("masked")
    image, order = random(1, 2, HEIGHT, WIDTH), places(1)[:, :4]
    seen = torch.zeros(GRID, dtype=torch.bool)
    seen.view(-1)[order[0]] = True
    found = model.encoder(taken(units_of(image), order), order)[2]
    torch.testing.assert_close(found[0], encoded_map(model.encoder, image[0], seen)[order[0]], rtol=1e-10, atol=1e-10)


def test_units_that_are_left_out_have_no_influence():
    _, model = made("masked")
    images = random(3, 2, HEIGHT, WIDTH).requires_grad_()
    order = places(3)
    kept, wanted = order[:, :2], order[:, 2:]
    predicted = model(taken(units_of(images), kept), kept, wanted)
    (gradient,) = torch.autograd.grad(predicted.square().sum(), images)
    reached = units_of(gradient).flatten(2).abs()
    assert (taken(reached, wanted) == 0).all() and (taken(reached, kept) > 0).all()


@pytest.mark.parametrize("case", ["masked", "masked, last stage"])
def test_what_is_predicted_is_decoded_from_the_fused_stages(case):
    task, model = made(case)
    units, kept, wanted, _ = task.train
    stages = model.encoder(units, kept)
    fused = sum(layer(stages[int(name)].mean(2) if name != "2" else stages[2]) for name, layer in model.fusion.items())
    assert [*model.fusion] == (["0", "1", "2"] if case == "masked" else ["2"])
    for n in range(len(units)):
        where = torch.cat((kept[n], wanted[n]))
        x = torch.cat((fused[n], model.decoder.mask.expand(len(wanted[n]), -1))) + model.decoder.positions[where]
        back = torch.full((math.prod(GRID),), -1)
        back[where] = torch.arange(len(where))
        unseen = torch.zeros(len(back)).masked_fill(back < 0, -torch.inf)
        for block in model.decoder.blocks:
            x = x + by_the_table(block.attention, block.norm(x)[back], unseen)[where]
            x = x + block.perceptron.mlp(block.perceptron.norm(x))
        expected = model.decoder.pixels(model.decoder.norm(x[len(kept[n]) :]))
        torch.testing.assert_close(model(units, kept, wanted)[n], expected, rtol=1e-10, atol=1e-10)


def test_distances_are_numbered_as_a_table_of_rows_and_columns():
    grid = (3, 4)
    found, of = numbered_distances(torch.arange(12), grid), {}
    for i in range(12):
        for j in range(12):
            of.setdefault((i // 4 - j // 4, i % 4 - j % 4), set()).add(int(found[i, j]))
    assert sorted(number for numbers in of.values() for number in numbers) == list(range(5 * 7))
    some = places(5)
    torch.testing.assert_close(numbered_distances(some, GRID)[2], numbered_distances(some[2], GRID))
    with pytest.raises(ValueError, match=r"^heads: got 3, which does not divide the width 8$"):
        RelativeAttention(8, 3, grid)


@pytest.mark.parametrize("width", [8, 12, 13, 2])
def test_products_of_positions_are_cosines_of_distances(width):
    """Since sin a sin b + cos a cos b = cos(a − b), whatever the place."""
    found, quarter = sines_and_cosines(GRID, width).double(), width // 4
    expected = torch.zeros(6, 6, dtype=F64)
    for i in range(6):
        for j in range(6):
            for distance in (i // 3 - j // 3, i % 3 - j % 3):
                expected[i, j] += sum(math.cos(distance * 10_000 ** (-n / quarter)) for n in range(quarter))
    assert found.shape == (6, width)
    # Sines and cosines of float32, of which there are `width`, are rounded to 1e-7 or so each.
    torch.testing.assert_close(found @ found.mT, expected, rtol=0, atol=1e-6 * width)
    encoder = HiViT((1, HEIGHT, WIDTH), 1, width=width, heads=1).encoder
    assert torch.equal(encoder.positions, sines_and_cosines(GRID, 4 * width))


def test_heads_begin_at_one_neighbour_each():
    """With much locality and no content, a head copies what is at the left, above, at the right or below."""
    attention, middle = RelativeAttention(20, 5, (3, 3), locality=50.0).double(), 4
    with torch.no_grad():
        for layer in (attention.projections, attention.output):
            layer.weight.zero_()
            layer.bias.zero_()
        attention.projections.weight[-20:] = attention.output.weight[:] = torch.eye(20)
    x = random(1, 9, 20)
    found = attention(x, numbered_distances(torch.arange(9), (3, 3)))[0, middle]
    for head, neighbour in enumerate((3, 1, 5, 7, 3)):
        part = slice(4 * head, 4 * head + 4)
        # The next places are at a squared distance of 1, less what tables vary: e^-49 each.
        torch.testing.assert_close(found[part], x[0, neighbour, part], rtol=0, atol=1e-9)
    plain = MaskedHiViT([(4, 3, 16, 16), (4,), (12,)], locality=0.5, decoder_depth=2)
    tables = [p for name, p in plain.named_parameters() if name.endswith("table")]
    assert len(tables) == 5 and all(
        table.min().item() == pytest.approx(-0.5 * (3**2 + 4**2), abs=0.2) for table in tables
    )


def test_units_are_squares_row_by_row():
    images = random(2, 3, HEIGHT, WIDTH)
    for n, (row, column) in enumerate((row, column) for row in range(2) for column in range(3)):
        square = images[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert torch.equal(units_of(images)[:, n], square)


def test_brightness_and_contrast_of_a_patch_are_seen_from_the_beginning():
    """Normalisation of W x alone would map flat patches of all grey levels to two points, dark and bright."""
    model = instantiate(lambda: HiViT((1, 16, 16), 1), 0).double()
    levels = torch.linspace(0.55, 1, 4, dtype=F64)
    tokens = model.encoder.embedding((4 * levels - 2)[:, None].expand(-1, 16))
    assert torch.cdist(tokens, tokens)[~torch.eye(4, dtype=torch.bool)].min() > 0.1


@pytest.mark.parametrize("case", CASES)
def test_engines_agree_with_autograd_one_agent_at_a_time(case):
    task, model = made(case)
    gradients = check_engines(task, model, tuple(part[: AGENTS * BATCH] for part in task.train), AGENTS)
    assert (gradients != 0).double().mean() > 0.9


@pytest.mark.parametrize("case", CASES)
def test_products_with_the_hessian_are_differences_of_gradients(case):
    task, model = made(case)
    batch = tuple(part[:BATCH] for part in task.train)
    hessian = HessianOperator(model.eval(), task.objective, batch)
    point = nn.utils.parameters_to_vector(model.parameters()).detach()
    direction, step = random(len(point)) - 0.5, 1e-6
    nearby = []
    for shift in (step, -step):
        model = load_vector(model, point + shift * direction, {})
        found = torch.autograd.grad(task.objective(model, batch), list(model.parameters()))
        nearby.append(torch.cat([part.flatten() for part in found]).numpy())
    estimate = (nearby[0] - nearby[1]) / (2 * step)
    # Gradients of order 1 are rounded to 1e-15 or so, divided by the step.
    assert np.linalg.norm(hessian @ direction.numpy() - estimate) < 1e-6 * max(1.0, np.linalg.norm(estimate))


@pytest.mark.parametrize("case", CASES)
def test_copies_and_states_compute_the_same_sample_by_sample(case):
    task, model = made(case)
    inputs = task.train[:-1]
    outputs = model(*inputs)
    assert outputs.flatten(1).std(0).min() > 0 and [*model.buffers()] == []
    for n in range(len(outputs)):
        torch.testing.assert_close(model(*(part[n : n + 1] for part in inputs))[0], outputs[n], rtol=1e-10, atol=1e-10)
    file, (_, other) = io.BytesIO(), made(case, seed=4)
    torch.save(model.state_dict(), file)
    file.seek(0)
    assert not torch.equal(other(*inputs), outputs)
    other.load_state_dict(torch.load(file))
    assert torch.equal(copy.deepcopy(model)(*inputs), outputs) and torch.equal(other(*inputs), outputs)


@pytest.mark.parametrize("case", ["masked", "masked, last stage"])
@pytest.mark.parametrize("target", ["image", "video"])
def test_only_the_encoder_is_left_of_what_was_pre_trained(tmp_path, case, target):
    _, before = made(case)
    _, model = made(target, seed=5)
    own = {name: p.clone() for name, p in model.named_parameters() if name.startswith("head.")}
    torch.save(before.state_dict(), tmp_path / "weights.pt")
    start = Start.parse({"file": str(tmp_path / "weights.pt"), "strict": False, "reinitialize": ["head.*"]})
    start.place(model, {}, 1, 0)
    assert [*dict(model.named_children())] == ["encoder", "head"]  # nothing that fuses stages
    assert all(torch.equal(p, own[name]) for name, p in model.named_parameters() if name in own)
    video = random(2, 4, 2, HEIGHT, WIDTH)
    units = units_of(video[:, 0])
    everything = torch.arange(math.prod(GRID)).expand(2, -1)
    tokens = before.encoder(units, everything)[2]
    still = video[:, 0] if target == "image" else video[:, :1].expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(model(still), model.head(tokens.mean(1)), rtol=1e-10, atol=1e-10)
    misfit = load_values(model, before.state_dict(), ["head.*"])
    assert not misfit.missing and not misfit.other
    assert {name.split(".")[0] for name in misfit.unexpected} == {"fusion", "decoder"}


def test_contrast_is_that_of_each_unit_and_channel():
    """Beside the pixels, an encoder sees them shifted and scaled by the mean and deviation around them in the unit."""
    _, model = made("masked, contrast")
    _, plain = made("masked")
    units, order, _, _ = masked_batch(2)
    seen: list[torch.Tensor] = []
    for encoder in (model.encoder, plain.encoder):
        encoder.embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        encoder(units, order)
    patch = seen[0][1, 1, 6].view(4, 4, 4)  # rows 4 to 7, columns 8 to 11 of a unit
    assert torch.equal(patch[:2].flatten(), seen[1][1, 1, 6])
    for channel in range(2):
        around = units[1, 1, channel, 1:8, 5:12]  # 7 × 7 pixels around row 4, column 8
        expected = (units[1, 1, channel, 4, 8] - around.mean()) / (around.std(correction=0) + 1 / 255)
        torch.testing.assert_close(patch[2 + channel, 0, 0], expected, rtol=1e-9, atol=1e-9)


def test_a_video_is_rated_by_the_mean_of_its_tubes():
    task, model = made("video")
    for video, found in zip(task.train[0], model(task.train[0]), strict=True):
        tubes = [encoded_map(model.encoder, video[first : first + 2].flatten(0, 1)) for first in (0, 2)]
        torch.testing.assert_close(found, model.head(torch.cat(tubes).mean(0)), rtol=1e-10, atol=1e-10)


def test_weights_are_inflated_to_the_mean_or_to_the_frame_in_the_middle():
    task, image = made("image")
    weight = image.state_dict()["encoder.embedding.0.weight"]
    for inflation, shares in (("mean", [1 / 3] * 3), ("center", [0, 1, 0])):
        video = HiViTVideo((3, *task.input_shape), 1, **SMALL, hidden=3, tube=3, inflation=inflation).double()
        load_values(video, image.state_dict())
        expected = torch.cat([share * weight for share in shares], 1)
        torch.testing.assert_close(video.encoder.embedding[0].weight, expected, rtol=1e-14, atol=0)


def test_the_head_drops_units_in_training_alone():
    model = HiViT((1, 16, 16), 1, dropout=0.5)
    image = torch.rand(1, 1, 16, 16)
    assert len({model(image).item() for _ in range(8)}) > 1
    assert torch.equal(model.eval()(image), model(image))


def cubic(x):
    """The kernel of bicubic convolution, of the usual parameter −3/4."""
    x = abs(x)
    return (1.25 * x - 2.25) * x * x + 1 if x <= 1 else ((-0.75 * x + 3.75) * x - 6) * x + 3 if x < 2 else 0.0


def interpolation(old, new):
    """The matrix that takes values at the middles of `old` cells to those of `new` ones; the borders are repeated."""
    found = torch.zeros(new, old, dtype=F64)
    for i in range(new):
        middle = (i + 0.5) * old / new - 0.5
        for j in range(math.floor(middle) - 1, math.floor(middle) + 3):
            found[i, min(max(j, 0), old - 1)] += cubic(middle - j)
    return found


def test_tied_values_are_compared_as_they_fit():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.Linear(2, 1, bias=False)

        def fitted(self, name, value, values):
            return value.repeat(1, 2)

    one = torch.ones(1, 1)
    assert not load_values(model := Tied(), {"first.weight": one, "second.weight": one})
    assert torch.equal(model.first.weight, torch.ones(1, 2))
    assert load_values(Tied(), {"first.weight": one, "second.weight": 2 * one}).other


@pytest.mark.parametrize("name", ["hivit", "hivit_video", "masked_hivit"])
def test_what_was_learned_at_another_size_is_resampled(name):
    small = moved(HiViT((1, 48, 48), 1, **SMALL, hidden=3).double())
    masked = [(1, 1, 16, 16), (1,), (7,)]
    given = {"hivit": ((1, 32, 64), 1), "hivit_video": ((2, 1, 32, 64), 1), "masked_hivit": (masked,)}[name]
    large = MODELS[name](*given, **SMALL, **({"grid": (2, 4)} if name == "masked_hivit" else {"hidden": 3})).double()
    assert not load_values(large, small.state_dict()).other
    for parameter, side, shape in (("positions", 3, (2, 4)), ("stages.2.1.attention.table", 5, (3, 7))):
        old, new = (model.encoder.get_parameter(parameter) for model in (small, large))
        rows, columns = (interpolation(side, length) for length in shape)
        expected = torch.einsum("is,jt,stw->ijw", rows, columns, old.view(side, side, -1)).flatten(0, 1)
        torch.testing.assert_close(new, expected, rtol=1e-10, atol=1e-10)
    for parameter in ("embedding.1.weight", "stages.2.1.attention.projections.weight"):
        assert torch.equal(*(model.encoder.get_parameter(parameter) for model in (small, large)))


def test_what_has_the_right_size_or_is_no_square_is_not_resampled():
    for count, grid in ((16, (4, 4)), (10, (2, 5)), (6, (4, 4))):
        value = random(count, 3)
        assert fitted_to_grid("encoder.positions", value, grid, {"encoder.positions": value}) is value
    assert fitted_to_grid("encoder.norm.weight", value, (4, 4), {}) is value


def test_as_many_places_in_another_grid_are_not_taken_as_they_are():
    square, flat, tall = (
        moved(HiViT((1, 16 * rows, 16 * columns), 1, **SMALL, hidden=3).double())
        for rows, columns in ((4, 4), (2, 8), (8, 2))
    )
    positions = square.encoder.positions.detach().clone()
    assert not load_values(flat, square.state_dict())
    rows, columns = interpolation(4, 2), interpolation(4, 8)
    expected = torch.einsum("is,jt,stw->ijw", rows, columns, positions.view(4, 4, -1)).flatten(0, 1)
    torch.testing.assert_close(flat.encoder.positions, expected, rtol=1e-10, atol=1e-10)
    assert not load_values(HiViT((1, 32, 128), 1, **SMALL, hidden=3).double(), flat.state_dict())  # its own grid
    misfit = load_values(square, tall.state_dict())
    why = "of a grid of 2 × 8 or 8 × 2; allowed are squares, and 4 × 4 as in the model"
    assert misfit.other["encoder.positions"] == why
    assert torch.equal(square.encoder.positions, positions) and not misfit.missing
    large = HiViT((1, 80, 80), 1, **SMALL, hidden=3).double()  # its table has 81 distances, as that of 2 × 14 has
    wide = HiViT((1, 32, 224), 1, **SMALL, hidden=3).double()
    others = load_values(large, wide.state_dict()).other
    assert len(others) == 3 and all("of a grid of 2 × 14 or 14 × 2; " in why for why in others.values())
    alone = {"encoder.positions": positions}
    assert "which no table of distances tells" in load_values(flat, alone).other["encoder.positions"]


@pytest.mark.parametrize("inflation", ["mean", "center"])
@pytest.mark.parametrize(("tube", "frames", "contrast"), [(1, 3, False), (2, 4, False), (3, 3, False), (2, 4, True)])
def test_a_still_video_is_rated_as_the_image(tube, frames, contrast, inflation):
    task, _ = made("image")
    shape = (frames, *task.input_shape)
    settings = SMALL | {"hidden": 3, "contrast": contrast}
    image = moved(HiViT(task.input_shape, 1, **settings).double())
    video = HiViTVideo(shape, 1, **settings, tube=tube, inflation=inflation).double()
    assert not load_values(video, image.state_dict())
    pictures = task.train[0]
    still = pictures[:, None].expand(-1, frames, -1, -1, -1)
    torch.testing.assert_close(video(still), image(pictures), rtol=1e-10, atol=1e-10)
    twin = moved(copy.deepcopy(video))
    assert not load_values(video, twin.state_dict())  # what has the right shape is loaded as it is
    assert torch.equal(video(still), twin(still))


@pytest.mark.parametrize(
    ("name", "given", "settings", "sentence"),
    [
        ("hivit", ((64,), 1), {}, r"hivit needs inputs of shape \(channels, height, width\), but got \(64,\)"),
        ("hivit", ((3, 64, 60), 1), {}, r"hivit needs images whose .* are multiples of 16, but got \(64, 60\)"),
        ("hivit", ((3, 0, 16), 1), {}, r"hivit needs images whose .* are multiples of 16, but got \(0, 16\)"),
        ("hivit", ((3, 64, 64), 1), {"heads": 5}, "heads: got 5, which does not divide the width 96"),
        ("hivit_video", ((3, 64, 64), 1), {}, r"hivit_video needs inputs of shape \(frames, .* but got \(3, 64, 64\)"),
        ("hivit_video", ((2, 3, 9, 64), 1), {}, r"hivit_video needs images whose .* but got \(9, 64\)"),
        ("hivit_video", ((8, 3, 64, 64), 1), {"tube": 3}, "tube: got 3, which does not divide the 8 frames"),
        ("masked_hivit", ([(3, 64, 64)],), {}, r"masked_hivit needs inputs of shapes .* but got \(3, 64, 64\)"),
        ("masked_hivit", ([(4, 3, 8, 8), (4,), (12,)],), {}, r"masked_hivit needs .* but got \(4, 3, 8, 8\), \(4,\), "),
        (
            "masked_hivit",
            ([(4, 3, 16, 16), (4,), (4,)],),
            {},
            "grid: the 8 units that are kept or wanted are no square",
        ),
        ("masked_hivit", ([(4, 3, 16, 16), (4,), (5,)],), {"grid": (2, 4)}, "grid: got 2 × 4 units, of which 9 cannot"),
        ("masked_hivit", ([(4, 3, 16, 16), (4,), (5,)],), {"decoder_width": 6}, "heads: got 4, which does not divide"),
    ],
)
def test_what_does_not_fit_is_refused(name, given, settings, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        MODELS[name](*given, **settings)
