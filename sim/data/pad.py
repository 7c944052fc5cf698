"""Padding of samples of different lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from basinet.sim.data.nests import Nest, fields_of
from basinet.sim.data.rows import IGNORED

__all__ = ["Pad"]


@dataclass(frozen=True)
class Pad:
    """Collates samples whose parts differ in length: pads the first dimension of each part to one length.

    The length is the same for all batches, so that no result depends on which samples are together in a batch. Padded
    targets need a fill of their own, since 0 is a class: −100 for labels that do not count.

    Attributes:
        length: The length.
        fill: What the parts are padded with.
        fills: What some of them are padded with instead, by name, or by position ("0", "1", …) in a tuple, such as
            {"labels": -100} for labels that do not count.
        parts: Names of the parts that are padded; None for all that have a dimension.

    Example:
        >>> Pad(3, fills={"1": -100})([(torch.tensor([5, 6]), torch.tensor([1, 2]))])
        (tensor([[5, 6, 0]]), tensor([[   1,    2, -100]]))
    """

    length: int
    fill: float = 0
    fills: Mapping[str, float] = field(default_factory=dict)
    parts: Sequence[str] | None = None

    def __call__(self, items: Sequence[Any]) -> Nest:
        """Collate samples.

        Args:
            items: The samples: mappings, tuples or dataclasses.

        Returns:
            A batch: a mapping or a tuple.

        Raises:
            ValueError: A sample is too long, or `fills` or `parts` name what no sample has.
        """
        first = fields_of(items[0])
        for what, names in (("fills", self.fills), ("parts", self.parts or ())):
            for name in names:
                if name not in first:
                    raise ValueError(f"{what} name {name!r}, and a sample has the parts {', '.join(first) or 'none'}")
        if isinstance(items[0], Tensor) or not first:
            return torch.stack([self._padded("", torch.as_tensor(item)) for item in items])
        columns = {name: default_collate([self._part(name, item) for item in items]) for name in first}
        return tuple(columns.values()) if isinstance(items[0], tuple | list) else columns

    def check_targets(self, batch: Nest, targets: Tensor) -> None:
        """Raise unless padded targets have a fill of their own.

        Args:
            batch: A batch, as it was collated.
            targets: The part of it that holds the targets.

        Raises:
            ValueError: The loss would count the padding.
        """
        name = next((name for name, part in fields_of(batch).items() if part is targets), None)
        padded = name is not None and (self.parts is None or name in self.parts) and targets.ndim > 1
        numbers = targets.is_floating_point()
        if padded and name not in self.fills and (numbers or self.fill != IGNORED):
            remedy = "0}, and weights= of 0 there" if numbers else f"{IGNORED}}}, which does not count"
            raise ValueError(
                f"Pad would fill the targets with {self.fill:g}, which the loss would count; give"
                f" fills={{{name!r}: {remedy}, or parts= without {name!r}"
            )

    def _part(self, name: str, item: Any) -> Any:
        part = fields_of(item)[name]
        chosen = self.parts is None or name in self.parts
        found = torch.as_tensor(part) if chosen else part
        return self._padded(name, found) if isinstance(found, Tensor) and chosen and found.ndim else found

    def _padded(self, name: str, part: Tensor) -> Tensor:
        missing = self.length - len(part)
        if missing < 0:
            of = f" in {name!r}" if name else ""
            raise ValueError(f"a sample has the length {len(part)}{of}, and all are to be padded to {self.length}")
        fill = part.new_full((missing, *part.shape[1:]), self.fills.get(name, self.fill))
        return torch.cat([part, fill])
