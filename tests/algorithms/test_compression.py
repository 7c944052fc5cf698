"""Compressors keep what they say, contract as their theory says, and count what would travel."""

import math

import pytest
import torch

from basinet.algorithms.compression import Compression
from basinet.algorithms.compressors import COMPRESSORS

N, P = 2000, 100
KEYS = torch.arange(N) * 7919


def layers(rows):
    """Take rows apart into a matrix and a vector."""
    return [rows[:, :96].view(-1, 8, 12), rows[:, 96:]]


@pytest.fixture(scope="module")
def rows():
    return torch.randn(N, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def error(compression, rows):
    compressed, _ = compression.compress(rows, KEYS, layers)
    return (compressed - rows).square().sum(1) / rows.square().sum(1)


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_every_compressor_contracts(compressor, rows):
    compression = Compression(compressor, share=0.25, levels=4)
    k = 0.25
    # 1 − δ: exact for random_k, bounds for the others (Koloskova et al. 2019, section 3.5)
    bound = {
        "none": 0.0,
        "top_k": 1 - k,
        "random_k": 1 - k,
        "sign": 1 - 1 / P,
        "qsgd": 1 - 1 / (1 + min(P / 16, math.sqrt(P) / 4)),
        "quantize": 1 - 1 / (1 + P / (4 * 16)),
        "low_rank": 1 - 1 / 8,
    }
    mean, spread = error(compression, rows).mean(), error(compression, rows).std() / math.sqrt(N)
    assert mean <= bound[compressor] + 4 * spread
    if compressor == "random_k":
        assert abs(mean - bound[compressor]) < 4 * spread


def test_top_k_keeps_the_largest(rows):
    kept, size = Compression("top_k", share=0.03).compress(rows, KEYS, layers)
    assert ((kept != 0).sum(1) == 3).all() and size == 3 * 8 + math.ceil(3 * 7 / 8)
    assert torch.equal(kept[kept != 0], rows[kept != 0])
    assert (kept.abs().amax(1) == rows.abs().amax(1)).all()


def test_random_k_is_each_agents_own(rows):
    kept, size = Compression("random_k", share=0.1).compress(rows, KEYS, layers)
    assert ((kept != 0).sum(1) == 10).all() and size == 10 * 8 + 8
    assert not torch.equal(kept[0] != 0, kept[1] != 0)
    again, _ = Compression("random_k", share=0.1).compress(rows, KEYS, layers)
    assert torch.equal(kept, again)


def test_sign_and_qsgd_take_few_bits(rows):
    signs, size = Compression("sign").compress(rows, KEYS, layers)
    assert torch.equal(signs.sign(), rows.sign()) and size == math.ceil(P / 8) + 8
    _, size = Compression("qsgd", levels=7).compress(rows, KEYS, layers)
    assert size == math.ceil(P * 4 / 8) + 8
    _, size = Compression("quantize", levels=3).compress(rows, KEYS, layers)
    assert size == math.ceil(P * 3 / 8) + 8
    wide = torch.ones(2, 1025, dtype=torch.float32)
    assert Compression("quantize").compress(wide, KEYS[:2], layers)[1] == math.ceil(1025 * 6 / 8) + 3 * 4


@pytest.mark.parametrize("compressor", ["random_k", "qsgd", "quantize"])
def test_scaled_up_some_compressors_have_no_bias(compressor, rows):
    compression = Compression(compressor, share=0.07, levels=3)
    one = rows[:1].expand(N, P)
    drawn = compression.compress(one, KEYS, layers)[0] * compression.unbiasing(P)
    assert ((drawn.mean(0) - rows[0]).abs() <= 5 * drawn.std(0) / math.sqrt(N) + 1e-12).all()


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_nothing_to_send_is_sent_as_nothing(compressor):
    for dtype in (torch.float32, torch.float64):
        assert (Compression(compressor).compress(torch.zeros(2, P, dtype=dtype), KEYS[:2], layers)[0] == 0).all()


def test_each_block_is_quantized_by_itself():
    rows = torch.zeros(1, 1024, dtype=torch.float64)
    rows[0, 0], rows[0, 512:] = 1000.0, 0.5
    compressed = Compression("quantize", levels=4).compress(rows, KEYS[:1], layers)[0]
    factor = Compression("quantize", levels=4).unbiasing(1024)
    assert factor == 1 + 512 / (4 * 16)
    torch.testing.assert_close(compressed * factor, rows)  # all at a level of their own block


def test_low_rank_keeps_the_largest_directions(rows):
    """Matrices of that rank are kept, others nearly as well as by their singular values."""
    for rank in (1, 2, 3):
        compression = Compression("low_rank", rank=rank)
        compressed, size = compression.compress(rows, KEYS, layers)
        assert size == (rank * (8 + 12) + 4) * 8
        matrix, kept = layers(rows)[0], layers(compressed)[0]
        singular = torch.linalg.svdvals(kept)
        assert (singular[:, rank:] <= 1e-12 * singular[:, :1]).all()
        error = (matrix - kept).square().sum((1, 2))
        best = torch.linalg.svdvals(matrix)[:, rank:].square().sum(1)
        assert (error >= best * (1 - 1e-12)).all()
        # A projection of the matrix: what is kept and what is left out are orthogonal.
        torch.testing.assert_close(error + kept.square().sum((1, 2)), matrix.square().sum((1, 2)))
        assert torch.equal(layers(compressed)[1], layers(rows)[1])
        again, _ = compression.compress(compressed, KEYS, layers)
        torch.testing.assert_close(again, compressed, rtol=1e-9, atol=1e-10)


def test_layers_that_low_rank_does_not_shorten_travel_whole(rows):
    compressed, size = Compression("low_rank", rank=5).compress(rows, KEYS, layers)  # 5 (8 + 12) numbers for 96
    assert torch.equal(compressed, rows) and size == P * 8
