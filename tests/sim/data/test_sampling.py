"""Batches: an epoch visits every sample once, draws are independent of who else is drawn for."""

import numpy as np
import pytest
import torch

from basinet.algorithms import draws
from basinet.sim.data.sampling import EpochSampler, IndependentSampler

HOLDINGS = [np.arange(0, 7), np.arange(7, 17), np.arange(17, 20)]
DATA = (torch.arange(20.0)[:, None], torch.arange(20))


def keys():
    return draws.agent_keys(0, "batch", torch.zeros(3, dtype=torch.int64), torch.arange(3))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11])
def test_an_epoch_visits_every_sample_once(batch_size):
    sampler = EpochSampler(DATA, HOLDINGS, keys(), batch_size)
    seen = torch.cat([sampler.batch(step)[1] for step in range(40)], dim=1)
    for n, held in enumerate(HOLDINGS):
        epochs = seen[n, : seen.shape[1] // len(held) * len(held)].view(-1, len(held))
        assert (epochs.sort(1).values == torch.from_numpy(held)).all()
        if len(epochs) > 3:
            assert len({tuple(e) for e in epochs.tolist()}) > 1


@pytest.mark.parametrize("kind", [EpochSampler, IndependentSampler])
def test_a_step_can_be_drawn_by_itself_and_for_an_agent_alone(kind):
    sampler = kind(DATA, HOLDINGS, keys(), 4)
    steps = [sampler.batch(step)[1] for step in range(150)]
    for step in (149, 3, 77):
        assert torch.equal(kind(DATA, HOLDINGS, keys(), 4).batch(step)[1], steps[step])
        alone = kind(DATA, HOLDINGS[1:2], keys()[1:2], 4)
        assert torch.equal(alone.batch(step)[1][0], steps[step][1])


def test_independent_draws_stay_with_the_agent_and_are_uniform():
    sampler = IndependentSampler(DATA, HOLDINGS, keys(), 50)
    seen = torch.cat([sampler.batch(step)[1] for step in range(60)], dim=1)
    for n, held in enumerate(HOLDINGS):
        counts = seen[n].bincount(minlength=20)[held].double()
        assert counts.sum() == seen.shape[1]
        # each count is binomial; five standard deviations
        p = 1 / len(held)
        assert ((counts - 3000 * p).abs() < 5 * (3000 * p * (1 - p)) ** 0.5).all()


def test_equal_holdings_are_stored_once():
    everything = np.arange(20)
    sampler = IndependentSampler(DATA, [everything] * 3, keys(), 2)
    assert sampler.holdings.indices.numel() == 20
