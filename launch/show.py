"""What the command line shows about components: lists with a line each, and graphs with their spectra."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from basinet.algorithms.optimizers import OPTIMIZERS
from basinet.algorithms.schedules import SCHEDULES
from basinet.algorithms.strategies import STRATEGIES
from basinet.sim.augmentations import AUGMENTATIONS
from basinet.sim.component import ExperimentError
from basinet.sim.config import Config
from basinet.sim.models import MODELS
from basinet.sim.partitions import PARTITIONS
from basinet.sim.setup import Setup
from basinet.sim.tasks import TASKS
from basinet.topologies import POLICIES, SEQUENCES, TOPOLOGIES, consensus_factor, smallest_eigenvalue, spectral_gap

__all__ = ["first_lines", "list_components", "show_topology"]

_REGISTRIES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "topologies": {**TOPOLOGIES, **SEQUENCES},
    "policies": POLICIES,
    "strategies": STRATEGIES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "tasks": TASKS,
    "models": MODELS,
    "partitions": PARTITIONS,
    "augmentations": AUGMENTATIONS,
}


def list_components(kinds: Iterable[str]) -> dict[str, dict[str, str]]:
    """List what an experiment can name.

    Args:
        kinds: Kinds of component, such as "topologies".

    Returns:
        For each kind the first line of each component's documentation.
    """
    return {kind: first_lines(_REGISTRIES[kind]) for kind in kinds}


def first_lines(registry: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """Collect what a registry's entries say of themselves.

    Args:
        registry: Documented callables by name.

    Returns:
        The first line of each entry's documentation, in the order of the names.
    """
    return {name: (inspect.getdoc(maker) or "").partition("\n")[0] for name, maker in sorted(registry.items())}


def show_topology(name: str, settings: Sequence[str], out: Path | None) -> tuple[dict[str, Any], Path]:
    """Measure and draw a graph with its weights.

    Args:
        name: A topology's name, or `module:attribute`.
        settings: `key=value`, as below `topology` in an experiment; 16 agents by default.
        out: Where to draw it; NAME.png by default.

    Returns:
        Facts by name, and the picture's path.

    Raises:
        ExperimentError: A setting is wrong.
    """
    topology: dict[str, Any] = {"name": name}
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals:
            raise ExperimentError(f"{word}: a setting is written key=value")
        if key == "name":
            raise ExperimentError(f"{word}: the topology is named before its settings")
        try:
            topology[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ExperimentError(f"{key}: the value {text!r} is not YAML") from None
    keys = {"task": "quadratic", "strategy": "diffusion", "steps": 1, "replicas": 1}
    config = Config.parse(keys | {"topology": topology})
    if config.topology.agents is None and config.topology.component.needs("num_agents"):
        config = Config.parse(keys | {"topology": topology | {"agents": 16}})
    setup = Setup.build(config)
    weights, graph = setup.weights, setup.graph  # of a sequence: the mean, and all edges
    degrees = np.array([degree for _, degree in graph.degree()])
    symmetric = abs(weights - weights.T).max() < 1e-12
    facts = {
        "agents": len(graph),
        "edges": graph.number_of_edges(),
        "directed": graph.is_directed(),
        "degree": f"{degrees.min()} to {degrees.max()}",
        **({"period": len(setup.sequence)} if len(setup.sequence) > 1 else {}),
        "spectral_gap": float(spectral_gap(weights)),
        "consensus_factor": float(consensus_factor(setup.sequence)),
        **({"smallest_eigenvalue": float(smallest_eigenvalue(weights))} if symmetric else {}),
        "symmetric_weights": bool(symmetric),
        "perron_vector": f"{setup.centroid_weights.min():.4g} to {setup.centroid_weights.max():.4g}",
    }
    path = out or Path(f"{name.replace(':', '_')}.png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ExperimentError(f"--out: {path} is no picture's name; allowed endings: .png, .pdf, .svg")
    return facts, _draw(setup, path)


def _draw(setup: Setup, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from basinet.analysis.plots import plot_topology

    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    layout = "grid" if setup.config.topology.component.name in ("grid", "torus") else None
    plot_topology(setup.weights, ax=figure.add_subplot(), layout=layout)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
