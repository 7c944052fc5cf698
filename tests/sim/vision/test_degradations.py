"""Degradations of images and their chains, and the curation of images."""

import io
import itertools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab, rgb2ycbcr, ycbcr2rgb
from torch.nn.functional import interpolate

from basinet.sim.vision.curation import coverage, curate, estimated, objects
from basinet.sim.vision.degradations import DEGRADATIONS, degrade, degraded, order
from basinet.sim.vision.photos import read_photo

KINDS = ["blur", "noise", "jpeg"]


@pytest.fixture(scope="module")
def crop():
    return read_photo("coffee")[:, 150:214, 250:314]


def error(image, other):
    return float((image.double() - other.double()).square().mean().sqrt())


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_strength_is_how_far_an_image_changes(kind, crop):
    assert torch.equal(degrade(crop, kind, 0, np.random.default_rng(0)), crop)
    strengths = [0.1, 0.3, 0.6, 1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [degrade(crop, kind, strength, np.random.default_rng(0)) for strength in strengths]
    assert all(image.dtype == torch.uint8 and image.shape == crop.shape for image in found)
    errors = [error(image, crop) for image in found]
    assert errors == sorted(errors) and 0 < errors[0] < errors[-1] / 2
    assert torch.equal(degrade(crop, kind, 0.3, np.random.default_rng(0)), found[1])


@pytest.mark.parametrize("kind", ["noise", "colour", "jitter"])
def test_what_is_drawn_depends_on_the_generator(kind, crop):
    found = [degrade(crop, kind, 0.5, np.random.default_rng(seed)) for seed in range(8)]
    assert len({image.numpy().tobytes() for image in found}) > 1


def test_noise_has_the_stated_deviation():
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    # Of 12,288 samples, a standard deviation has an error of less than 3 % with a probability above 0.999.
    assert error(degrade(grey, "noise", 0.4, np.random.default_rng(0)), grey) == pytest.approx(20, rel=0.03)


def chosen(found, expected):
    """Return which of the expected images each one is, up to rounding; each is one of them, and all of them occur."""
    which = [[bool(((image.double() - one).abs() <= 0.51).all()) for one in expected] for image in found]
    assert np.sum(which, 1).tolist() == [1] * len(found) and np.sum(which, 0).min() > 0


def test_jitter_changes_saturation_contrast_and_brightness_by_its_factors(crop):
    x = 64 + crop.double() / 2
    image = x.round().byte()
    grey = (torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64) @ image.double().flatten(1)).view(1, 64, 64)
    expected = []
    for s, c, b in itertools.product((0.84, 1.16), (0.9, 1.1), (0.92, 1.08)):  # at the strength 0.2
        y = grey + s * (image - grey)
        expected.append(b * (grey.mean() + c * (y - grey.mean())))
    chosen([degrade(image, "jitter", 0.2, np.random.default_rng(seed)) for seed in range(60)], expected)


def test_colours_are_scaled_and_shifted_in_two_spaces(crop):
    image = (64 + crop[:, :16, :16].double() / 2).round().byte()
    pixels, expected = image.permute(1, 2, 0).numpy(), []
    for there, back, grey in ((rgb2ycbcr, ycbcr2rgb, 128), (rgb2lab, lab2rgb, 0)):
        for *factors, first, second in itertools.product((0.84, 1.16), (0.84, 1.16), (-6, 6), (-6, 6)):
            channels = there(pixels)
            channels[..., 1:] = np.array(factors) * (channels[..., 1:] - grey) + grey + (first, second)
            expected.append(torch.from_numpy(255 * back(channels).clip(0, 1)).permute(2, 0, 1))
    chosen([degrade(image, "colour", 0.2, np.random.default_rng(seed)) for seed in range(300)], expected)


def test_the_strongest_degradations_are_as_strong_as_stated(crop):
    x = crop.double().numpy()

    def blurred(deviation):
        return torch.from_numpy(
            gaussian_filter(x, (0, deviation, deviation), mode="nearest", radius=(0, *[round(3 * deviation)] * 2))
        )

    file = io.BytesIO()
    Image.fromarray(crop.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=10)
    bicubic = {"mode": "bicubic", "antialias": True}
    quarter = interpolate(crop[None].double() / 255, (16, 16), **bicubic)
    expected = {
        "blur": blurred(3).clamp(0, 255),
        "sharpening": (crop + 4 * (crop - blurred(1.5))).clamp(0, 255),
        "resizing": 255 * interpolate(quarter, (64, 64), **bicubic)[0].clamp(0, 1),
        "jpeg": torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1),
    }
    for kind, image in expected.items():
        found = degrade(crop, kind, 1, np.random.default_rng(0))
        assert (found - image).abs().max() <= 0.51, kind


def test_strengths_are_uniform_up_to_the_largest(monkeypatch, crop):
    strengths = []
    monkeypatch.setitem(DEGRADATIONS, "blur", lambda image, strength, _: strengths.append(strength) or image)
    for seed in range(200):
        degraded(crop, ["blur"], "second_order", 0.5, np.random.default_rng(seed))
    # The distance of the empirical distribution of 400 independent ones from the true one exceeds 0.1 once in 1,500.
    assert np.abs(np.sort(strengths) / 0.5 - np.linspace(0, 1, 400)).max() < 0.1


def test_compositions():
    rng = np.random.default_rng
    assert order(KINDS, "sequence", rng(0)) == KINDS and order(KINDS, "second_order", rng(0)) == KINDS * 2
    assert {tuple(order(KINDS, "one", rng(seed))) for seed in range(40)} == {(kind,) for kind in KINDS}
    assert len({tuple(order(KINDS, "random_order", rng(seed))) for seed in range(60)}) == 6
    skipped = {tuple(order(KINDS, "skips", rng(seed))) for seed in range(100)}
    assert 150 - 40 < sum(len(order(KINDS, "skips", rng(seed))) for seed in range(100)) < 150 + 40  # 4.6 deviations
    assert len(skipped) == 8 and all(list(some) == [kind for kind in KINDS if kind in some] for some in skipped)


@pytest.mark.parametrize("composition", ["one", "sequence", "skips", "random_order", "second_order"])
def test_chains(composition, crop):
    chain = ["blur", "colour", "jpeg"]
    assert torch.equal(degraded(crop, chain, composition, 0, np.random.default_rng(0)), crop)
    first, again = (degraded(crop, chain, composition, 1, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, crop)
    assert not torch.equal(first, degraded(crop, chain, composition, 1, np.random.default_rng(4)))


def discs(count, side=96, grey=40):
    """An image of dark discs before a bright background."""
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 200, dtype=np.uint8)
    for number in range(count):
        row, column = divmod(number, 3)
        image[(y - 16 - 32 * row) ** 2 + (x - 16 - 32 * column) ** 2 < 81] = grey
    return torch.from_numpy(image).expand(3, -1, -1)


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_objects_are_counted(count):
    assert objects(discs(count)) == count
    assert objects(255 - discs(count)) == count  # bright ones as well


def test_coverage_is_the_share_of_cells_that_are_not_flat():
    image = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    assert coverage(image) == 0
    image[:, :, :16] = 255 * (torch.arange(16) % 2)  # two of eight columns of cells
    assert coverage(image) == 0.25
    for difference, share in ((13, 0), (15, 1)):  # of the luma, from 16 to 235: deviations of 5.6 and 6.4
        image[:] = 90 + difference * (torch.arange(64) % 2)
        assert coverage(image) == share


def test_objects_are_neither_specks_nor_grains():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    image = discs(2).clone()
    image[:, (y - 80) ** 2 + (x - 80) ** 2 < 25] = 40  # 0.8 % of the image
    assert objects(image) == 2
    image = discs(2).clone()
    image[:, (y + x) % 2 == 0] = 200  # discs of separate pixels
    assert objects(image) == 2


def test_the_best_are_kept():
    images = [discs(count) for count in (0, 4, 1, 9)]

    def best(resolutions, criteria, share):
        pairs = zip(images, resolutions, strict=True)
        found = np.array([estimated(image, resolution, criteria) for image, resolution in pairs])
        return curate(dict(zip(criteria, found.T, strict=True)), share)

    found = best([10, 40, 30, 20], ["resolution"], 0.5)
    assert found.is_kept.tolist() == [False, True, True, False] and found.left_out == 2
    assert found.means() == {"resolution": (35, 15)}
    found = best([1, 1, 1, 1], ["objects"], 0.25)  # whose upper quartile is 5.25
    assert found.is_kept.tolist() == [False, True, False, False]
    found = best([1, 1, 1, 1], ["coverage"], 0.25)
    assert found.is_kept.tolist() == [False, False, False, True]
    together = best([10, 40, 30, 20], ["resolution", "coverage", "objects"], 0.25)
    assert together.is_kept.tolist() == [False, True, False, False]
    assert best([1, 1, 1, 1], ["resolution"], 0.5).is_kept.tolist() == [True, True, False, False]
    assert best([1, 2, 3, 4], ["resolution"], 1).is_kept.all()
