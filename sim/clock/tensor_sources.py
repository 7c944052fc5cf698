"""Tracing of tensors: which events the values of each depend on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Sources", "numbers_in"]

_OVERWRITES = {"aten::copy_", "aten::zero_", "aten::fill_"}
"""Operations in place whose result does not depend on what was there before."""


class Sources(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows through all operations on tensors what their values depend on: sets of events, as bits of an integer.

    Values belong to memory, so that views and what is written through them are followed, too. What a program decides by
    a value affects all that comes later.

    Attributes:
        before: For each event, those that have ended on an agent when it ends there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before: list[int] = []
        self._of: dict[StorageWeakRef, int] = {}
        self._decided = 0

    def of(self, *tensors: Tensor | None) -> int:
        """Return what tensors depend on; those without memory of their own, such as sparse ones, are constants."""
        sources = self._decided
        for tensor in tensors:
            if tensor is not None and tensor.layout is torch.strided:
                sources |= self._of.get(_memory(tensor), 0)
        return sources

    def set(self, tensor: Tensor, sources: int) -> None:
        """Say what a tensor, and all that shares its memory, depends on from now on.

        Args:
            tensor: The tensor.
            sources: The events.

        Raises:
            NotImplementedError: It has no memory of its own, and is not a constant.
        """
        if tensor.layout is torch.strided:
            self._of[_memory(tensor)] = self.latest(sources)
        elif sources:
            raise NotImplementedError(f"values of layout {tensor.layout} are not followed from step to step")

    def latest(self, sources: int) -> int:
        """Leave out events that have ended anyway when another of them has."""
        earlier = 0
        for number in numbers_in(sources):
            earlier |= self.before[number]
        return sources & ~earlier

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Do not look at operations inside."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            self.__enter__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and pass on the sources of its inputs."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func is torch.ops.aten._local_scalar_dense.default:
            self._decided = self.latest(self.of(*inputs))
            return result
        written, replaced = [], []
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = kwargs.get(argument.name) if argument.kwarg_only else args[place]
                tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
                anew = argument.kwarg_only or func._schema.name in _OVERWRITES
                replaced += [t for t in tensors if anew and t.nbytes == t.untyped_storage().nbytes()]
                written += tensors
        sources = self.of(*(t for t in inputs if not any(t is r for r in replaced)))
        known = {_memory(t) for t in inputs if t.layout is torch.strided}
        for tensor in [*(t for t in tree_leaves(result) if isinstance(t, Tensor)), *written]:
            if any(tensor is t for t in written) or tensor.layout is not torch.strided or _memory(tensor) not in known:
                self.set(tensor, sources)
        return result


def _memory(tensor: Tensor) -> StorageWeakRef:
    """Identify a tensor's memory; the reference keeps others from getting the same identity, but not its contents."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def numbers_in(sources: int) -> Iterator[int]:
    """Iterate over the numbers of the events in a set."""
    while sources:
        last = sources.bit_length() - 1
        yield last
        sources ^= 1 << last
