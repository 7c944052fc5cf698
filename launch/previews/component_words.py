"""A component of an experiment in one word of the command line: its name, then its settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.words import override
from basinet.topologies.networks.network_files.network_source import Source

__all__ = ["component_of", "network_of"]

_OUTSIDE = re.compile(r""",(?=(?:[^{}\[\]]|\{[^{}]*\}|\[[^\[\]]*\])*$)""")
"""Commas outside brackets."""

_BY_ENDING = {".gml": "underlay", ".graphml": "underlay", ".topo": "simai", ".txt": "simai"}
_BY_COLUMNS = {"sender": "links", "latitude": "positions"}


def component_of(text: str, key: str) -> dict[str, Any]:
    """Read the description of a component.

    Args:
        text: Its name and settings, such as ``uniform,bandwidth=10 Gb/s,latency=50 us``, or a mapping in YAML.
        key: What it is, for messages.

    Returns:
        The description as an experiment has it.

    Example:
        >>> component_of("lognormal,mean=20 ms,sigma=0.3", "compute")
        {'name': 'lognormal', 'mean': '20 ms', 'sigma': 0.3}
    """
    if text.lstrip().startswith("{"):
        text = f"{key}={text}"
        words = [text]
    else:
        first, *others = (word.strip() for word in _OUTSIDE.split(text))
        words = [f"{key}.{word}" for word in ([first] if "=" in first else [f"name={first}"]) + others]
    found: dict[str, Any] = {}
    override(found, words)
    return dict(found[key])


def network_of(text: str) -> dict[str, Any]:
    """Read the description of a network, which may begin with the name of a file.

    The kind of a file follows from its ending, or from what is in it: a network of GML or GraphML, a topology of SimAI
    (.topo, .txt), YAML with the network of an experiment or of ASTRA-sim, or CSV with links, positions or latencies.

    Args:
        text: A file or name, then settings; settings alone for links that are all alike; or a mapping in YAML.

    Returns:
        The description as an experiment has it.

    Raises:
        ExperimentError: It cannot be read.
    """
    first, *others = _OUTSIDE.split(text)
    file = Path(first)
    if text.lstrip().startswith("{") or "=" in first or not (file.suffix or len(file.parts) > 1):
        return component_of(text, "network")
    known = _file(file)
    kind = component_of(",".join([known.pop("name"), *others]), "network")
    return {**known, **kind}


def _file(file: Path) -> dict[str, Any]:
    ending = Path(file.stem).suffix if file.suffix in (".gz", ".bz2") else file.suffix
    if ending in _BY_ENDING:
        return {"name": _BY_ENDING[ending], "path": str(file)}
    try:
        source = Source("network", file)
        if ending in (".yaml", ".yml"):
            given = yaml_files.load(source.text())
            if isinstance(given, Mapping) and "name" in given:
                return dict(given)
            return {"name": "astra", "path": str(file)}
        header = next((text for _, text in source.lines()), "")
    except ValueError as error:
        raise ExperimentError(str(error)) from None
    columns = [column.strip() for column in header.split(",")]
    kind = next((name for column, name in _BY_COLUMNS.items() if column in columns), "latencies")
    return {"name": kind, "path": str(file)}
