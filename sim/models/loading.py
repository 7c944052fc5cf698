"""Loading values by name into a model that may have other names, layers or shapes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from basinet.sim.models.model import FitsValues
from basinet.sim.models.patterns import fits, matched

__all__ = ["Misfit", "load_values", "rename_values"]

_MOST_NAMES = 6
"""Most names, or groups of names, of a kind in a sentence."""


@dataclass(frozen=True)
class Misfit:
    """What fits between a model and the values for it, and what does not; true if anything does not.

    Attributes:
        missing: Names in the model for which there is no value.
        unexpected: Names of values that the model does not have.
        other: The reason why a value does not fit, by name.
        taken: Names in the model of the tensors that have got a value.
        names: All names in the model for which there should be a value, or that were to keep their own.
        given: All names of values.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.other)

    def __str__(self) -> str:
        """What does not fit, in words; "" if all does."""
        return _said(
            {
                "missing": _grouped(self.missing, self.names),
                "not in the model": _grouped(self.unexpected, self.given),
                "of another shape or value": self._others(),
            }
        )

    @property
    def summary(self) -> str:
        """How much was taken, what was not, and what keeps the model's own values, in words."""
        taken = {*self.taken}
        anew = [name for name in self.names if name not in taken]
        parts = {
            "not taken": _grouped(self.unexpected, self.given),
            "of another shape or value": self._others(),
            "drawn anew": _grouped(anew, self.names),
        }
        return "; ".join(filter(None, [f"{len(taken)} of {len(self.names)} tensors taken", _said(parts)]))

    def _others(self) -> str:
        reasons = [f"{name} ({reason})" for name, reason in self.other.items()]
        if len(reasons) <= _MOST_NAMES:
            return ", ".join(reasons)
        return f"{_grouped([*self.other], self.given)}, such as {reasons[0]}"


def _said(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{what}: {names}" for what, names in parts.items() if names)


def _grouped(names: Sequence[str], among: Sequence[str]) -> str:
    """List names by the modules that they are all of: "decoder.* (19), encoder.norm.bias".

    Args:
        names: The names.
        among: All names, of which those are some.

    Returns:
        The names; if these are too many groups, those of the outermost modules: "encoder.* (12 of 68)".
    """
    groups = _groups(names, among)
    if len(groups) > _MOST_NAMES:
        groups = _groups(names, among, whole=False)
    more = len(groups) - _MOST_NAMES
    return ", ".join(groups[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _groups(names: Sequence[str], among: Sequence[str], depth: int = 1, *, whole: bool = True) -> list[str]:
    """Return the groups of `_grouped`: of all names of a module if they are to be whole."""

    def by_module(of: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in of:
            found.setdefault(".".join(name.split(".")[:depth]), []).append(name)
        return found

    groups, every = [], by_module(among)
    for module, own in by_module(names).items():
        count, total = len(own), len(every[module])
        if count == 1:
            groups += own
        elif count == total or not whole:
            groups.append(f"{module}.* ({count if count == total else f'{count} of {total}'})")
        else:
            groups += _groups(own, every[module], depth + 1)
    return groups


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
    rules, names = [], list(values)
    for old, new in rename.items():
        pattern = re.compile("(.*)".join(map(re.escape, old.split("*"))))
        if not any(map(pattern.fullmatch, values)):
            raise ValueError(f"no name fits '{old}'; there are {_grouped(names, names)}")
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
        What fits, and what does not. A name is not missing if its tensor has another name with a value.

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
    other: dict[str, str] = {}
    taken: set[int] = set()
    seen: dict[int, tuple[str, Tensor]] = {}  # the first name and value of each tensor
    for name, value in values.items():
        if name in own:
            if isinstance(model, FitsValues):
                try:
                    value = model.fitted(name, value, given)
                except ValueError as error:
                    other[name] = str(error)
                    seen.setdefault(id(own[name]), (name, value))  # which is not missing
                    continue
            first, same = seen.setdefault(id(own[name]), (name, value))
            if own[name].shape != value.shape:
                other[name] = f"{list(value.shape)} instead of {list(own[name].shape)}"
            elif first != name and not torch.equal(same, value):
                other[name] = f"another value than {first}, with which it is tied"
            else:
                own[name].copy_(value)
                taken.add(id(own[name]))
    wanted = {name: t for name, t in needed.items() if id(t) in seen or name not in left_out}
    missing = (name for name, t in wanted.items() if id(t) not in seen and not fits(name, reinitialize))
    return Misfit(
        missing=tuple(missing),
        unexpected=tuple(name for name in values if name not in own),
        other=other,
        taken=tuple(name for name, t in wanted.items() if id(t) in taken),
        names=tuple(wanted),
        given=tuple(values),
    )
