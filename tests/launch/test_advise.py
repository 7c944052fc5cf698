"""`basinet advise`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
import yaml

from basinet.analysis.theory.rounds_to_accuracy import Problem
from basinet.launch.cli.entry import main
from basinet.launch.cli.parser import make_parser
from basinet.launch.previews.asking import problem_of, question_of
from basinet.launch.previews.component_words import component_of, network_of
from basinet.launch.results import load_one
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import RunFolder
from basinet.sim.setup.build import build_setup

DIRECTED = ("fastest_ring", "exponential", "one_peer_exponential")
GAIA = ["advise", "--agents", "11", "--model-size", "5620215B", "--network", "gaia"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_advice_is_printed_written_and_drawn(capsys):
    words = ["--compute", "constant,mean=25.4 ms", "--strategy", "consensus", "--max-degree", "4", "--by", "round"]
    assert main([*GAIA, *words, "--json", "--write", "graphs", "--plot", "advice.png"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["ranked_by"] == "round" and found["bytes"] == 5620215
    ring = found["choices"][0]
    # Overlapped: the 118.1 ms of the published table without computing.
    assert ring["name"] == "fastest_ring" and ring["seconds_per_step"] == pytest.approx(0.1181 - 0.0254, abs=1e-4)
    assert sum(ring["parts"].values()) == pytest.approx(ring["seconds_per_step"]) and ring["bound"] == "latency"
    assert found["left_out"]["complete"] == "an agent has 10 neighbours" and "without complete: an agent" in shown.err
    assert "agents send along all of their links at once" not in shown.err  # they share their access of 10 Gb/s
    assert next(iter(found["if"]["latency ×2"]["seconds"])) == "fastest_ring"
    assert Path("advice.png").read_bytes().startswith(b"\x89PNG")
    for one in found["choices"]:
        if one["topology"] is not None:
            run = {"task": "quadratic", "strategy": "consensus", "steps": 1, "topology": one["topology"]}
            setup = build_setup(Config.parse(run), trial=False)  # graphs as they are named can be trained on
            assert setup.num_agents == 11 and setup.graph.is_directed() == (one["name"] in DIRECTED)
    line = next(text for text in shown.err.splitlines() if text.startswith("fastest_ring: topology: "))
    assert yaml.safe_load(line.removeprefix("fastest_ring: topology: ")) == ring["topology"]


def test_a_run_says_what_is_not_given(capsys):
    run = {
        "task": {"name": "quadratic", "curvature": 1.0, "dimension": 25},
        "topology": {"name": "ring", "agents": 6},
        "strategy": "gradient_tracking",
        "network": {"name": "uniform", "latency": "1 ms", "bandwidth": "1 MB/s", "overlap": False},
        "steps": 1,
        "replicas": 1,
        "seed": 4,
        "analysis": [],
    }
    Path("run.yaml").write_text(json.dumps(run))
    assert main(["run", "run.yaml", "--out", "out", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["advise", "--run", "out"]) == 0
    shown = capsys.readouterr()
    assert "6 agents, 100 B, ranked by time to agreement" in shown.err
    assert "noise 0.0312 and heterogeneity 0 of out, 1 replica, measured at its end" in shown.err
    assert "agents send along all of their links at once" in shown.err
    (ring,) = [line for line in shown.out.splitlines() if line.startswith("│ ring ")]
    assert "2.2 ms" in ring and "latency 91%" in ring  # twice 1 ms and 100 bytes at 1 MB/s
    question, problem, measured = understood("--run", "out", "--noise", "3")
    assert (question.overlap, question.seed, question.size, question.network.agents) == (False, 4, None, 6)
    assert problem == Problem(noise=3.0, heterogeneity=0.0, accuracy=0.001)
    assert measured == "heterogeneity 0 of out, 1 replica, measured at its end"
    assert understood("--run", "out", "--by", "round")[2] == ""
    RunFolder(load_one("out")[1].path).checkpoint.unlink()
    _, problem, measured = understood("--run", "out")
    assert problem == Problem() and measured.startswith("noise 10 and heterogeneity 1 as usual, not that of out: ")


def understood(*words):
    options = make_parser().parse_args(["advise", *words])
    return question_of(options), *problem_of(options)


def test_options_are_understood():
    words = ["--agreement", "0.1", "--noise", "2", "--accuracy", "0.01", "--max-degree", "2", "--strategy", "consensus"]
    question, problem, measured = understood(*THREE, "latency=1 ms,overlap=false", *words)
    assert (question.overlap, question.disagreement, question.most_neighbours) == (False, 0.1, 2)
    assert question.run["strategy"] == {"name": "consensus"} and question.size == 10**6
    assert question.network.latency.tolist() == [10**6] * 6 and question.law is None
    assert problem == Problem(noise=2.0, heterogeneity=1.0, accuracy=0.01) and measured == ""


THREE = ["--agents", "3", "--model-size", "1MB", "--network"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--agents", "3"], "--network: a value is needed, or a run that has one (--run)"),
        (["--network", "uniform", "--model-size", "1MB"], "--agents: a value is needed"),
        (["--agents", "3", "--network", "uniform"], "--model-size: a value is needed"),
        ([*THREE, "uniform", "--agents", "1"], "--agents: got 1; there must be at least 2"),
        ([*THREE, "uniform", "--model-size", "0 B"], "--model-size: got 0 B; a model has at least"),
        ([*THREE, "uniform", "--model-size", "100"], "--model-size: got '100'; a size"),
        ([*THREE, "uniform,latency=3"], "network: uniform: got 3"),
        ([*THREE, "edges"], "network: edges describes the links of one graph"),
        ([*THREE, "uniform,all_reduce=tree"], "network.all_reduce: it cannot"),
        ([*THREE, "uniform", "--compute", "mean=3 ms"], "compute.name: a mapping needs the key 'name'"),
        ([*THREE, "gaya"], "network: there is no network 'gaya'; allowed: astra, "),
        ([*THREE, "gaia,table=geant"], "network.table: gaia says it already; allowed is to leave it out"),
        ([*THREE, "none.csv"], "network: path is 'none.csv', which cannot be"),
        ([*THREE, "uniform", "--plot", "a.txt"], "--plot: a.txt is not the name"),
        ([*THREE, "uniform", "--strategy", "isolated"], "strategy: isolated sends along no graph"),
        ([*THREE, "uniform", "--strategy", "wait_free"], "strategy: agents of wait_free act at events, and advice"),
    ],
)
def test_mistakes_are_said_in_a_sentence(words, said, capsys, tmp_path):
    assert main(["advise", *words, "--write", "graphs"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and shown.out == "" and not [*tmp_path.iterdir()]


def test_components_in_a_word():
    inside = {"bandwidth": "1 GB/s", "latency": "1 us"}
    described = component_of("hierarchy,nodes=2,agents_per_node=2,inside={bandwidth: 1 GB/s, latency: 1 us}", "network")
    assert described == {"name": "hierarchy", "nodes": 2, "agents_per_node": 2, "inside": inside}
    assert component_of("{name: uniform, latency: 1 us}", "network") == {"name": "uniform", "latency": "1 us"}
    assert component_of("constant,mean=1 ms,factors=[1, 2]", "compute")["factors"] == [1, 2]
    assert network_of("latency=1 us,bandwidth=1 GB/s") == {"latency": "1 us", "bandwidth": "1 GB/s"}


def test_files_of_networks(tmp_path):
    files = {
        "a.gml": ("", "underlay"),
        "a.topo": ("", "simai"),
        "links.csv": ("# made by hand\nsender,receiver,latency,bandwidth\n", "links"),
        "sites.csv": ("name,latitude,longitude\n", "positions"),
        "delays.csv": (",a,b\n", "latencies"),
        "pods.yaml": ("topology: [Ring]\nnpus_count: [4]\nbandwidth: [1]\nlatency: [1]\n", "astra"),
    }
    for name, (text, kind) in files.items():
        (tmp_path / name).write_text(text)
        described = network_of(f"{name},hosts=[1, 0]")
        assert described == {"name": kind, "path": name, "hosts": [1, 0]}
    (tmp_path / "own.yml").write_text("name: uniform\nlatency: 3 ms\nbandwidth: 1 GB/s\n")
    assert network_of("own.yml,latency=1 ms") == {"name": "uniform", "latency": "1 ms", "bandwidth": "1 GB/s"}
