"""The compiled loops over rows against torch's operations."""

import pytest
import torch

from basinet.algorithms import row_kernels
from basinet.algorithms.row_kernels import CompiledMath
from basinet.algorithms.row_norms import row_math

AGENTS = 3
SHAPES = ((5,), (), (0,), (2, 3), (40_000,), (7,))


def make(dtype, agents=AGENTS):
    generator = torch.Generator().manual_seed(0)
    leading = (agents,) if agents > 1 else ()
    tensors = [[torch.randn((*leading, *shape), generator=generator).to(dtype) for shape in SHAPES] for _ in range(2)]
    return *tensors, torch.rand(agents, generator=generator).to(dtype)


def both(agents, dtype):
    laid_out, other = torch.zeros(2, 3, dtype=dtype), torch.zeros(3, 2, dtype=dtype).mT
    return row_math(agents, [laid_out]), row_math(agents, [other])


@pytest.mark.parametrize("agents", [1, AGENTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rate", "keep"), [(0.3, 1.0), (0.1, 0.9), (-2.0, 0.5)])
@pytest.mark.parametrize("with_factors", [True, False])
def test_both_ways_agree_to_rounding(agents, dtype, rate, keep, with_factors):
    ends = []
    for rows in both(agents, dtype):
        own, along, factors = make(dtype, agents)
        own_table, squares = rows.table(own), rows.zeros()
        chosen = factors.numpy() if isinstance(rows, CompiledMath) else factors
        rows.step(own_table, rows.table(along), chosen if with_factors else None, rate, keep, squares)
        ends.append(own)
        # A piece of 2¹⁴ squares is summed in two lanes of a processor or more.
        expected = sum(x.double().reshape(agents, -1).square().sum(1) for x in own)
        error = 2**13 * torch.finfo(torch.float64).eps / 2
        torch.testing.assert_close(torch.as_tensor(squares), expected, rtol=error, atol=0)
        rows.add_squares(own_table, squares)
        torch.testing.assert_close(torch.as_tensor(squares), 2 * expected, rtol=error, atol=0)
    error = 4 * torch.finfo(dtype).eps
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=error, atol=error * 5 * (abs(rate) + keep))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_roots_are_finite_and_bounded(dtype):
    squares = torch.tensor([0.0, 4.0, 1e-90, torch.inf, torch.nan, 1e-300], dtype=torch.float64)
    for rows in both(len(squares), dtype):
        given = squares.numpy() if isinstance(rows, CompiledMath) else squares
        most = torch.finfo(dtype).max
        wanted = torch.tensor([0.0, 1.5, min(3e45, most), 0.0, 0.0, min(3e150, most)], dtype=dtype)
        torch.testing.assert_close(torch.as_tensor(rows.inverse_roots(given, 3.0)), wanted)
        bounded = torch.as_tensor(rows.inverse_roots(given, 3.0, 1.0))
        assert bounded.tolist() == [0, 1, 1, 0, 0, 1]


def test_threads_change_no_bit():
    results = []
    for threads in (1, 2, 3):
        own, along = (torch.randn(2, 500_000, generator=torch.Generator().manual_seed(n)) for n in range(2))
        rows = CompiledMath(2, torch.float32)
        squares = rows.zeros()
        torch.set_num_threads(threads)
        try:
            rows.step(rows.table([own]), rows.table([along]), None, 0.1, 0.9, squares)
            rows.add_squares(rows.table([along]), squares)
        finally:
            torch.set_num_threads(1)
        results.append((own, torch.from_numpy(squares)))
    for own, squares in results[1:]:
        assert torch.equal(own, results[0][0]) and torch.equal(squares, results[0][1])


def test_what_is_not_laid_out_for_the_loops_is_torchs():
    x = torch.zeros(4, 6)
    assert isinstance(row_math(4, [x], [x.clone()]), CompiledMath)
    for other in (x.bfloat16(), x.double(), torch.zeros(6, 4).mT, x.to("meta")):
        assert not isinstance(row_math(4, [x], [other]), CompiledMath)


def test_autograd_notices_a_step():
    x = torch.ones(3, requires_grad=True)
    loss = x.square().sum()
    rows = row_math(1, [x])
    rows.step(rows.table([x]), rows.table([torch.ones(3)]), None, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_it_compiles_where_nothing_can_be_kept(monkeypatch):
    def refusing(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function")
        return lambda function: ("compiled", function, options)

    monkeypatch.setattr(row_kernels, "njit", refusing)
    assert row_kernels.compiled(make)[:2] == ("compiled", make)
