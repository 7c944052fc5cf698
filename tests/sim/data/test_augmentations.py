"""Augmentations: keyed per agent, and doing what they say."""

import torch

from basinet.algorithms import draws
from basinet.sim.data.augmentations import flip, shift, shift_flip

KEYS = draws.agent_keys(0, "augmentation", torch.zeros(3, dtype=torch.int64), torch.arange(3))
IMAGES = torch.arange(3 * 40 * 2 * 5 * 6, dtype=torch.float64).view(3, 40, 2, 5, 6) + 1


def test_shift_moves_within_its_range_and_fills_with_zeros():
    moved = shift(IMAGES, KEYS, pixels=2)
    seen = set()
    for n in range(3):
        for b in range(40):
            found = [
                (dy, dx)
                for dy in range(-2, 3)
                for dx in range(-2, 3)
                if torch.equal(moved[n, b], reference(IMAGES[n, b], dy, dx))
            ]
            assert len(found) == 1
            seen.add(found[0])
    assert len(seen) == 25


def reference(image, dy, dx):
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    for y in range(height):
        for x in range(width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                out[:, y, x] = image[:, y + dy, x + dx]
    return out


def test_flip_mirrors_about_half():
    mirrored = flip(IMAGES, KEYS)
    count = 0
    for n in range(3):
        for b in range(40):
            same = torch.equal(mirrored[n, b], IMAGES[n, b])
            assert same or torch.equal(mirrored[n, b], IMAGES[n, b].flip(-1))
            count += not same
    assert abs(count - 60) < 5 * 30**0.5  # binomial, five standard deviations


def test_an_agent_draws_the_same_alone():
    together = shift_flip(IMAGES, KEYS)
    assert torch.equal(shift_flip(IMAGES[1:2], KEYS[1:2]), together[1:2])
    assert not torch.equal(shift(IMAGES[:1], KEYS[:1]), shift(IMAGES[:1], KEYS[1:2]))


def test_a_run_augments_each_step_and_agent_anew(make_block):
    block = make_block(task={"name": "digits", "augmentation": "shift"}, model={"name": "cnn", "channels": [4]})
    plain = make_block(model={"name": "cnn", "channels": [4]})
    for each in (block, plain):
        each.advance(2)
    assert not torch.equal(block.x, plain.x)
    again = make_block(task={"name": "digits", "augmentation": "shift"}, model={"name": "cnn", "channels": [4]})
    again.advance(2)
    assert torch.equal(block.x, again.x)
