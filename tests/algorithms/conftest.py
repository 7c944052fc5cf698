"""Shared by the tests of the algorithms."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Sizes(TorchDispatchMode):
    """Notes the size of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in before:
            self.made.append(result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.fixture
def sizes_made():
    """A context that notes the size of every tensor that is made, in `made`."""
    return Sizes
