"""Loading values by name into a model that may have other names, layers or shapes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from basinet.sim.models.model import FitsValues
from basinet.sim.models.patterns import fits, matched

__all__ = ["Misfit", "load_values", "rename_values"]

_MOST_NAMES = 6
"""Most names of a kind in a sentence."""


@dataclass(frozen=True)
class Misfit:
    """What does not fit between a model and the values for it.

    Attributes:
        missing: Names in the model for which there is no value.
        unexpected: Names of values that the model does not have.
        other: Names whose values do not fit, each with the reason, as text.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.other)

    def __str__(self) -> str:
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape or value", self.other))
        return "; ".join(f"{what} {_listed(names)}" for what, names in parts if names)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def rename_values(values: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename values by patterns: each * of a pattern stands for any characters, which are put for that of the new name.

    Args:
        values: Tensors by name.
        rename: New names by old ones; the first pattern that fits a name counts.

    Returns:
        The same tensors under their new names.

    Raises:
        ValueError: A pattern fits no name, a new name has more * than the old one, or two values get one name.

    Example:
        >>> list(rename_values({"bert.layer.0.weight": torch.zeros(1)}, {"bert.*.weight": "body.*.weight"}))
        ['body.layer.0.weight']
    """
    rules = []
    for old, new in rename.items():
        pattern = re.compile("(.*)".join(map(re.escape, old.split("*"))))
        if not any(map(pattern.fullmatch, values)):
            raise ValueError(f"no name fits '{old}'; there are {_listed(list(values))}")
        if new.count("*") > old.count("*"):
            raise ValueError(f"'{new}' has more * than '{old}'")
        rules.append((pattern, new))
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        new = name
        for pattern, template in rules:
            if match := pattern.fullmatch(name):
                kept = iter(match.groups())
                new = re.sub(r"\*", lambda _, kept=kept: next(kept), template)  # type: ignore[misc]
                break
        if new in found:
            raise ValueError(f"two values get the name '{new}'")
        found[new] = value
    return found


@torch.no_grad()
def load_values(
    model: nn.Module, values: Mapping[str, Tensor], reinitialize: Iterable[str] = (), optional: Iterable[str] = ()
) -> Misfit:
    """Load values by name.

    Args:
        model: The model; changed in place, as far as the values fit.
        values: Tensors by the names of its parameters and buffers.
        reinitialize: Names that keep the model's own values, where * stands for any characters.
        optional: Names that may be missing, if all of them are.

    Returns:
        What does not fit. A name is not missing if its tensor has another name with a value.

    Raises:
        ValueError: A name to reinitialize does not exist.
    """
    needed = {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    own = needed | dict(model.named_buffers(remove_duplicate=False))  # also those that no file holds
    reinitialize = tuple(reinitialize)
    matched(reinitialize, own)
    given, values = values, {name: value for name, value in values.items() if not fits(name, reinitialize)}
    left_out = set(optional)
    left_out = left_out if left_out.isdisjoint(values) else set()
    other: list[str] = []
    loaded: dict[int, tuple[str, Tensor]] = {}  # the first name and value of each tensor
    for name, value in values.items():
        if name in own:
            if isinstance(model, FitsValues):
                try:
                    value = model.fitted(name, value, given)
                except ValueError as error:
                    other.append(f"{name} ({error})")
                    loaded.setdefault(id(own[name]), (name, value))  # which is not missing
                    continue
            first, same = loaded.setdefault(id(own[name]), (name, value))
            if own[name].shape != value.shape:
                other.append(f"{name} ({list(value.shape)} instead of {list(own[name].shape)})")
            elif first != name and not torch.equal(same, value):
                other.append(f"{name} (another value than {first}, with which it is tied)")
            else:
                own[name].copy_(value)
    missing = (
        name
        for name, tensor in needed.items()
        if id(tensor) not in loaded and name not in left_out and not fits(name, reinitialize)
    )
    return Misfit(tuple(missing), tuple(name for name in values if name not in own), tuple(other))
