"""Exchange within shared subspaces against the exchange of whole models."""

import pytest
import torch

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS

pytestmark = pytest.mark.usefixtures("untried")

AGENTS, PERIOD, RANK = 4, 5, 2
NUMBERS = 6 * 64 + 6 + 10 * 6 + 10  # of the parameters
COORDINATES = RANK * 64 + 6 + RANK * 10 + 10


def golore(**settings):
    return {"name": "golore", "lr": 0.3, "rank": RANK, "period": PERIOD, "shared": True} | settings


class ConsensusWithAverages:
    """Consensus, and the mean over all agents after each period."""

    def step(self, block):
        g = block.gradients()
        block.combine(block.x)
        block.adapt(g)
        if (block.step + 1) % PERIOD == 0:
            block.average(block.x)


PAIRS = {
    "centralized": ("subspace_centralized", "centralized"),
    "diffusion": ("subspace_diffusion", {"name": "gossip_pga", "period": PERIOD}),
    "consensus": ("subspace_consensus", ConsensusWithAverages()),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    "optimizer",
    [
        golore(momentum=0.5, weight_decay=0.01),
        golore(lr=0.01, base="adamw", weight_decay=0.1),
        golore(subspace="sparse"),
    ],
    ids=["sgd", "adamw", "sparse"],
)
def test_low_rank_exchange_is_the_exchange_of_models(make_block, pair, optimizer):
    ours, theirs = (make_block(strategy=s, optimizer=optimizer, schedule="cosine", trial=True) for s in PAIRS[pair])
    start = ours.x.clone()
    steps = 4 * PERIOD - 2  # the agents differ at the end
    for block in (ours, theirs):
        block.advance(steps)
    assert float((ours.x - start).abs().max()) > 0.01
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-9, atol=1e-10)
    if pair == "centralized":
        assert torch.equal(ours.x[:AGENTS], ours.x[:1].expand(AGENTS, -1))
    else:
        assert float((ours.x[0] - ours.x[1]).abs().max()) > 1e-4
    # On a ring of four, eight messages mix, and eight go to the server of an average and back.
    extra = 3 if pair == "consensus" else 0
    assert ours.channel.bytes_sent == (steps + extra) * 8 * COORDINATES * 8
    assert theirs.channel.bytes_sent == (steps + extra) * 8 * NUMBERS * 8


def test_without_averages_it_is_diffusion_until_the_first_subspace_ends(make_block):
    strategy = {"name": "subspace_diffusion", "average": False}
    ours, theirs = (make_block(strategy=s, optimizer=golore()) for s in (strategy, "diffusion"))
    for block in (ours, theirs):
        block.advance(PERIOD)
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-10, atol=1e-11)
    for block in (ours, theirs):
        block.advance(PERIOD + 1)
    assert float((ours.x - theirs.x).abs().max()) > 1e-3


@pytest.mark.parametrize("strategy", ["subspace_diffusion", "subspace_consensus"])
def test_mixing_within_random_subspaces_conserves_the_mean_and_ends_in_agreement(make_block, strategy):
    strategy = {"name": strategy, "average": False}
    block = make_block(strategy=strategy, optimizer=golore(lr=0.0, period=1), replicas=1)
    block.x.copy_(torch.randn(block.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    mean = block.x.mean(0)
    first = float((block.x - mean).square().sum())
    block.advance(200)
    torch.testing.assert_close(block.x.mean(0), mean, rtol=0, atol=1e-12)
    # A step leaves (I − (1 − λ) P Pᵀ) of the differences that belong to an eigenvalue λ of W, on average
    # 1 − (1 − λ²) r / s of their square: here λ = ± 1/3 and r / s = 1/3. By Markov's inequality 1e6 times the average
    # is exceeded once in 1e6.
    average = first * (1 - 8 / 9 / 3) ** 200
    assert float((block.x - mean).square().sum()) < 1e6 * average


def test_a_subspace_of_full_rank_is_no_restriction(make_block):
    strategy = {"name": "subspace_diffusion", "average": False}
    ours = make_block(strategy=strategy, optimizer=golore(rank=64))
    theirs = make_block(strategy="diffusion", optimizer={"name": "sgd", "lr": 0.3})
    for block in (ours, theirs):
        block.advance(12)
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-10, atol=1e-11)
    assert ours.channel.bytes_sent == theirs.channel.bytes_sent


def test_agents_of_a_replica_share_their_subspaces_and_replicas_do_not(make_block):
    for shared in (False, True):
        block = make_block(strategy="isolated", optimizer=golore(shared=shared))
        block.advance(1)
        basis = next(iter(block.optimizer.optimizers[0].state.values()))["basis"]
        assert torch.equal(basis[0], basis[AGENTS - 1]) == shared
        assert not torch.equal(basis[0], basis[AGENTS])


@pytest.mark.parametrize(
    "optimizer", ["sgd", "galore", golore(shared=False), golore(random_from=10)], ids=["sgd", "galore", "own", "late"]
)
@pytest.mark.parametrize("strategy", ["subspace_centralized", "subspace_consensus", "subspace_diffusion"])
def test_agents_without_common_subspaces_are_refused(make_setup, strategy, optimizer):
    with pytest.raises(ExperimentError, match=f"^strategy: {strategy} .*common subspaces.*golore with shared: true"):
        make_setup(strategy=strategy, optimizer=optimizer)


def test_state_in_subspaces_of_their_own_cannot_be_mixed(make_block, make_setup):
    with pytest.raises(ExperimentError, match=r"^optimizer_state: got mix.* of golore .*subspaces of their own"):
        make_setup(optimizer=golore(shared=False), optimizer_state="mix")
    block = make_block(optimizer=golore(momentum=0.9), optimizer_state="mix")
    block.advance(2 * PERIOD + 1)
    assert block.x.isfinite().all()
    basis = next(iter(block.optimizer.optimizers[0].state.values()))["basis"]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(RANK).double().expand(len(basis), -1, -1))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("optimizer_state", "reset", "does not combine the parameters themselves"),
        ("optimizer_state", "mix", "does not combine the parameters themselves"),
        ("buffers", "mix", "does not combine the parameters themselves"),
        ("personal", ["3.*"], "cannot leave some parameters out"),
    ],
)
def test_what_it_cannot_do_is_refused(make_setup, key, value, reason):
    with pytest.raises(ExperimentError, match=f"subspace_diffusion {reason}"):
        make_setup(strategy="subspace_diffusion", optimizer=golore(), **{key: value})


def test_a_run_goes_on_from_a_checkpoint_within_a_period(make_block):
    whole, first, second = (make_block(strategy="subspace_diffusion", optimizer=golore(momentum=0.9)) for _ in range(3))
    whole.advance(2 * PERIOD + 3)
    first.advance(PERIOD + 2)
    second.load_state_dict(first.state_dict())
    second.advance(2 * PERIOD + 3)
    assert torch.equal(whole.x, second.x) and whole.channel.bytes_sent == second.channel.bytes_sent


@pytest.mark.parametrize("name", ["golore", "galore", "mezo", "lozo", "lozo_m"])
@pytest.mark.parametrize("word", ["seed", "agents", "keys"])
def test_what_the_simulator_gives_is_no_setting(name, word):
    parse = KINDS["optimizer"].parse
    refusal = f"^optimizer.{word}: the simulator supplies '{word}' to {name}; allowed: lr, "
    with pytest.raises(ExperimentError, match=refusal):
        parse({"name": name, word: 3})
    assert not {"seed", "agents", "keys"} & parse(name).describe().keys()


def test_an_optimizer_that_is_given_nothing_may_have_a_seed():
    class Own(torch.optim.SGD):
        def __init__(self, params, lr=0.1, seed=0):
            super().__init__(params, lr)

    assert KINDS["optimizer"].parse({"name": Own, "seed": 3}).settings == {"seed": 3}


def test_an_experiment_can_leave_layers_whole(make_block):
    ours, theirs = (make_block(strategy=s, optimizer=golore(whole=["3.*"])) for s in PAIRS["centralized"])
    for block in (ours, theirs):
        block.advance(PERIOD + 2)
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-9, atol=1e-10)
    optimizer = ours.optimizer.optimizers[0]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    assert ["basis" in optimizer.state[p] for p in parameters] == [True, False, False, False]
    assert ours.channel.bytes_sent == (PERIOD + 2) * 8 * (RANK * 64 + 6 + 10 * 6 + 10) * 8
    again = make_block(strategy="subspace_centralized", optimizer=golore(whole=["3.*"]))
    again.load_state_dict(ours.state_dict())
    for block in (ours, again):
        block.advance(2 * PERIOD + 1)
    assert torch.equal(ours.x, again.x)
    with pytest.raises(
        ExperimentError, match=r"golore refuses its settings: whole: no parameter fits 'head'; there are"
    ):
        make_block(optimizer=golore(whole=["head"]))
