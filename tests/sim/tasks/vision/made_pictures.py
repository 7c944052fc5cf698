"""Images that tests of super-resolution make."""

import numpy as np
import torch

from basinet.sim.vision.resizing import shrink

SIDE = 5
"""Of patches."""

SHAPES = {"a": (66, 71), "b": (70, 64), "c": (67, 67), "d": (81, 64)}


def smooth(height, width, seed):
    """An image that is not the same in two places, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(rng.uniform(0.1, 0.9) * x + rng.uniform(0.1, 0.9) * y + channel) for channel in range(3)]
    return (127 + 80 * np.stack(waves, -1) + rng.integers(-30, 30, (height, width, 3))).astype(np.uint8)


def save(file, pixels, **settings):
    file.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    Image.fromarray(pixels).save(file, **settings)


def channels(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def small(pixels, scale=4):
    """An image in high and low resolution, [3, ...]."""
    height, width = (length - length % scale for length in pixels.shape[:2])
    high = channels(pixels)[:, :height, :width].contiguous()
    return high, shrink(high, scale)
