"""Bursts of loss: their share and length, and that a state does not depend on which were asked for before."""

import pytest
import torch

from basinet.sim.faults import LossBursts


def test_share_and_length_of_bursts():
    """p = .05, r = .25, e = .8: a share .13333 is lost, 2.5 in a row."""
    fault = LossBursts(loss=0.4 / 3, burst=2.5, within=0.8)
    fails = fault.failures(torch.arange(400).view(1, 400))
    lost = torch.cat([fails(step) for step in range(400)]).double()  # [steps, links]
    assert fault._anew == pytest.approx(0.3, rel=1e-12)
    share = lost.mean(0)
    assert float(share.mean()) == pytest.approx(0.4 / 3, abs=4.5 * float(share.std()) / 400**0.5)
    begins = (lost[1:] * (1 - lost[:-1])).sum(0)
    lengths = lost[1:].sum(0) / begins.clamp(min=1)
    assert float(lost[1:].sum() / begins.sum()) == pytest.approx(2.5, abs=4.5 * float(lengths.std()) / 400**0.5)
    again = fault.failures(torch.arange(400).view(1, 400))
    assert all(torch.equal(again(step)[0].double(), lost[step]) for step in (399, 17, 18, 18, 0))


def test_without_memory_it_is_independent_loss():
    fails = LossBursts(loss=0.2, burst=1.25).failures(torch.arange(20000).view(1, -1))
    one, two = fails(3).double(), fails(4).double()
    assert float((one * two).mean()) == pytest.approx(0.04, abs=4.5 * (0.04 * 0.96 / 20000) ** 0.5)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"loss": 0.5, "burst": 1.5}, r"burst: got 1.5; at least 1 / \(1 − loss\) = 2 is needed"),
        ({"loss": 0.5, "burst": 3.0, "within": 0.5}, "loss: got 0.5; it must be below"),
        ({"loss": 0.1, "burst": 3.0, "within": 0.5}, r"burst: got 3.0; below 1 / \(1 − within\) = 2 is possible"),
    ],
)
def test_impossible_bursts(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        LossBursts(**keys)
