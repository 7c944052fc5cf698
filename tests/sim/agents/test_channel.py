"""What travels: the bytes of each verb, what is personal, and what is reduced over the agents of a replica."""

import numpy as np
import pytest
import torch

from basinet.sim.agents.messages.replicas import Replicas
from basinet.sim.agents.messages.wire import Wire
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement

SHAPES = {"a": torch.Size([2, 2]), "b": torch.Size([3]), "c": torch.Size([1]), "d": torch.Size([4])}
VERBS = ["combine", "exchange", "broadcast", "average", "push"]


def rows(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("verb", "personal"), [*((verb, []) for verb in VERBS), *((verb, ["3.*"]) for verb in VERBS[:-1])]
)
def test_all_that_is_sent_is_counted(make_block, verb, personal):
    """Each agent of a ring of 4 sends to two neighbours, or to a server and back; personal parameters are not sent."""
    block = make_block(personal=personal, analysis=[], strategy="push_pull" if verb == "push" else "isolated")
    size = block.x.shape[1]
    for width, numbers in ((size, 64 * 6 + 6 if personal else size), (3, 3)):
        x, before = rows(8, width), block.channel.bytes_sent
        getattr(block, verb)(x[:, None].expand(-1, 2, -1) if verb == "exchange" else x)
        assert block.channel.bytes_sent - before == 8 * numbers * 8


def test_bytes_that_are_said_are_counted(make_block):
    block = make_block(strategy="isolated")
    block.combine(rows(8, 3), sent=5)
    assert block.channel.bytes_sent == 8 * 5
    block.exchange(rows(8, 2, 3), sent=7)
    assert block.channel.bytes_sent == 8 * (5 + 7)


@pytest.mark.parametrize("patterns", [["a"], ["b", "d"], ["[bc]"], ["a", "d"], []])
def test_personal_columns_are_kept_in_any_pieces(patterns):
    personal = Personal(patterns, SHAPES)
    names = np.repeat(list(SHAPES), [shape.numel() for shape in SHAPES.values()])
    mine = torch.from_numpy(np.isin(names, [letter for pattern in patterns for letter in pattern]))
    own, received = rows(5, 2, 12), -rows(5, 2, 12)
    wanted = torch.where(mine, own, received)
    whole = received.clone()
    personal.keep(whole, own)
    assert torch.equal(whole, wanted)
    for width in (1, 5, 12):
        pieces = []
        for start in range(0, 12, width):
            columns = slice(start, min(start + width, 12))
            pieces.append(received[..., columns].clone())
            personal.keep(pieces[-1], own[..., columns], columns)
        assert torch.equal(torch.cat(pieces, -1), wanted)
    sent = torch.zeros(12, dtype=torch.bool)
    for columns in personal.shared(own):
        sent[columns] = True
    assert torch.equal(sent, ~mine)
    assert personal.row_bytes(own[:, 0]) == personal.row_bytes(own, 2) == 8 * int(sent.sum())
    assert personal.row_bytes(own) == 2 * 8 * int(sent.sum())  # two rows of parameters in one
    assert personal.row_bytes(own[..., :3], 2) == 24 and personal.row_bytes(own[:, 0, 0]) == 8
    other = received[..., :3].clone()  # rows that are no parameters
    personal.keep(other, own[..., :3])
    assert torch.equal(other, received[..., :3]) and personal.shared(other) == [slice(0, 3)]


def test_reductions_leave_out_who_does_not_count_and_what_is_personal():
    pi = np.array([[0, 0.25, 0.75], [0.5, 0.5, 0]])
    x = rows(6, 12)
    replicas = Replicas(Placement.split(2, 3), pi, Personal(["b", "d"], SHAPES), x, Wire())
    table = x.view(2, 3, 12).numpy()
    centroids = np.einsum("rk,rkp->rp", pi, table)
    found = replicas.centroid(x)
    np.testing.assert_allclose(found, centroids, rtol=0, atol=1e-14)
    np.testing.assert_allclose(replicas.sums(x), table.sum(1), rtol=0, atol=1e-14)
    shared = [0, 1, 2, 3, 7]
    squares = ((table - centroids[:, None])[..., shared] ** 2).sum(2)
    np.testing.assert_allclose(replicas.distances(x, found), (pi * squares).sum(1), rtol=1e-13)
    np.testing.assert_allclose(replicas.distances_left_out(x, found), squares[[0, 1], [0, 2]], rtol=1e-13)
    averaged = x.clone()
    replicas.average((averaged, None))
    wanted = table.copy()
    wanted[..., shared] = table[..., shared].mean(1, keepdims=True)
    np.testing.assert_allclose(averaged.view(2, 3, 12), wanted, rtol=0, atol=1e-14)
    counters = torch.tensor([9, 1, 2, 4, 4, 9])
    assert replicas.centroid(counters).tolist() == [2, 4]  # 1.75 and 4, the nearest
