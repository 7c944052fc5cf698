"""Sizes, colours and fidelity of images, tiles and self-ensembles, against independent constructions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional as F

from basinet.sim.vision.colours import luma
from basinet.sim.vision.distortions import gaussian_blur
from basinet.sim.vision.fidelity import fidelity, psnr, ssim, to_bytes
from basinet.sim.vision.photos import PHOTOS, read_photo
from basinet.sim.vision.resizing import crop_to, enlarge, resize, shrink
from basinet.sim.vision.self_ensemble import of_eight_views
from basinet.sim.vision.tiles import in_tiles


def random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cubic(x):
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    return np.where(x <= 1, near, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def matrix(size, factor):
    """The dense matrix by which MATLAB's documentation resizes: pixels from 1, mirrored beyond the border."""
    count, stretch = int(np.ceil(size * factor)), max(1, 1 / factor)
    centre = np.arange(1, count + 1) / factor + 0.5 * (1 - 1 / factor)
    places = np.floor(centre - 2 * stretch)[:, None] + np.arange(int(np.ceil(4 * stretch)) + 2)
    weights = cubic((centre[:, None] - places) / stretch)
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])[(places.astype(int) - 1) % (2 * size)]
    dense = np.zeros((count, size))
    np.add.at(dense, (np.arange(count)[:, None].repeat(places.shape[1], 1), mirrored), weights)
    return torch.from_numpy(dense)


@pytest.mark.parametrize("factor", [Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(3, 4), 1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 30), (40, 23)])
def test_resizing_is_the_dense_matrix_of_matlab(factor, shape):
    images = random(2, 3, *shape)
    height, width = (matrix(size, float(factor)) for size in shape)
    torch.testing.assert_close(resize(images, factor), height @ images @ width.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("factor", [Fraction(1, 4), 4])
def test_mirrored_beyond_the_border_resizing_is_the_antialiased_one_of_torch(factor):
    images = random(1, 3, 24, 32)
    margin = 8  # a whole number of output pixels that holds the kernel
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    theirs = F.interpolate(
        torch.from_numpy(padded), scale_factor=float(factor), mode="bicubic", antialias=True, align_corners=False
    )
    cut = int(margin * factor)
    torch.testing.assert_close(resize(images, factor), theirs[..., cut:-cut, cut:-cut], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_is_resized_alike_alone_in_a_batch_and_under_vmap(dtype):
    images = random(5, 3, 9, 14).to(dtype)
    whole = resize(images, 4)
    assert whole.dtype == dtype and whole.shape == (5, 3, 36, 56)
    assert torch.equal(whole[2], resize(images[2], 4))
    assert torch.equal(whole, torch.func.vmap(lambda image: resize(image, 4))(images))


def test_gradients_of_resizing_are_those_of_a_linear_map():
    image = random(1, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resize(x, 2), image)


def test_impossible_resizing_is_refused():
    with pytest.raises(ValueError, match="factor: got 0; allowed are positive numbers"):
        resize(random(4, 4), 0)
    with pytest.raises(ValueError, match=r"x: the pixels are torch.uint8; allowed are floating-point"):
        resize(torch.zeros(4, 4, dtype=torch.uint8), 2)


@pytest.mark.parametrize(("change", "factor"), [(shrink, Fraction(1, 4)), (enlarge, Fraction(4))])
def test_bytes_are_rounded_half_up_and_clipped(change, factor):
    blocks = (random(3, 4, 5) > 0.5).mul(255).byte().repeat_interleave(12, 1).repeat_interleave(12, 2)
    exact = resize(blocks.double(), factor)
    assert exact.min() < 0 and exact.max() > 255
    assert torch.equal(change(blocks, 4), (exact + 0.5).floor().clamp(0, 255).byte())


def test_ties_are_rounded_up():
    assert shrink(torch.tensor([[[0, 1], [0, 1]]], dtype=torch.uint8), 2).item() == 1  # the mean is ½
    assert shrink(torch.tensor([[[2, 3], [2, 3]]], dtype=torch.uint8), 2).item() == 3


@pytest.mark.parametrize("shape", [(8, 12), (9, 15), (3, 4)])
def test_crops_are_multiples(shape):
    cropped = crop_to(torch.zeros(2, *shape), 4)
    assert cropped.shape == (2, shape[0] // 4 * 4, shape[1] // 4 * 4)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((0, 0, 0), 16),
        ((1, 1, 1), 235),
        ((1, 0, 0), 81.481),
        ((0, 1, 0), 144.553),
        ((0, 0, 1), 40.966),
    ],
)
def test_luma_of_known_colours(colour, expected):
    pixel = torch.tensor(colour, dtype=torch.float64)[:, None, None]
    assert luma(pixel).item() == pytest.approx(expected, abs=1e-12)
    assert luma(pixel.expand(2, 3, 4, 5)).shape == (2, 4, 5)


def test_pixels_are_rounded_and_clipped():
    x = torch.tensor([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 1.7])
    assert to_bytes(x).tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_psnr_of_known_errors():
    a = torch.zeros(2, 4, 5)
    assert psnr(a, a + 255).tolist() == [0, 0]
    assert psnr(a, a + 25.5).tolist() == pytest.approx([20, 20], abs=1e-12)
    assert psnr(a, a).tolist() == [float("inf")] * 2


@pytest.mark.parametrize("shape", [(40, 53), (11, 12)])
def test_ssim_is_that_of_scikit_image_in_the_valid_region(shape):
    a = random(2, *shape) * 255
    b = (a + 30 * random(2, *shape, seed=1)).clamp(0, 255)
    for mine, first, second in zip(ssim(a, b), a.numpy(), b.numpy(), strict=True):
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        _, theirs = structural_similarity(first, second, full=True, **settings)
        assert mine.item() == pytest.approx(theirs[5:-5, 5:-5].mean(), abs=1e-12)
    assert ssim(a, a).tolist() == pytest.approx([1, 1], abs=1e-12)


def test_fidelity_counts_neither_border_nor_what_is_beyond_a_multiple():
    truth = random(3, 41, 50).mul(255).byte()
    restored = truth[:, :40, :48].clone()
    restored[:, :4] = 0
    restored[:, :, -4:] = 0
    assert all(value.item() in (float("inf"), pytest.approx(1)) for value in fidelity(restored, truth, 4).values())
    restored[0, 4, 4] ^= 128
    found = fidelity(restored, truth, 4)
    inner = 32 * 40
    assert found["psnr_y"].item() == pytest.approx(10 * np.log10(255**2 * inner / (65.481 * 128 / 255) ** 2), abs=1e-9)
    assert found["psnr_rgb"].item() == pytest.approx(10 * np.log10(255**2 * 3 * inner / 128**2), abs=1e-9)
    batch = fidelity(torch.stack([restored] * 2), torch.stack([truth] * 2), 4)
    assert {name: value.shape for name, value in batch.items()} == dict.fromkeys(found, (2,))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_has_no_fidelity(value):
    truth = random(2, 3, 40, 40)
    restored = (truth + 0.01).float()
    found = fidelity(restored, truth, 4)
    assert all(
        torch.equal(found[name], score) for name, score in fidelity(to_bytes(restored), to_bytes(truth), 4).items()
    )
    restored[1, 0, 0, 0] = value  # in the border, which does not count
    for name, score in fidelity(restored, truth, 4).items():
        assert score[0] == found[name][0] and score[1].isnan()


@pytest.mark.parametrize("deviation", [0.3, 1.6, 2.0])
def test_a_blur_agrees_with_another_implementation(deviation):
    image = random(2, 3, 17, 20)
    radius = max(1, round(3 * deviation))
    wanted = ndimage.gaussian_filter(image.numpy(), (0, 0, deviation, deviation), mode="nearest", radius=radius)
    np.testing.assert_allclose(gaussian_blur(image, deviation).numpy(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "other", "message"),
    [
        ((24, 24), (24, 28), "the restored image has 24 × 24 pixels, and the true one 24 × 28"),
        ((8, 24), (8, 24), "without 4 pixels at each border, nothing is left"),
        ((16, 40), (16, 40), "an image of 8 × 32 pixels is smaller than a window of SSIM"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(size, other, message):
    with pytest.raises(ValueError, match=message):
        fidelity(torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(3, *other, dtype=torch.uint8), 4)


def test_bicubic_enlargement_of_photos_has_the_known_fidelity():
    """Values of a separate prototype, whose degradation was the dense matrix."""
    for name, known in {"astronaut": 26.844, "rocket": 29.995, "flower": 30.717}.items():
        truth = crop_to(read_photo(name), 4)
        assert fidelity(enlarge(shrink(truth, 4), 4), truth, 4)["psnr_y"].item() == pytest.approx(known, abs=6e-4)


def test_photos_are_read_and_named():
    assert {"people", "objects", "texture", "sky", "medicine"} <= {photo.scene for photo in PHOTOS.values()}
    camera = read_photo("camera")
    assert camera.shape == (3, 512, 512) and torch.equal(camera[0], camera[2])
    with pytest.raises(ValueError, match=r"there is no photo 'astronaut1'; .*did you mean 'astronaut'"):
        read_photo("astronaut1")


class Network(nn.Module):
    """Convolutions that add to the bicubic image, of a receptive field of `reach` pixels to each side."""

    def __init__(self, layers, gain=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = [3, *[8] * (layers - 1), 48]
        sizes = zip(shapes[1:], shapes[:-1], strict=True)
        self.kernels = [
            gain * torch.randn(o, i, 3, 3, generator=generator, dtype=torch.float64) / (9 * i) ** 0.5 for o, i in sizes
        ]

    def forward(self, low):
        x = low
        for kernel in self.kernels:
            x = F.conv2d(torch.tanh(x), kernel, padding=1)
        return resize(low, 4) + 0.05 * F.pixel_shuffle(x, 4)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 4), (5, 4), (16, 6), (100, 4)])
def test_tiles_equal_the_whole_where_their_margin_holds_all_that_is_seen(tile, overlap):
    model, low = Network(4), random(1, 3, 21, 34)
    done = []
    tiled = in_tiles(model, low, 4, tile, overlap, advanced=done.append)
    torch.testing.assert_close(tiled, model(low), rtol=0, atol=1e-12)
    assert done == sorted(done) and done[-1] == 1 and len(done) == -(-21 // tile) * -(-34 // tile)


def test_tiles_nearly_equal_the_whole_where_the_model_sees_further():
    model = Network(20)
    truth = crop_to(read_photo("coffee")[:, :256, :320], 4)
    low = shrink(truth, 4)[None].double() / 255
    whole, tiled = (to_bytes(images)[0] for images in (model(low), in_tiles(model, low, 4, 32, 8)))
    assert not torch.equal(model(low), in_tiles(model, low, 4, 32, 8))
    difference = fidelity(whole, truth, 4)["psnr_y"] - fidelity(tiled, truth, 4)["psnr_y"]
    assert abs(difference.item()) < 0.01


@pytest.mark.parametrize(
    ("tile", "overlap", "factor", "message"),
    [
        (0, 4, 4, "tile: got 0; allowed are 1, 2"),
        (8, -1, 4, "overlap: got -1; allowed are 0, 1"),
        (8, 0, 2, "the model makes 32 × 32 pixels of a tile of 8 × 8, and not 16 × 16"),
    ],
)
def test_impossible_tiles_are_refused(tile, overlap, factor, message):
    with pytest.raises(ValueError, match=message):
        in_tiles(Network(1), random(1, 3, 9, 9), factor, tile, overlap)


def test_the_self_ensemble_commutes_with_flips_and_rotations():
    model, low = Network(3), random(1, 3, 7, 10)
    averaged = of_eight_views(model)
    for flipped in (False, True):
        for turns in range(4):

            def view(x, flipped=flipped, turns=turns):
                return torch.rot90(x.flip(-1) if flipped else x, turns, (-2, -1))

            torch.testing.assert_close(averaged(view(low)), view(averaged(low)), rtol=0, atol=1e-13)
            assert flipped == turns == 0 or not torch.allclose(model(view(low)), view(model(low)))


def test_the_self_ensemble_of_a_model_that_commutes_is_the_model():
    low = random(1, 3, 7, 10)
    torch.testing.assert_close(of_eight_views(lambda x: resize(x, 4))(low), resize(low, 4), rtol=0, atol=1e-13)
