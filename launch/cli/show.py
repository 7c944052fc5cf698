"""Facts about a topology's graph and weights, and a picture with its spectrum."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import DEFAULTS
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.words import override, split_words
from basinet.sim.run.files import plain_file
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.topologies import (
    algebraic_connectivity,
    communication_cost,
    consensus_factor,
    effective_neighbors,
    effective_resistance,
    eigenvalues,
    mixing_time,
    smallest_eigenvalue,
    spectral_gap,
)
from basinet.topologies.spectra.consensus_theory import steps_to_shrink

__all__ = ["places_of", "show_topologies", "spectrum"]

_MOST_EIGENVALUES = {True: 4096, False: 1500}  # by symmetry; takes seconds to half a minute
_MOST_RESISTANCES = 4096
_MOST_STEPS, _MOST_AGENTS_OF_STEPS = 6, 24  # drawn one by one
_GAMMAS = (0.9, 0.99)
_FLOAT32 = 4  # bytes


def show_topologies(words: Sequence[str], out: Path | None) -> dict[str, tuple[dict[str, Any], Path]]:
    """Measure and draw graphs with their weights.

    Args:
        words: Names of topologies, or `module:attribute`, and settings `key=value` for all of them, as below `topology`
            in an experiment: a list of values makes a graph for each. There are 16 agents by default.
        out: Picture of the graph; NAME.png by default. With several graphs, their names are added.

    Returns:
        For each graph its facts by name, None if a number could not be found, and its picture.

    Raises:
        ExperimentError: A name or a setting is wrong; nothing was drawn.
    """
    if out is not None and out.suffix not in (".png", ".pdf", ".svg"):
        raise ExperimentError(f"--out: {out} is not the name of a picture; allowed endings: .png, .pdf, .svg")
    listed, words = split_words(words)
    names = [name for word in listed for name in word.split(",")]
    settings = [f"topology.{word.removeprefix('topology.')}" for word in words]
    if not names:
        raise ExperimentError("topology: name one before its settings, such as ring")
    try:
        setups = {label: setup for name in names for label, setup in _setups(name, settings).items()}
    except ExperimentError as error:
        raise ExperimentError(re.sub(r"\btopology\.", "", str(error))) from None  # as it was typed
    shown = {}
    for label, setup in setups.items():
        file = re.sub(r"[^\w.=+-]+", "_", label)
        path = out or Path(f"{file}.png")
        if out is not None and len(setups) > 1:
            path = out.with_stem(f"{out.stem}-{file}")
        facts = _graph_facts(setup) | (_step_facts(setup) if len(setup.sequence) == 1 else _period_facts(setup))
        shown[label] = facts, _draw(setup, path)
    return shown


def _setups(name: str, settings: Sequence[str]) -> dict[str, Setup]:
    """Build the graphs of a topology, one per point of the grid of its settings."""
    description: dict[str, Any] = {"task": "quadratic", "strategy": "diffusion", "steps": 1, "replicas": 1}
    override(description, [f"topology.name={name}", *settings])
    setups = []
    for config in Experiment(description).runs.values():
        part = config.topology
        if part.agents is None and part.component.needs("num_agents"):
            config = config.model_copy(update={"topology": part.model_copy(update={"agents": 16})})
        setups.append(build_setup(config))
    described = [_flat(setup.config.describe()["topology"]) for setup in setups]
    differ = [
        key
        for key in dict.fromkeys(key for d in described for key in d)
        if len({str(d.get(key)) for d in described}) > 1
    ]
    labels = [", ".join([name, *(f"{key}={d[key]}" for key in differ if key in d)]) for d in described]
    return dict(zip(labels, setups, strict=True))


def _flat(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a topology, named as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in description.items():
        inner = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
        flat |= {k.removesuffix(".name"): v for k, v in inner.items()}
    return flat


def _graph_facts(setup: Setup) -> dict[str, Any]:
    """Facts about the graph (all edges, if it changes), whatever its weights."""
    graph = setup.graph
    degrees = [degree for _, degree in graph.degree()]
    facts: dict[str, Any] = {
        "agents": len(graph),
        "edges": graph.number_of_edges(),
        "directed": graph.is_directed(),
        "degree": f"{min(degrees)} to {max(degrees)}",
    }
    if not graph.is_directed():
        facts["algebraic_connectivity"] = _found(partial(algebraic_connectivity, graph))
        if 1 < len(graph) <= _MOST_RESISTANCES:
            facts["effective_resistance"] = effective_resistance(graph)
            facts["kirchhoff_index"] = facts["effective_resistance"] * len(graph) * (len(graph) - 1) / 2
    return facts


def _step_facts(setup: Setup) -> dict[str, Any]:
    """Facts about the weights of a graph that does not change."""
    W = setup.weights
    cost = communication_cost(W, num_parameters=1, itemsize=_FLOAT32)
    return {
        **_weight_facts(setup),
        "spectral_gap": _found(partial(spectral_gap, W)),
        "mixing_time": _found(partial(mixing_time, W)),
        "consensus_factor": _found(partial(consensus_factor, [W])),
        **({"smallest_eigenvalue": _found(partial(smallest_eigenvalue, W))} if _is_symmetric(W) else {}),
        **{f"effective_neighbors_{g}": _found(partial(effective_neighbors, W, gamma=g)) for g in _GAMMAS},
        "messages_per_step": _messages(W),
        "bytes_per_step_and_parameter": _messages(W) * _FLOAT32,
        "most_messages_of_an_agent": cost.max_degree,
    }


def _period_facts(setup: Setup) -> dict[str, Any]:
    """Facts about the weights of a sequence, over a period."""
    factor = _found(partial(consensus_factor, setup.sequence))
    messages = sum(map(_messages, setup.sequence))
    costs = [communication_cost(W, num_parameters=1) for W in setup.sequence]
    return {
        **_weight_facts(setup),
        "period": len(setup.sequence),
        "consensus_factor_of_a_period": factor,
        "mixing_time": None if factor is None else len(setup.sequence) * steps_to_shrink(factor),
        "messages_per_period": messages,
        "bytes_per_period_and_parameter": messages * _FLOAT32,
        "most_messages_of_an_agent_in_a_step": max(cost.max_degree for cost in costs),
    }


def _weight_facts(setup: Setup) -> dict[str, Any]:
    pi = setup.centroid_weights
    policy = setup.config.topology.policy
    return {
        "policy": policy.name if policy else setup.graph.graph.get("policy", DEFAULTS["topology.policy"]),
        "symmetric_weights": all(map(_is_symmetric, setup.sequence)),
        "perron_vector": f"{pi.min():.4g} to {pi.max():.4g}",
    }


def _is_symmetric(W: csr_array) -> bool:
    return bool(abs(W - W.T).max() < 1e-12)


def _messages(W: csr_array) -> int:
    return int(W.nnz - np.count_nonzero(W.diagonal()))


def _found(measure: Callable[[], float]) -> float | None:
    """Return a measured value, or None if an iteration fails for many agents that mix slowly."""
    try:
        return float(measure())
    except RuntimeError:
        return None


def spectrum(setup: Setup) -> np.ndarray | None:
    """Compute all eigenvalues of the mixing matrix, or of the product of a period's.

    Args:
        setup: The parts of a run.

    Returns:
        Eigenvalues [K], largest modulus first; None if there are too many agents.
    """
    symmetric = len(setup.sequence) == 1 and _is_symmetric(setup.weights)
    if setup.num_agents > _MOST_EIGENVALUES[symmetric]:
        return None
    if len(setup.sequence) == 1:
        return eigenvalues(setup.weights)
    product = np.eye(setup.num_agents)
    for W in setup.sequence:
        product = W @ product
    # If agents average exactly, rounding would spread the zeros over the plane.
    even = np.abs(product - product.T).max() < 1e-12
    values = np.linalg.eigvalsh(product) if even else np.linalg.eigvals(product)
    return np.asarray(values[np.argsort(-np.abs(values), kind="stable")])


def _draw(setup: Setup, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from basinet.analysis.plots import plot_spectrum, plot_topology
    from basinet.analysis.plots.network.topology import usual_layout

    changes = len(setup.sequence) > 1
    steps = setup.sequence[:_MOST_STEPS] if changes and setup.num_agents <= _MOST_AGENTS_OF_STEPS else ()
    values = spectrum(setup)
    width = 6.5 if values is None else 11
    figure = Figure(figsize=(width, 5 + bool(steps) * 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    half = max(1, len(steps))
    cells = figure.add_gridspec(1 + bool(steps), 2 * half, height_ratios=[5, 2.4][: 1 + bool(steps)])
    name = setup.config.topology.component.name
    layout = usual_layout(name) or ("circular" if changes else None)
    places = places_of(setup.graph)
    ax = figure.add_subplot(cells[0, :] if values is None else cells[0, :half])
    plot_topology(setup.weights, ax=ax, layout=layout, positions=places)
    ax.set_title(f"{name}, mean of {len(setup.sequence)} steps" if changes else name)
    if values is not None:
        ax = plot_spectrum(values, ax=figure.add_subplot(cells[0, half:]))
        ax.set_title("eigenvalues of the product of a period" if changes else "eigenvalues of W")
    for number, W in enumerate(steps):
        ax = figure.add_subplot(cells[1, 2 * number : 2 * number + 2])
        plot_topology(W, ax=ax, layout=layout, positions=places, scale=0.5, colorbar=False)
        ax.set_title(f"step {number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(plain_file(path), dpi=150)
    return path


def places_of(graph: nx.Graph) -> list[tuple[float, float]] | None:
    """Return the positions of the agents.

    Args:
        graph: The graph, with positions in networkx's attribute `pos`.

    Returns:
        A point of the plane for each agent; None unless the graph has all of them.
    """
    places = [place for _, place in graph.nodes(data="pos")]
    flat = all(np.shape(place) == (2,) for place in places)
    return [(float(x), float(y)) for x, y in places] if flat else None
