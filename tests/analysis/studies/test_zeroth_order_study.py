"""The study of derivative-free training: it counts what it says, and finds what can be known in advance."""

from dataclasses import replace

import pytest
import torch

from basinet.analysis.studies.peak_memory import PeakMemory
from basinet.analysis.studies.zeroth_order import METHODS, find_out


def test_the_peak_of_memory_is_that_of_the_tensors_that_live_together():
    x = torch.zeros(1000)
    with PeakMemory() as memory:
        y = x + 1  # 4000 bytes
        z = y * y  # 8000 together
        del y, z
        y = x.double()  # 8000
        y += 1  # where y is already
        y[:500].add_(1)  # a view
    assert memory.peak == 8000
    w = torch.ones(1000, requires_grad=True)
    with PeakMemory() as memory:
        w.exp().sum().backward()  # e^w stays for the backward pass, beside a sum, its gradient, and that of w
    assert memory.peak == 8000 + 2 * 4


@pytest.mark.slow
def test_a_short_study_finds_what_is_exact():
    methods = [replace(method, rates=method.rates[:1]) for method in METHODS]
    told = []
    found = find_out(lambda share, doing: told.append(share), methods, runs=10, replicas=1, steps=20)
    assert told == sorted(told) and told[-1] == 1.0
    for check in found.checks:
        if "on the digits" not in check.claim:  # they are not trained for long enough
            assert check.agrees, check
    assert [drawing.name for drawing in found.drawings] == ["quadratic", "digits", "memory"]
    assert all(drawing.rows for drawing in found.drawings)
