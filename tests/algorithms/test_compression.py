"""Compressors keep what they say, contract as their theory says, and count what would travel."""

import math

import pytest
import torch

from basinet.algorithms.compression import COMPRESSORS, Compression

N, P = 2000, 100
KEYS = torch.arange(N) * 7919


@pytest.fixture(scope="module")
def rows():
    return torch.randn(N, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def error(compression, rows):
    compressed, _ = compression.compress(rows, KEYS)
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
    }
    mean, spread = error(compression, rows).mean(), error(compression, rows).std() / math.sqrt(N)
    assert mean <= bound[compressor] + 4 * spread
    if compressor == "random_k":
        assert abs(mean - bound[compressor]) < 4 * spread


def test_top_k_keeps_the_largest(rows):
    kept, size = Compression("top_k", share=0.03).compress(rows, KEYS)
    assert ((kept != 0).sum(1) == 3).all() and size == 3 * 8 + math.ceil(3 * 7 / 8)
    assert torch.equal(kept[kept != 0], rows[kept != 0])
    assert (kept.abs().amax(1) == rows.abs().amax(1)).all()


def test_random_k_is_each_agents_own(rows):
    kept, size = Compression("random_k", share=0.1).compress(rows, KEYS)
    assert ((kept != 0).sum(1) == 10).all() and size == 10 * 8 + 8
    assert not torch.equal(kept[0] != 0, kept[1] != 0)
    again, _ = Compression("random_k", share=0.1).compress(rows, KEYS)
    assert torch.equal(kept, again)


def test_sign_and_qsgd_take_few_bits(rows):
    signs, size = Compression("sign").compress(rows, KEYS)
    assert torch.equal(signs.sign(), rows.sign()) and size == math.ceil(P / 8) + 8
    _, size = Compression("qsgd", levels=7).compress(rows, KEYS)
    assert size == math.ceil(P * 4 / 8) + 8
    # Up to its factor it has no bias: the mean over many keys, within five standard errors.
    one = rows[:1].expand(N, P)
    draws, _ = Compression("qsgd", levels=7).compress(one, KEYS)
    draws = draws * (1 + min(P / 49, math.sqrt(P) / 7))
    assert ((draws.mean(0) - rows[0]).abs() <= 5 * draws.std(0) / math.sqrt(N) + 1e-12).all()
    assert torch.isfinite(Compression("qsgd").compress(torch.zeros(2, P), KEYS[:2])[0]).all()
