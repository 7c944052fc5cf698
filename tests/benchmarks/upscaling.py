"""An image of 510×340 pixels enlarged to 2040×1360 by the networks of restoration, in tiles, on one thread."""

from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import torch

from basinet.sim.models import MODELS
from basinet.sim.vision.resizing import resize
from basinet.sim.vision.tiles import in_tiles
from tests.benchmarks.harness import Row, measure

FACTOR = 4

NETWORKS: dict[str, dict[str, Any]] = {
    "residual_upscaler": {},
    "distillation_upscaler": {},
    "window_upscaler": {},
}

TARGETS = {"distillation_upscaler": ("<=", 15.0)}
"""Most seconds."""


def rows() -> Iterator[Row]:
    """Measure the networks, and bicubic interpolation."""
    low = torch.rand(1, 3, 340, 510)
    yield _row("bicubic interpolation", partial(resize, low, FACTOR))
    for name, settings in NETWORKS.items():
        model = MODELS[name]((3, 24, 24), FACTOR**2 * 3 * 24**2, **settings).eval()
        row = _row(name, partial(in_tiles, model, low, FACTOR))
        row.target = TARGETS.get(name)
        row.more = {"parameters": sum(p.numel() for p in model.parameters())}
        yield row


def _row(name: str, enlarge: Any) -> Row:
    with torch.inference_mode():
        times = [measure(enlarge, 0.0) for _ in range(3)]
    row = Row("upscaling", f"510×340 to 2040×1360: {name}", base="a second")
    row.ratios, row.base_ms = [time.cpu for time in times], 1e3
    row.ours_ms, row.ours_wall_ms = median(1e3 * time.cpu for time in times), median(1e3 * time.wall for time in times)
    return row
