"""What `basinet list` and `basinet topology` print and draw."""

import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from basinet.algorithms.compressors import COMPRESSORS
from basinet.launch.cli import main
from basinet.launch.cli.show import places_of, spectrum
from basinet.launch.listing import LISTED, describe_component, describe_keys, list_components, source_in
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.topologies import GraphSequence, base_graph, one_peer_exponential, random_geometric


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def facts(capsys, *words):
    assert main(["topology", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_lists_name_what_components_are_and_where_they_come_from(capsys):
    assert main(["list", "topologies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["topologies"]
    assert found["base_graph"]["source"] == "Y. Takezawa et al., NeurIPS 2023, arXiv:2305.11420"
    assert found["ring"]["source"] is None and found["ring"]["about"].startswith("Agents on a circle")
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert "metropolis" in table and "kind" in table
    assert main(["list", "policies"]) == 0
    table = capsys.readouterr().out
    assert "doi:10.1016/j.jpdc.2006.08.010" in table and "kind" not in table
    assert main(["list", "tasks", "models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == list_components(["tasks", "models"])


def entry(capsys, *words):
    assert main(["list", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_keys_are_described_from_the_model_and_its_documentation():
    found = describe_keys()
    about = "Where and how the run is executed."
    assert found["runtime"] == {"type": "name | mapping", "about": about}
    about = "Number of Ray actors that share the agents of a run."
    assert found["runtime.actors"] == {"type": "int > 0 and ≤ 1000000000000", "default": 1, "about": about}
    assert found["topology.name"]["needed"] and found["topology.agents"]["default"] is None
    assert all(known["about"] for known in found.values())


def test_a_component_is_described_from_signature_and_documentation(capsys):
    found = entry(capsys, "strategies", "choco")
    assert (found["name"], found["source"]) == ("choco", "A. Koloskova et al., ICML 2019, arXiv:1902.00340")
    assert found["about"].startswith("Adapt, send the compressed change") and found["description"].startswith(
        "x ← adapt("
    )
    assert found["formula"] == "x ← adapt(x, g(x)), x̂ ← x̂ + C(x − x̂), x ← x + γ (W x̂ − x̂)"
    about = "Share of the entries that top_k and random_k keep, in (0, 1]."
    assert found["settings"]["share"] == {"type": "float > 0 and ≤ 1", "default": 0.1, "about": about}
    assert found["settings"]["compressor"]["type"].split(" | ") == list(COMPRESSORS)
    # what the simulator supplies is no setting; what has no default is needed
    resnet = entry(capsys, "models", "resnet")["settings"]
    assert list(resnet) == ["norm", "widths", "blocks"] and resnet["norm"]["needed"] and "default" not in resnet["norm"]
    assert resnet["widths"]["type"] == "list of int ≥ 1 and ≤ 10000, length ≥ 1"
    # settings that a class inherits, or refers to, are documented by the class that has them
    assert entry(capsys, "optimizers", "galore")["settings"]["rank"]["about"].startswith("r, or None")
    assert entry(capsys, "optimizers", "nsgdc")["settings"]["clip"]["about"].startswith("h, the largest norm")
    assert entry(capsys, "optimizers", "sgd")["settings"]["momentum"]["about"].startswith("momentum factor")
    assert entry(capsys, "measures", "noise_curvature")["about"] == "Tr HΣ"
    assert main(["list", "policies", "lazy"]) == 0
    table = capsys.readouterr().out
    assert "lazy: Metropolis weights" in table and "source: A. Olshevsky" in table
    assert "Share that an agent keeps" in table and "0.5" in table
    assert main(["list", "lazy"]) == 0  # the only component of this name
    assert capsys.readouterr() == (table, "basinet list policies lazy\n")


def test_every_component_and_setting_is_described():
    for kind, names in list_components(LISTED).items():
        for name in names:
            found = describe_component(kind, name)
            assert found["about"], (kind, name)
            assert json.dumps(found)
            for setting, known in found["settings"].items():
                assert known["about"] and (known["type"] or "default" not in known), (kind, name, setting)
            if kind == "strategies" and name not in ("gossip_pga", "local_sgd", "powergossip", "sam"):
                assert found["formula"], name


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("basinet.launch.cli.show._draw", lambda setup, path: path)


def test_several_topologies_at_once(capsys, request):
    found = facts(capsys, "ring,torus", "star", "agents=9", "policy=lazy", "policy.keep=0.3")
    assert list(found) == ["ring", "torus", "star"]
    assert {path.name for path in Path().iterdir()} == {"ring.png", "torus.png", "star.png"}
    request.getfixturevalue("undrawn")
    assert found["torus"] == facts(capsys, "torus", "topology.agents=9", "policy={name: lazy, keep: 0.3}")
    found = facts(capsys, "ring", "agents=8", "policy=lazy", "policy.keep=0,0.5")
    whole, half = found["ring, policy.keep=0.0"], found["ring, policy.keep=0.5"]
    assert half["spectral_gap"] == pytest.approx(whole["spectral_gap"] / 2)
    assert main(["topology", "ring", "exponential", "agents=4", "policy=uniform"]) == 0
    table = capsys.readouterr().out
    assert "exponential" in table.splitlines()[1] and "algebraic connectivity" in table


REFERENCES = {
    "Gabber and Galil, Explicit\n    and, https://doi.org/10.1(8)9-4, 1981": "Gabber and Galil, 1981, doi:10.1(8)9-4",
    "Hastings, Chains and so, https://doi.org/1.2/3, 1970;\n    B and C, D, 1990": "Hastings, 1970, doi:1.2/3",
    "Boyd, Diaconis and Xiao, Chains, https://doi.org/1/2, 2004": "Boyd et al., 2004, doi:1/2",
    "Davis, Gardner and Gardner, Deep South: A Study, 1941": "Davis et al., 1941",
    "Song et al., O(1) Rate, https://arxiv.org/abs/2210.07881, 2022": "Song et al., 2022, arXiv:2210.07881",
    "A. One, B. Two: X, Y?, IEEE TSP 60\n    (2012), doi:1/2. C: Z.": "A. One and B. Two, IEEE TSP 2012, doi:1/2",
    "K. Yuan et al.: A: fast, ICCV 2021, arXiv:2104.11981.": "K. Yuan et al., ICCV 2021, arXiv:2104.11981",
    "A. H. Sayed: Learning, and networks (2014), doi:1/2.": "A. H. Sayed, 2014, doi:1/2",
}


@pytest.mark.parametrize(("reference", "source"), REFERENCES.items())
def test_sources_are_short(reference, source):
    assert source_in(f"What it is.\n\nReferences:\n    {reference}\n\nExample:\n    1999") == source


def test_what_has_no_reference_has_no_source():
    assert source_in("What it is, arXiv:1234.5678, 2020.") is None


def test_every_reference_has_a_year_and_a_name():
    for names in list_components(["topologies", "policies", "strategies", "optimizers"]).values():
        for name, entry in names.items():
            if entry["source"]:
                authors, *rest = entry["source"].split(", ")
                assert len(authors) < 40, name
                assert any(part[-4:].isdigit() for part in rest), name


def test_facts_of_a_graph(capsys):
    found = facts(capsys, "hypercube", "agents=8")
    # Eigenvalues of L are 2 j, of W 1 - j / 2, each (3 choose j) times.
    for name, value in {
        "spectral_gap": 0.5,
        "consensus_factor": 0.5,
        "smallest_eigenvalue": -0.5,
        "mixing_time": 2,
        "algebraic_connectivity": 2,
        "kirchhoff_index": 8 * (3 / 2 + 3 / 4 + 1 / 6),
        "effective_resistance": 2 / 7 * (3 / 2 + 3 / 4 + 1 / 6),
        "effective_neighbors_0.9": 10 / np.mean([s / (1 - 0.9 * s) for s in [1, *[0.25] * 3, *[0] * 3, 0.25]]),
        "messages_per_step": 24,
        "bytes_per_step_and_parameter": 96,
        "most_messages_of_an_agent": 3,
    }.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert (found["policy"], found["symmetric_weights"]) == ("metropolis", True)
    assert Path("hypercube.png").read_bytes().startswith(b"\x89PNG")
    directed = facts(capsys, "exponential", "agents=16", "policy=uniform")
    assert directed["spectral_gap"] == pytest.approx(2 / 5) and "algebraic_connectivity" not in directed
    assert main(["topology", "star", "agents=1"]) == 0
    assert "mixing time" in capsys.readouterr().out


def test_each_topology_has_a_file_of_its_own(capsys):
    assert main(["topology", "ring", "agents=4", "policy=lazy", "policy.keep=0,0.5", "--out", "lazy.svg"]) == 0
    assert {path.name for path in Path().iterdir()} == {
        "lazy-ring_policy.keep=0.0.svg",
        "lazy-ring_policy.keep=0.5.svg",
    }


def test_facts_of_a_sequence(capsys, undrawn):
    found = facts(capsys, "base_graph", "agents=6")
    assert found["consensus_factor_of_a_period"] < 1e-14
    assert (found["policy"], found["period"], found["mixing_time"]) == ("weights", 4, 4)
    assert found["messages_per_period"] * 4 == found["bytes_per_period_and_parameter"]
    assert found["most_messages_of_an_agent_in_a_step"] == 1
    slow = facts(capsys, "random_matchings", "agents=16", "period=9")
    factor = slow["consensus_factor_of_a_period"]
    assert slow["mixing_time"] == 9 * math.ceil(math.log(0.25) / math.log(factor))


def build(graph, **keys):
    keys = {"task": "quadratic", "strategy": "diffusion", "steps": 1, "replicas": 1} | keys
    return build_setup(Config.parse(keys | {"topology": {"name": graph}}))


def test_spectra_of_graphs_and_of_periods():
    angles = 2 * np.pi * np.arange(12) / 12
    np.testing.assert_allclose(
        np.sort(spectrum(build(nx.cycle_graph(12)))), np.sort((1 + 2 * np.cos(angles)) / 3), atol=1e-13
    )
    exact = spectrum(build(base_graph(12)))
    np.testing.assert_allclose(exact, [1, *[0] * 11], atol=1e-14)
    assert not np.iscomplexobj(exact)
    expected = np.prod([(1 + np.exp(1j * 2**j * angles)) / 2 for j in range(4)], axis=0)
    found = spectrum(build(one_peer_exponential(12)))
    np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(np.abs(expected)), atol=1e-12)


def test_places_are_the_graphs_own():
    graph = random_geometric(30, seed=1)
    assert places_of(graph) == [graph.nodes[k]["pos"] for k in graph]
    assert places_of(nx.path_graph(3)) is None
    nx.set_node_attributes(graph, "somewhere", "pos")
    assert places_of(graph) is None


def test_many_agents_have_facts_and_a_picture(capsys):
    found = facts(capsys, "ring", "agents=20000")
    assert found["spectral_gap"] == pytest.approx(4 / 3 * math.sin(math.pi / 20_000) ** 2, rel=1e-6)
    assert Path("ring.png").exists()


def test_sequences_of_a_users_own_keep_their_places(capsys):
    graph = nx.path_graph(4)
    nx.set_node_attributes(graph, {k: (k, k * k) for k in range(4)}, "pos")
    setup = build(GraphSequence([graph, graph]))
    assert places_of(setup.graph) == [(0, 0), (1, 1), (2, 4), (3, 9)]
