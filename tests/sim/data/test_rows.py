"""Rows of data: those that are chosen are the ones that are read."""

from typing import Any

import pytest
import torch

from basinet.sim.data.items import Items
from basinet.sim.data.rows import some, take

VALUES = torch.arange(10) ** 2


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("rows", [[7, 2, 5, 2], [9], [0, 1, 2]])
def test_chosen_samples_are_those_of_the_rows(stored: bool, rows: list[int]) -> None:
    data: Any = Items(source=VALUES.tolist(), classes=VALUES % 3) if stored else VALUES
    chosen = some(data, torch.tensor(rows))
    assert take(chosen, slice(None)).tolist() == [row**2 for row in rows]
    assert take(chosen, torch.tensor([len(rows) - 1, 0])).tolist() == [rows[-1] ** 2, rows[0] ** 2]
    if stored:
        assert len(chosen) == len(rows) and chosen.labels.tolist() == [row**2 % 3 for row in rows]
        again = some(chosen, torch.tensor([len(rows) - 1]))
        assert take(again, slice(None)).tolist() == [rows[-1] ** 2]
