"""The pool of extractors: trained here, hand-made, random, part of packages, or the user's own."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms.draws import key
from basinet.sim.data.generators import restored_generators, seed_generators
from basinet.sim.experiment.component import Kind
from basinet.sim.experiment.digest import digest
from basinet.sim.experiment.mistakes import first_line, nearest
from basinet.sim.setup.weights import read_weights
from basinet.sim.vision.colours import luma
from basinet.sim.vision.extractors.extractor import Extractor
from basinet.sim.vision.extractors.pretexts import PRETEXTS
from basinet.sim.vision.extractors.pretrained import Budget, pretrained, untrained
from basinet.sim.vision.extractors.wheel_networks import WHEELS, wheel_extractor
from basinet.sim.vision.scene_statistics import scene_statistics

__all__ = ["NEGATIVE", "POOL", "POSITIVE", "extractors"]

_REVISION = 1
"""Of what extractors compute; another one computes all features anew."""

NEGATIVE, POSITIVE, _HAND_MADE = "random", "blur", "scene_statistics"
"""The controls: a network with random weights, and one that has learnt to tell a distortion; and the statistics."""

POOL = (*PRETEXTS, NEGATIVE, _HAND_MADE)
"""Extractors that there are without other packages."""

_OWN = Kind(
    "extractors",
    {},
    ready=lambda given: isinstance(given, nn.Module) or (callable(given) and not isinstance(given, type)),
    noun="extractor",
)


def extractors(names: Sequence[str], folder: Path, budget: Budget | None = None) -> list[Extractor]:
    """Make extractors.

    Args:
        names: Of the pool; `pnet`, `rnet`, `onet` and `xfeat`, which are part of packages; or the user's own, as
            `module:attribute`, a function, a module of torch, or a class that makes one without arguments; with
            `=FILE` appended, the module's weights are read from the file.
        folder: The folder where trained networks are kept.
        budget: What networks are trained with.

    Returns:
        The extractors, in order.

    Raises:
        ExperimentError: A file or the user's own module cannot be read or made.
        ImportError: A package is not installed.
        ValueError: There is no such extractor.
    """
    for name in names:
        if name not in (*POOL, *WHEELS) and ":" not in name:
            known = nearest(name, [*POOL, *WHEELS])
            raise ValueError(f"extractors: there is no extractor '{name}' (your own is module:attribute); {known}")
    trained = pretrained([name for name in names if name in PRETEXTS], folder, budget or Budget())
    revision = f"{_REVISION} {torch.__version__}"
    found = []
    for name in names:
        if name in trained or name == NEGATIVE:
            network = trained[name].network if name in trained else untrained(name)
            weights = [*network.parameters()]
            found.append(Extractor(name, network, digest([weights, revision]), digest([weights, _REVISION])))
        elif name == _HAND_MADE:
            found.append(Extractor(name, _scene_statistics, f"{name} {revision}", f"{name} {_REVISION}"))
        elif name in WHEELS:
            found.append(wheel_extractor(name, revision))
        else:
            found.append(_own(name, revision))
    return found


def _scene_statistics(images: Tensor) -> Tensor:
    return scene_statistics(luma(images.double()))


def _own(name: str, revision: str) -> Extractor:
    """Import the user's own extractor."""
    path, is_equal, file = name.partition("=")
    if is_equal and not file:
        raise ValueError(f"extractors: {name} names no file; allowed is that of the weights after =")
    with restored_generators():
        seed_generators(key(0, "extractor", path))  # of weights that it draws
        given: Any = _OWN.parse(path).make()
    if not isinstance(given, nn.Module):
        if file or not callable(given):
            wanted = "modules of torch, which have weights" if file else "functions and modules of torch"
            raise ValueError(f"extractors: {path} is a {type(given).__name__}; allowed are {wanted}")
        return Extractor(name, given, digest([given, revision]), _content(given, type(given)))
    network = deepcopy(given).eval().requires_grad_(False).float()
    if file:
        try:
            network.load_state_dict(read_weights(Path(file), "extractors"))
        except RuntimeError as error:
            raise ValueError(f"extractors: {file} does not fit {path}: {first_line(error)}") from error
    content = _content([_parts(network), network.state_dict()], type(network))
    return Extractor(name, network, digest([network, revision]), content)


def _content(given: Any, kind: type) -> str:
    """Digest an object; one that cannot be copied, which has a new digest each time, by its class alone."""
    found = digest(given)
    return found if digest(given) == found else digest(kind)


def _parts(network: nn.Module) -> list[tuple[str, type, dict[str, Any]]]:
    """List the layers of a network with their settings, and not with what torch keeps in them."""
    return [
        (name, type(part), {key: value for key, value in vars(part).items() if key[0] != "_" and _is_plain(value)})
        for name, part in network.named_modules()
    ]


def _is_plain(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return all(part is None or isinstance(part, bool | int | float | str) for part in parts)
