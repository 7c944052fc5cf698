"""Attackers in a run: what they send, what they hold, who they are, and that what is measured is the honest agents'."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from basinet.algorithms.attacks import ATTACKS, Attack
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import take_rows
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from tests.stepped import STEPPED

RULES = ["median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "ios", "self_centered_clipping"]
LYING = [name for name, attack in ATTACKS.items() if attack.lies]
K, BAD = 8, [1, 4]
TOPOLOGY = {"name": "wheel", "agents": K}


@pytest.fixture
def make_block(make_block):
    """Build blocks without a trial of the engines."""
    return lambda **keys: make_block(**{"runtime": {"dtype": "float64", "engine": "stacked"}} | keys)


def attacked_block(make_block, name, **settings):
    keys = {"topology": TOPOLOGY, "strategy": "isolated", "attack": {"name": name, "agents": BAD, **settings}}
    block = make_block(**keys)
    x = torch.randn(2 * K, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return block, x


def lie(name, x, w, k, sender):
    """Write what an attacker sends to agent k, for rows x of one replica."""
    near = np.flatnonzero(w[k])
    honest = [j for j in near if j not in BAD]
    bad = [j for j in near if j in BAD]
    if name == "sign_flip":
        return -2 * x[sender]
    if name == "alie":
        n, m = len(near), len(bad)
        z = norm.ppf((n - m - (n // 2 + 1 - m)) / (n - m))
        return x[honest].mean(0) - max(z, 0) * x[honest].std(0, ddof=1)
    others = [j for j in honest if j != k]
    return x[k] - 1.5 * (w[k, others] @ (x[others] - x[k])) / w[k, bad].sum()


SETTINGS = {"sign_flip": {"scale": 2.0}, "alie": {}, "dissensus": {}}


@pytest.mark.parametrize("name", SETTINGS)
def test_attackers_send_what_the_papers_say(make_block, name):
    block, x = attacked_block(make_block, name, **SETTINGS[name])
    w = block.setup.weights.toarray()
    mixed = x.clone()
    block.combine(mixed)
    received = block.exchange(x[:, None].expand(-1, block.neighbors.heard.shape[1], -1))
    ((columns, heard),) = block.broadcast(x)
    assert columns == slice(0, 5) and torch.equal(heard, received)
    for r in range(2):
        rows = x.numpy()[r * K : (r + 1) * K]
        for k in range(K):
            others = [j for j in np.flatnonzero(w[k]) if j != k]
            told = {j: rows[j] if j not in BAD or k in BAD else lie(name, rows, w, k, j) for j in others}
            expected = w[k, k] * rows[k] + sum(w[k, j] * row for j, row in told.items())
            np.testing.assert_allclose(mixed[r * K + k], expected, rtol=0, atol=1e-12)
            np.testing.assert_allclose(received[r * K + k, : len(others)], list(told.values()), rtol=0, atol=1e-12)


def test_a_given_z_and_the_majority_of_attackers(make_block):
    block, x = attacked_block(make_block, "alie", z=2.0)
    _, heard = next(iter(block.broadcast(x)))
    w = block.setup.weights.toarray()
    honest = [j for j in np.flatnonzero(w[2]) if j not in BAD]  # agent 2 hears 0, 1 and 3
    expected = x[honest].mean(0) - 2 * x[honest].std(0)
    torch.testing.assert_close(heard[2, 1], expected, rtol=0, atol=1e-12)
    attack = {"name": "alie", "agents": [0, 1, 2]}
    complete = make_block(topology={"name": "complete", "agents": K}, strategy="isolated", attack=attack)
    _, heard = next(iter(complete.broadcast(x)))
    expected = x[3:K].mean(0) - norm.ppf(3 / 5) * x[3:K].std(0)  # n = 8, m = 3, s = 2
    torch.testing.assert_close(heard[5, 1], expected, rtol=0, atol=1e-12)
    ring = make_block(topology={"name": "ring", "agents": 4}, attack={"name": "alie", "agents": [0, 2]})
    ring.advance(2)  # with nobody honest but the receiver there is no spread to hide in
    assert torch.isfinite(ring.x).all()


def test_noise_is_the_same_for_all_who_hear_it_and_new_in_each_message(make_block):
    block = make_block(topology={"name": "complete", "agents": 4}, attack={"name": "gaussian", "agents": [0]})
    x = torch.zeros(8, 5000, dtype=torch.float64)
    first, again = block.broadcast(x), block.broadcast(x)
    noise = torch.cat([heard for _, heard in first], 2)[:, 0]  # slot 0 of agents 1, 2, 3 of both replicas
    assert torch.equal(noise, torch.cat([heard for _, heard in first], 2)[:, 0])  # gone through once more
    assert torch.equal(noise[1], noise[2]) and torch.equal(noise[1], noise[3])
    other = torch.cat([heard for _, heard in again], 2)[:, 0]
    block.step += 1
    later = torch.cat([heard for _, heard in block.broadcast(x)], 2)[:, 0]
    samples = torch.stack([noise[1], noise[5], other[1], later[1]])
    # Moments of 5000 standard normal numbers within 5 standard errors; the four draws are uncorrelated.
    assert (samples.mean(1).abs() < 5 / 5000**0.5).all()
    assert (samples.var(1) - 1).abs().max() < 5 * (2 / 5000) ** 0.5
    assert (torch.corrcoef(samples) - torch.eye(4)).abs().max() < 5 / 5000**0.5


def test_pieces_change_nothing(make_block):
    keys = {
        "topology": {"name": "complete", "agents": 7},
        "attack": {"name": "gaussian", "share": 0.3},
    }
    for strategy in (
        "diffusion",
        {"name": "robust", "rule": "krum", "tolerated": 2},
        {"name": "robust", "rule": "ios"},
    ):
        whole = make_block(strategy=strategy, **keys)
        whole.advance(5)
        pieces = make_block(strategy=strategy, **keys)
        pieces.channel.disturbances.piece = 7 * 14 * 10
        pieces.advance(5)
        torch.testing.assert_close(pieces.x, whole.x, rtol=1e-12, atol=1e-13)
        assert pieces.channel.bytes_sent == whole.channel.bytes_sent == 5 * 42 * whole.x.shape[1] * 8


def test_dissensus_with_epsilon_one_undoes_the_mixing(make_block):
    block = make_block(
        topology={"name": "complete", "agents": 6}, attack={"name": "dissensus", "share": 0.3, "epsilon": 1.0}
    )
    x = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed = x.clone()
    block.combine(mixed)
    attacks = torch.from_numpy(block.setup.attackers).flatten()
    assert attacks.sum() == 4
    torch.testing.assert_close(mixed[~attacks], x[~attacks], rtol=0, atol=1e-14)
    assert (mixed[attacks] - x[attacks]).abs().min() > 1e-6  # attackers hear the truth


def test_push_is_attacked_with_its_own_weights(make_block):
    block = make_block(
        topology={"name": "exponential", "agents": 5, "policy": "uniform"},
        strategy="push_pull",
        attack={"name": "sign_flip", "agents": [2]},
    )
    x = torch.randn(10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for verb, matrix in ((block.combine, block.setup.sequence[0]), (block.push, block.setup.push[0])):
        mixed = x.clone()
        verb(mixed)
        sign = np.ones((5, 5))
        sign[[0, 1, 3, 4], 2] = -1
        expected = (sign * matrix.toarray()) @ x.numpy().reshape(2, 5, 5)
        np.testing.assert_allclose(mixed.numpy(), expected.reshape(10, 5), atol=1e-13)


@pytest.mark.parametrize("sampling", ["independent", "epochs"])
def test_attackers_hold_wrong_labels(make_block, sampling):
    keys = {"task": {"name": "digits", "partition": "iid"}, "sampling": sampling}
    block = make_block(attack={"name": "label_flip", "agents": [2]}, **keys)
    clean = make_block(**keys)
    attacks = torch.tensor([False, False, True, False] * 2)
    batches = [(block.oracle.sampler.batch(3), clean.oracle.sampler.batch(3))]
    batches += [(a[0], b[0]) for a, b in zip(block.oracle.sampler.sweep(), clean.oracle.sampler.sweep(), strict=True)]
    assert len(batches) > 2
    for (inputs, labels), (true_inputs, true_labels) in batches:
        assert torch.equal(inputs, true_inputs)
        assert torch.equal(labels[~attacks], true_labels[~attacks])
        assert torch.equal(labels[attacks], 9 - true_labels[attacks])
    torch.testing.assert_close(block.gradients()[~attacks], clean.gradients()[~attacks])
    two = make_block(task="logistic", model="linear", attack={"name": "label_flip", "agents": [0]})
    assert set(two.oracle.sampler.batch(0)[1].unique().tolist()) == {0, 1}


def test_a_share_is_drawn_anew_in_each_replica(make_setup):
    keys = {"topology": {"name": "ring", "agents": 20}, "replicas": 8}
    one, other = (make_setup(attack={"name": "alie", "share": 0.2}, seed=seed, **keys).attackers for seed in (0, 1))
    again = make_setup(attack={"name": "alie", "share": 0.2}, seed=0, **keys | {"replicas": 3}).attackers
    assert (one.sum(1) == 4).all() and (one[:3] == again).all() and (one != other).any()
    assert len({tuple(row) for row in one}) == 8
    given = make_setup(attack={"name": "alie", "agents": [7, 3]}, **keys).attackers
    assert (given.nonzero()[1].reshape(8, 2) == [3, 7]).all()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"attack": "sign_flip"}, "attack: give either agents, such as .*, or a share"),
        ({"attack": {"name": "sign_flip", "agents": [0], "share": 0.2}}, "attack: give either agents"),
        ({"attack": {"name": "sign_flip", "agents": [4]}}, "attack: agent 4 does not exist; allowed are 0 to 3"),
        ({"attack": {"name": "sign_flip", "share": 0.1}}, "attack: a share of 0.1 of 4 agents is none"),
        ({"attack": {"name": "sign_flip", "share": 1.5}}, "attack.share: got 1.5, which should be less than 1"),
        ({"attack": {"name": "sign_flip", "agents": [0, 1, 2, 3]}}, "attack: all 4 agents attack"),
        ({"attack": {"name": dict}}, "attack: builtins:dict does not return a basinet.algorithms.attacks.Attack"),
        ({"attack": "sign_flp"}, "attack: there is no attack 'sign_flp'.*did you mean 'sign_flip'"),
        (
            {"task": "quadratic", "model": "point", "attack": {"name": "label_flip", "share": 0.3}},
            "attack: label_flip needs training data with classes, and quadratic has none",
        ),
        (
            {"strategy": "centralized", "attack": {"name": "alie", "share": 0.3}},
            "attack: alie falsifies messages between neighbours, but centralized averages over all agents",
        ),
        (
            {"strategy": {"name": "robust", "rule": "trimmed_mean"}},
            "robust by the rule trimmed_mean tolerates 1 among .* are 4 or more, and agent 0 has 2 neighbours",
        ),
        ({"strategy": {"name": "robust", "rule": "krum", "tolerated": 0.2}}, "krum tolerates 1 among.*5 or more"),
        ({"strategy": {"name": "robust", "rule": "ios", "tolerated": 2}}, "ios tolerates 2 among .* 5 or more"),
        ({"strategy": {"name": "robust", "rule": "centered_clipping"}}, "strategy: centered_clipping needs a radius"),
        ({"strategy": {"name": "robust", "tolerated": -1}}, "strategy.tolerated: got -1"),
        ({"strategy": {"name": "robust", "tolerated": 0.5}}, "strategy.tolerated: got 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused(make_setup, keys, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        make_setup(**keys)


class Averages:
    """Adapts with a mean over all agents, and does not say so."""

    def step(self, block):
        g = block.gradients()
        block.average(g)
        block.adapt(g)


def test_averages_are_refused_where_they_are_found(make_setup):
    with pytest.raises(ExperimentError, match="attack: sign_flip falsifies messages between neighbours"):
        make_setup(strategy=Averages(), attack={"name": "sign_flip", "agents": [0]})


PLACES = {
    "push_sum": {"name": "exponential", "agents": 6, "policy": "push"},
    "push_diging": {"name": "exponential", "agents": 6, "policy": "push"},
    "push_pull": {"name": "exponential", "agents": 6, "policy": "uniform"},
    "relay": {"name": "tree", "agents": 6},
}


AVERAGING = ["centralized", "local_sgd", "gossip_pga", "slowmo", *(s for s in STEPPED if s.startswith("subspace"))]


@pytest.mark.parametrize("strategy", [*STEPPED, {"name": "subspace_diffusion", "average": False}], ids=str)
def test_every_strategy_is_attacked_or_refused(make_block, strategy):
    topology = PLACES.get(str(strategy), {"name": "wheel", "agents": 6, "policy": "lazy"})
    keys = {"task": "logistic", "model": "linear", "strategy": strategy, "topology": topology, "replicas": 1}
    keys["runtime"] = {"dtype": "float64", "device": "cpu", "engine": "loop"}  # the cheapest to set up
    if "subspace" in str(strategy):
        golore = {"name": "golore", "lr": 0.1, "rank": 2, "period": 7, "shared": True}
        keys |= {"task": "digits", "model": {"name": "mlp", "hidden": [4]}, "optimizer": golore}
    steps = 4 if strategy == "k_gt" else 2  # it combines for the first time
    truth = make_block(**keys)
    truth.advance(steps)
    for name in (name for name in ATTACKS if name != "none"):
        keys["attack"] = {"name": name, "agents": [1]}
        if name in LYING and strategy in AVERAGING:
            with pytest.raises(
                ExperimentError, match=f"attack: {name} falsifies messages between neighbours, but {strategy}"
            ):
                make_block(**keys)
            continue
        block = make_block(**keys)
        block.advance(steps)
        assert torch.isfinite(block.x).all() and block.channel.bytes_sent == truth.channel.bytes_sent
        same = torch.equal(block.x, truth.x)
        assert same == (strategy == "isolated" and name != "label_flip"), name


def test_what_is_measured_is_the_honest_agents(make_setup):
    """Attackers may be anywhere, the first agent and numbers that are not finite among them."""
    setup = make_setup(
        attack={"name": "sign_flip", "agents": [0, 2]},
        topology={"name": "wheel", "agents": 5, "policy": "uniform"},
        analysis=["hessian_top_eigenvalue"],
        analysis_points=["centroid", "agents"],
    )
    worker = Worker(setup, Placement.split(2, 5), "stacked")
    worker.advance(3)
    x = worker.block.x.view(2, 5, -1)
    pi = setup.centroid_weights[[1, 3, 4]] / setup.centroid_weights[[1, 3, 4]].sum()
    centroid = np.einsum("k,rkp->rp", pi, x[:, [1, 3, 4]].numpy())
    np.testing.assert_allclose(worker.block.channel.replicas.centroid(worker.block.x), centroid, rtol=1e-12, atol=1e-13)
    squares = ((x.numpy() - centroid[:, None]) ** 2).sum(2)
    rows, diverged = worker.measure()
    assert not diverged
    for row in rows:
        r = row["replica"]
        assert row["consensus_distance"] == pytest.approx(squares[r, [1, 3, 4]] @ pi)
        assert row["attackers_distance"] == pytest.approx(squares[r, [0, 2]].mean())
    for r in range(2):
        points = measure_replica(setup, take_rows(worker.state(), slice(5 * r, 5 * r + 5)), r)
        assert [p.get("agent") for p in points] == [None, 1, 3, 4]

    for value in (float("inf"), float("nan")):
        x[:, [0, 2]] = value
        worker.block.oracle.watch.first_bad[[0, 2, 5, 7]] = 2
        again, diverged = worker.measure()
        assert not diverged
        for row, before in zip(again, rows, strict=True):
            assert row["train_loss"] == before["train_loss"]
            assert row["consensus_distance"] == before["consensus_distance"]
    worker.block.oracle.watch.first_bad[3] = 2
    assert worker.measure()[1] == {0: 2}
    quiet = Worker(make_setup(), Placement.split(2, 4), "stacked")
    assert "attackers_distance" not in quiet.measure()[0][0]


@pytest.mark.parametrize("rule", ["trimmed_mean", "self_centered_clipping", "ios"])
def test_who_tolerates_nobody_averages(make_block, rule):
    keys = {"topology": {"name": "wheel", "agents": 6, "policy": "uniform"}}
    robust = make_block(strategy={"name": "robust", "rule": rule, "tolerated": 0}, **keys)
    diffusion = make_block(strategy="diffusion", **keys)
    for block in (robust, diffusion):
        block.advance(20)
    torch.testing.assert_close(robust.x, diffusion.x, rtol=1e-12, atol=1e-13)
    assert robust.channel.bytes_sent == diffusion.channel.bytes_sent


def test_robust_rules_go_with_derivative_free_optimizers(make_block):
    for rule in RULES:
        block = make_block(
            strategy={"name": "robust", "rule": rule},
            topology={"name": "complete", "agents": 5},
            optimizer={"name": "mezo", "lr": 0.01, "eps": 0.1},
            attack={"name": "gaussian", "agents": [0]},
        )
        block.advance(2)
        assert torch.isfinite(block.x).all()


def test_a_resumed_attack_goes_on(make_setup):
    setup = make_setup(attack={"name": "gaussian", "share": 0.25}, strategy={"name": "robust", "rule": "median"})
    unbroken, first, second = (Worker(setup, Placement.split(2, 4), "stacked") for _ in range(3))
    unbroken.advance(6)
    first.advance(4)
    second.load(first.state())
    second.advance(6)
    assert torch.equal(second.block.x, unbroken.block.x)


def test_an_attack_of_ones_own(make_block):
    class Zero(Attack):
        """Send zeros."""

        lies = True

        def messages(self, sent):
            return torch.zeros_like(sent.true)

    block = make_block(attack={"name": Zero, "share": 0.25})
    _, heard = next(iter(block.broadcast(torch.ones(8, 3, dtype=torch.float64))))
    assert (heard == 0).all(2).sum() == 4  # the attacker of each replica has two neighbours


def test_what_follows_the_parameters_is_told_truly(make_block):
    """Second moments with the sign flipped would not be any."""
    block = make_block(
        optimizer={"name": "adam", "lr": 0.01}, optimizer_state="mix", attack={"name": "sign_flip", "agents": [1]}
    )
    block.advance(3)
    assert torch.isfinite(block.x).all()


def test_personal_parameters_are_not_attacked(make_block, make_setup):
    keys = {"personal": ("*.bias",), "analysis": [], "strategy": "diffusion"}
    block, truth = (make_block(attack=attack, **keys) for attack in ({"name": "gaussian", "agents": [1]}, "none"))
    before = torch.randn(block.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    falsified, true = before.clone(), before.clone()
    block.combine(falsified)
    truth.combine(true)
    for columns in Personal(keys["personal"], block.state.shapes).columns:
        assert torch.equal(falsified[:, columns], before[:, columns])
    assert (falsified != true).any()
    with pytest.raises(ExperimentError, match="personal: robust cannot leave some parameters out"):
        make_setup(**keys | {"strategy": "robust"})


@pytest.mark.slow
def test_honest_agents_learn_digits_among_attackers(make_setup):
    """One fifth of 10 agents lies; every agent hears all others, so that the bounds of the rules hold."""

    def accuracy(strategy, attack):
        setup = make_setup(
            strategy=strategy,
            attack=attack,
            topology={"name": "complete", "agents": 10},
            model={"name": "mlp", "hidden": [16]},
            optimizer={"name": "sgd", "lr": 0.5},
            batch_size=32,
            replicas=1,
            runtime={"dtype": "float32", "engine": "stacked"},
            trial=False,
        )
        worker = Worker(setup, Placement.split(1, 10), "stacked")
        worker.advance(50)
        rows, diverged = worker.measure()
        return 0.0 if diverged else rows[0]["test_accuracy"]

    clean = accuracy("diffusion", "none")
    # 360 test images: 5 standard errors above chance, and 5 of a difference below the run that nobody attacks.
    margin = 5 * (2 * clean * (1 - clean) / 360) ** 0.5
    for attack in ("sign_flip", "gaussian", "dissensus"):
        lies = {"name": attack, "share": 0.2, **({"deviation": 10.0} if attack == "gaussian" else {})}
        assert accuracy("diffusion", lies) < 0.1 + 5 * (0.1 * 0.9 / 360) ** 0.5 < 0.5 < clean, attack
        for rule in RULES:
            if (rule, attack) == ("self_centered_clipping", "sign_flip"):
                continue  # each attacker pulls by τ, the size of the noise of a gradient: too much without momentum
            assert accuracy({"name": "robust", "rule": rule, "tolerated": 2}, lies) > clean - margin, (rule, attack)


@pytest.mark.parametrize("attack", [{"name": "sign_flip", "agents": [0]}, {"name": "gaussian", "agents": [0]}])
@pytest.mark.parametrize("strategy", [{"name": "asynchronous", "activity": 1.0}, "push_sum"])
def test_numbers_of_the_protocol_are_told_truly(make_block, strategy, attack):
    """Both are diffusion where all agents take part and weights are doubly stochastic, under attack as well."""
    topology = {"name": "ring", "agents": K, "policy": "metropolis"}
    block = make_block(strategy=strategy, attack=attack, topology=topology)
    truth = make_block(strategy="diffusion", attack=attack, topology=topology)
    for b in (block, truth):
        b.advance(10)
    torch.testing.assert_close(block.x, truth.x, rtol=1e-9, atol=1e-9)
