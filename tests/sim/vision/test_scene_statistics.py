"""Statistics of scenes: fits to known distributions, against other implementations, and of simple images."""

import numpy as np
import pytest
import torch
from scipy import ndimage, special, stats

from basinet.sim.vision.photos import read_photo
from basinet.sim.vision.scene_statistics import (
    MOTION_STATISTICS,
    SCENE_STATISTICS,
    fit_asymmetric,
    fit_symmetric,
    motion_statistics,
    normalised_luminance,
    scene_statistics,
)

COUNT = 200_000


def grey(side=48):
    return read_photo("camera")[0, 100 : 100 + side, 200 : 200 + side].double()


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_a_symmetric_fit_finds_the_distribution(shape):
    law = stats.gennorm(shape, scale=1.7)
    found = fit_symmetric(torch.from_numpy(law.rvs(COUNT, random_state=0)))
    torch.testing.assert_close(torch.stack(found), torch.tensor([shape, law.var()]).double(), rtol=0.03, atol=0)


@pytest.mark.parametrize(("shape", "left", "right"), [(0.7, 1.0, 2.0), (2.0, 3.0, 0.5), (1.0, 1.0, 1.0)])
def test_an_asymmetric_fit_finds_the_distribution(shape, left, right):
    random = np.random.default_rng(0)
    size = random.gamma(1 / shape, size=COUNT) ** (1 / shape)  # |x / β|^α has a gamma distribution
    is_left = random.random(COUNT) < left / (left + right)
    x = np.where(is_left, -left, right) * size
    ratio = special.gamma(3 / shape) / special.gamma(1 / shape)
    found = fit_asymmetric(torch.from_numpy(x))
    # Half of the moments that Lasmar's mean assumes is on each side: the mean of the law itself has other weights.
    mean = (right - left) * special.gamma(2 / shape) / special.gamma(1 / shape)
    wanted = torch.tensor([shape, mean, left**2 * ratio, right**2 * ratio])
    torch.testing.assert_close(torch.stack(found), wanted.double(), rtol=0.05, atol=0.02)
    assert abs(found[1] - x.mean()) < 0.05 * (left + right)


def test_local_normalisation_agrees_with_another_implementation():
    image = grey().numpy()
    blurred = [
        ndimage.gaussian_filter(power, 7 / 6, mode="nearest", truncate=3 / (7 / 6)) for power in (image, image**2)
    ]
    wanted = (image - blurred[0]) / (np.sqrt(np.abs(blurred[1] - blurred[0] ** 2)) + 1)
    # Rounding of squares up to 255² in a difference.
    np.testing.assert_allclose(normalised_luminance(torch.from_numpy(image)).numpy(), wanted, atol=1e-9)


def test_statistics_of_a_scene_are_those_of_its_products():
    image = grey()
    found, normal = scene_statistics(image), normalised_luminance(image)
    assert found.shape == (SCENE_STATISTICS,) and found.dtype == torch.float64
    torch.testing.assert_close(found[:2], torch.stack(fit_symmetric(normal.flatten())))
    products = [normal[:, 1:] * normal[:, :-1], normal[1:] * normal[:-1]]
    products += [normal[1:, 1:] * normal[:-1, :-1], normal[1:, :-1] * normal[:-1, 1:]]
    wanted = torch.cat([torch.stack(fit_asymmetric(product.flatten())) for product in products])
    torch.testing.assert_close(found[2:18], wanted)
    torch.testing.assert_close(scene_statistics(torch.stack([image, image.T]))[0], found)


def test_motion_of_still_frames_and_of_known_noise():
    noise = 3 * torch.randn(1, 200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = torch.stack([torch.full((200, 200), 90.0, dtype=torch.float64)] * 3)
    assert motion_statistics(frames)[:, [0, 1, 3, 4]].tolist() == [[0, 0, 1, 0]] * 2
    size, deviation, shape, still, rougher, blocks = motion_statistics(torch.cat([frames[:1], frames[:1] + noise]))[0]
    assert size == pytest.approx(3 * np.sqrt(2 / np.pi), rel=0.02) and deviation == pytest.approx(3, rel=0.02)
    assert shape == pytest.approx(2, rel=0.05) and still == pytest.approx(stats.norm.cdf(0.5 / 3) * 2 - 1, abs=0.01)
    assert rougher == pytest.approx(2 * 6 / np.sqrt(np.pi), rel=0.02) and blocks == pytest.approx(1, rel=0.02)


def test_blocks_are_seen_at_their_borders():
    blocks = torch.rand(25, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255
    frames = torch.stack([torch.zeros(200, 200).double(), blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)])
    assert motion_statistics(frames).shape == (1, MOTION_STATISTICS)
    assert motion_statistics(frames)[0, 5] > 5


def test_flat_frames_have_finite_statistics():
    assert scene_statistics(torch.full((2, 16, 16), 7.0)).isfinite().all()
    assert motion_statistics(torch.full((2, 16, 16), 7.0)).isfinite().all()
