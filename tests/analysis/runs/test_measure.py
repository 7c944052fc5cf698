"""What is measured of a run: the right points, under the right samples, by whatever number of workers."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import basinet
from basinet.analysis.curvature.hessian import hessian_matrix
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.scales import split
from basinet.analysis.measures import MEASURES
from basinet.analysis.measures.measured import Effort
from basinet.analysis.measures.shapes import random_directions
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.context import AnalysisContext, lanczos_steps
from basinet.analysis.runs.measure_replica import measure_point, measure_replica
from basinet.sim.agents.state import load_vector, take_rows
from basinet.sim.evaluation import measuring
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS
from basinet.sim.tasks import supervised

KEYS = {
    "topology": {"name": "star", "agents": 3},
    "task": {"name": "digits", "train_size": 300, "partition": "dirichlet"},
}
EFFORT = Effort(lanczos_steps=(10, 30), probes=(4, 4))
SHARED = ["hessian_trace", "hessian_top_eigenvalue", "hessian_density", "adaptive_trace", "gauss_newton_trace"]
SHARED += ["noise_curvature", "noise_alignment", "fisher_top_eigenvalue", "m_sharpness"]
SHARED += ["consensus_sharpness", "disagreement_alignment", "agent_barriers", "relative_flatness"]
SHARED += ["implicit_regularization", {"name": "excess_risk", "products": 10}]


def trained(make_block, replica=1, steps=30, **keys):
    block = make_block(**(KEYS | keys))
    block.advance(steps)
    agents = block.setup.num_agents
    return block.setup, take_rows(block.state_dict(), slice(replica * agents, (replica + 1) * agents))


def by_point(rows):
    return {row.get("agent"): row for row in rows if "table" not in row}


def test_the_centroid_of_agents_that_agree_is_their_value(make_block):
    block = make_block(model={"name": "mlp", "hidden": [6], "norm": "batch"}, topology={"name": "star", "agents": 6})
    block.advance(7)
    block.state.parameters.copy_(block.x[0].expand_as(block.x).clone())
    state = take_rows(block.state_dict(), slice(6, 12))
    parameters, buffers = AnalysisContext(block.setup).centroid(state, 1)
    assert torch.equal(parameters[0], block.x[6])
    counters = [value for name, value in buffers.items() if name.endswith("num_batches_tracked")]
    assert counters and all(value == 7 and value.dtype == torch.int64 for value in counters)


@pytest.fixture(scope="module")
def everything(request):
    """Every measure of one replica, by a single worker."""
    return measured(0, 1, EFFORT, analysis=list(MEASURES), analysis_samples=60)


def shared_by(rank, workers):
    points = {"analysis_points": ["centroid", "agents"], "analysis_views": ["all", "own"]}
    return measured(rank, workers, EFFORT, analysis=SHARED, analysis_samples=40, **points)


def measured(rank, workers, effort, **keys):
    from basinet.sim.agents.block import Block
    from basinet.sim.agents.placement import Placement
    from basinet.sim.experiment.config import Config
    from basinet.sim.setup.build import build_setup

    description = {
        **KEYS,
        **keys,
        "model": {"name": "mlp", "hidden": [3], "norm": "batch"},
        "strategy": "diffusion",
        "batch_size": 8,
        "steps": 40,
        "replicas": 1,
        "runtime": {"dtype": "float64", "device": "cpu"},
    }
    setup = build_setup(Config.parse(description))
    block = Block(setup, Placement.split(1, 3), torch.device("cpu"))
    block.advance(40)
    return measure_replica(setup, block.state_dict(), 0, rank, workers, effort=effort)


def test_every_measure_that_can_be_named_is_measured(everything):
    found = by_point(everything)
    assert set(found) == {None, 0, 1, 2}
    names = {name for row in found.values() for name in row}
    tables = {row["table"] for row in everything if "table" in row}
    elsewhere = {
        "hessian_eigenvalues": "hessian_top_eigenvalue_5",
        "hessian_condition_number": "hessian_converged",  # an indefinite Hessian has none
        "hessian_layer_traces": "hessian_trace/0.weight",
        "agent_barriers": "barrier",
    }
    drawn = {"hessian_density": "density", "loss_slices": "slices", "loss_surface": "surface"}
    drawn["random_plane"] = "random_plane"
    layer = next(name for name in names if name.startswith("hessian_trace/"))
    elsewhere["hessian_layer_traces"] = layer
    for name in MEASURES:
        if name in drawn:
            assert drawn[name] in tables
        else:
            assert elsewhere.get(name, name) in names, name
    for row in everything:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    assert {"surface_agents", "random_plane_agents", "barriers"} <= tables


def test_layers_make_the_trace(everything):
    row = by_point(everything)[None]
    layers = [value for name, value in row.items() if name.startswith("hessian_trace/") and not name.endswith("error")]
    assert sum(layers) == pytest.approx(row["hessian_trace"], rel=1e-9)


def shared_by_two(store, rank):
    """Measure as one of two workers."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(shared_by(rank, 2), f"{store}.{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_share_the_sums_under_both_views(tmp_path, processes):
    store = tmp_path / "store"
    for rank in range(2):
        processes.start(shared_by_two, store, rank)
    everything = shared_by(0, 1)
    agent = by_point(everything)[0]
    views = {"hessian_trace", "hessian_trace_own", "hessian_trace_own_error", "hessian_trace_own_at_centroid"}
    assert views | {"test_accuracy", "barrier"} <= set(agent)
    assert {"density", "density_own", "density_own_at_centroid"} <= {row.get("table") for row in everything}
    statuses, said = processes.end()
    assert statuses == [0, 0], said
    for rank in range(2):
        found = torch.load(f"{store}.{rank}", weights_only=True)
        for alone, shared in zip(everything, found, strict=True):
            assert alone.keys() == shared.keys()
            for name, value in alone.items():
                if isinstance(value, float) and not name.endswith(("_error", "_gradient_norm")):
                    # A descent of hundreds of products enlarges what rounding does to its first ones.
                    rel = 1e-4 if name.startswith("excess_risk") else 1e-6
                    assert shared[name] == pytest.approx(value, rel=rel, abs=1e-8), name


def test_of_the_centroid_alone_no_agents_are_loaded(make_block, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        AnalysisContext, "agents", watched(AnalysisContext.agents, lambda *_, **__: loaded.append(True))
    )
    setup, state = trained(make_block, steps=1, analysis=["hessian_trace", "loss_slices", "stability_limit"])
    assert "hessian_trace" in by_point(measure_replica(setup, state, 1))[None]
    assert not loaded
    more = ["hessian_trace", "consensus_sharpness", "agent_barriers"]
    analysis = tuple(map(KINDS["analysis"].parse, more))
    setup = dataclasses.replace(setup, config=setup.config.model_copy(update={"analysis": analysis}))
    assert {"hessian_trace", "consensus_sharpness"} <= by_point(measure_replica(setup, state, 1))[None].keys()
    assert len(loaded) == 1


def test_each_point_and_view_has_its_own_hessian(make_block):
    setup, state = trained(
        make_block,
        analysis=["hessian_trace", "hessian_top_eigenvalue"],
        analysis_points=["centroid", "agents"],
        analysis_views=["all", "own"],
        model={"name": "mlp", "hidden": [2]},
    )
    found = by_point(measure_replica(setup, state, 1))
    context = AnalysisContext(setup)
    x, (center,) = context.agents(state, 0)[0], context.centroid(state, 0)[0]
    mine = [tuple(t[setup.holdings[1][k]] for t in setup.task.train) for k in range(3)]
    cases = [(None, "", center, setup.task.train)]
    for k in range(3):
        cases += [(k, "", x[k], setup.task.train), (k, "_own", x[k], mine[k])]
        cases += [(k, "_own_at_centroid", center, mine[k])]
    for agent, suffix, point, data in cases:
        model = load_vector(setup.template().double().eval(), point, {})
        exact = np.linalg.eigvalsh(hessian_matrix(model, setup.task.objective, data))
        row = found[agent]
        assert row[f"hessian_top_eigenvalue{suffix}"] == pytest.approx(exact[-1], rel=1e-5)
        assert abs(row[f"hessian_trace{suffix}"] - exact.sum()) < 5 * row[f"hessian_trace{suffix}_error"]


def test_equal_points_have_equal_estimates(make_block):
    names = ["hessian_trace", "adaptive_trace", "average_sharpness", "noise_curvature", "hessian_top_eigenvalue"]
    setup, state = trained(make_block, steps=0, analysis=names, analysis_points=["centroid", "agents"])
    found = by_point(measure_replica(setup, state, 1))
    assert found[0]["hessian_trace_error"] > 1e-3 * found[0]["hessian_trace"]
    for agent in range(3):
        for name in names:
            assert found[agent][name] == pytest.approx(found[None][name], rel=1e-9), name
    other = by_point(measure_replica(setup, trained(make_block, replica=0, steps=0)[1], 0))
    assert other[0]["hessian_trace"] != found[0]["hessian_trace"]


def test_memory_divides_agents_and_samples_and_changes_nothing_else(make_block):
    keys = {"analysis": ["hessian_top_eigenvalue", "gauss_newton_top_eigenvalue"], "analysis_points": ["agents"]}
    keys["task"] = {"name": "digits", "partition": "dirichlet"}  # all of them, which need more memory
    (setup, state), (small, _) = (trained(make_block, **keys, analysis_memory=memory) for memory in (1024, 1))
    assert AnalysisContext(small).group(setup.task.num_outputs * 1000) == 1
    assert not AnalysisContext(small).objective(3).samples.is_one_chunk
    assert AnalysisContext(setup).objective(3).samples.is_one_chunk
    for one, other in zip(measure_replica(setup, state, 1), measure_replica(small, state, 1), strict=True):
        for name in ("hessian_top_eigenvalue", "gauss_newton_top_eigenvalue"):
            assert other[name] == pytest.approx(one[name], rel=1e-5)


def test_memory_that_holds_no_krylov_basis_is_refused_before_anything_is_written(tmp_path):
    keys = {"task": "digits", "model": {"name": "mlp", "hidden": [200, 200]}, "strategy": "diffusion", "steps": 1}
    with pytest.raises(ExperimentError, match="1 MiB hold 0 Lanczos steps of 55,210 parameters; give 13 for 10, 130"):
        basinet.run(topology={"name": "ring", "agents": 3}, analysis_memory=1, out=tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()
    assert lanczos_steps(13, 55_210) == 10
    assert lanczos_steps(130, 55_210) == 100
    assert lanczos_steps(1, 3) == 100  # of which three will do


class Doubled(torch.nn.Linear):
    """Doubles its inputs, in place or not."""

    in_place = False

    def forward(self, x):
        return super().forward(x.mul_(2) if self.in_place else 2 * x)


class DoubledInPlace(Doubled):
    in_place = True


def test_a_model_that_writes_into_its_inputs_leaves_the_data(make_block):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept, found = x.clone(), []
    for kind in (Doubled, DoubledInPlace):
        torch.manual_seed(0)
        setup, state = trained(
            make_block,
            task=(x, (x[:, 0] > 0).long()),
            model=kind(3, 2),
            analysis=["hessian_trace", "noise_curvature", "m_sharpness", "tail_index"],
            analysis_views=["all", "own"],
            runtime={"dtype": "float64", "device": "cpu", "engine": "loop"},
        )
        found.append(measure_replica(setup, state, 1))
    assert torch.equal(x, kept)
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)


def test_a_fixed_subset_is_drawn_once_and_shared_among_its_holders(make_block):
    setup, _ = trained(make_block, steps=1, analysis_samples=100)
    context = AnalysisContext(setup)
    assert len(context.data[0]) == 100
    assert torch.equal(context.chosen, AnalysisContext(setup).chosen)
    held = context.holdings(0)
    assert sorted(torch.cat(held).tolist()) == list(range(100))  # a partition of all samples
    for agent, places in enumerate(held):
        assert set(context.chosen[places].tolist()) <= set(setup.holdings[0][agent].tolist())
    few, _ = trained(make_block, steps=1, analysis_samples=1)
    with pytest.raises(ExperimentError, match="holds none of the 1 samples"):
        AnalysisContext(few).holdings(0)


def test_training_mode_is_another_measure(make_block):
    names = ["hessian_trace", "tail_index", "stability_limit"]
    keys = {"model": {"name": "mlp", "hidden": [4], "norm": "batch"}, "analysis": names}
    (setup, state), (training, _) = (
        trained(make_block, **keys, analysis_mode=mode) for mode in ("evaluation", "training")
    )
    here = measure_replica(setup, state, 1)[0]["hessian_trace"]
    row = measure_replica(training, state, 1)[0]
    assert abs(here - row["hessian_trace_training"]) > 0.05 * abs(here)
    assert {"tail_index", "stability_limit"} <= row.keys()  # which know of no mode


def test_float32_agrees_to_its_rounding(make_block):
    (double, state), (single, _) = (
        trained(make_block, analysis=["hessian_top_eigenvalue", "hessian_trace"], analysis_dtype=dtype)
        for dtype in ("float64", "float32")
    )
    a, b = (measure_replica(setup, state, 1)[0] for setup in (double, single))
    for name in ("hessian_top_eigenvalue", "hessian_trace"):
        assert b[name] == pytest.approx(a[name], rel=1e-4)
        assert b[name] != a[name]


def test_one_snapshot_serves_all_measures_of_the_spectrum(make_block, monkeypatch):
    names = ["hessian_trace", "hessian_top_eigenvalue", "hessian_frobenius_norm", "hessian_density", "adaptive_trace"]
    names += ["hessian_layer_traces", "hessian_effective_rank", "noise_curvature", "noise_alignment", "loss_slices"]
    names += ["disagreement_alignment", "consensus_sharpness", "stability_limit", "agent_barriers", "loss_surface"]
    setup, state = trained(make_block, analysis=names)
    counts = []
    products = Curvature.products

    def counted(self, vectors):
        counts.append(len(vectors) if vectors.ndim == 3 else 1)
        return products(self, vectors)

    monkeypatch.setattr(Curvature, "products", counted)
    measure_replica(setup, state, 1)
    # 30 steps and 10 to 30 probes; 10 for the noise; one along each agent's disagreement.
    assert 40 <= sum(counts) - 10 - 3 <= 60


def test_a_snapshot_that_fails_is_tried_once(make_block, monkeypatch):
    names = ["hessian_trace", "noise_curvature", "disagreement_alignment", "loss_slices"]
    setup, state = trained(make_block, analysis=[*names, "fisher_trace", "agent_barriers"])
    tried = []

    def fail(*_, **__):
        tried.append(True)
        raise ValueError("there is no Hessian")

    monkeypatch.setattr("basinet.analysis.measures.measured.take_snapshot", fail)
    rows = measure_replica(setup, state, 1)
    assert {row["failed"] for row in rows if "failed" in row} == set(names) and len(tried) == 1
    rows = [row for row in rows if "failed" not in row]
    assert "fisher_trace" in by_point(rows)[None] and "barrier" in by_point(rows)[0]


def test_what_has_not_converged_says_so(make_block):
    setup, state = trained(make_block, analysis=["hessian_bottom_eigenvalue", "hessian_condition_number"])
    full = measure_replica(setup, state, 1)[0]
    assert full["hessian_converged"] == 1
    short = measure_replica(setup, state, 1, effort=Effort(lanczos_steps=(4, 4)))[0]
    assert short["hessian_converged"] == 0
    assert "hessian_condition_number" not in short
    assert short["hessian_bottom_eigenvalue"] > full["hessian_bottom_eigenvalue"]


def plane_of(setup, state, **changes):
    """The loss in the random plane and the agents there, by their places."""
    setup = dataclasses.replace(setup, config=setup.config.model_copy(update=changes))
    rows = measure_replica(setup, state, 1)
    losses = {(row["x"], row["y"]): row["loss"] for row in rows if row.get("table") == "random_plane"}
    return losses, [row for row in rows if row.get("table") == "random_plane_agents"]


def test_a_random_plane_has_the_norms_of_the_filters(make_block):
    setup, state = trained(make_block, analysis=["random_plane"])
    context = AnalysisContext(setup)
    center = context.network(state, 1).center
    axes = torch.cat(random_directions(center))
    point, shapes = center.hessian.points, center.hessian.objective.shapes
    for name, part in split(axes, shapes).items():
        own = split(point, shapes)[name][0]
        if own.ndim == 1:
            assert (part == 0).all(), name
        else:
            norms = own.flatten(1).norm(dim=1)
            for direction in part:
                np.testing.assert_allclose(direction.flatten(1).norm(dim=1), norms, rtol=1e-12)
    losses, agents = plane_of(setup, state)
    assert len(losses) == 21**2
    for x, y in ((-1.0, -1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        wanted = float(center.hessian.at(point + x * axes[:1] + y * axes[1:]).losses())
        assert losses[x, y] == pytest.approx(wanted, rel=1e-12)
    assert plane_of(setup, state)[0] == losses
    other = plane_of(setup, state, seed=setup.config.seed + 1)[0]
    assert other[0.0, 0.0] == losses[0.0, 0.0] and other[1.0, 1.0] != losses[1.0, 1.0]
    # The nearest point of the plane: what is left over is at right angles to it.
    deltas = context.agents(state, 1)[0] - point
    for row, delta in zip(agents, deltas, strict=True):
        rest = delta - row["x"] * axes[0] - row["y"] * axes[1]
        np.testing.assert_allclose(axes @ rest, 0, atol=1e-12)
        assert row["off_plane"] == pytest.approx(float(rest.norm()), rel=1e-12)


def test_a_random_plane_needs_filters(make_setup):
    with pytest.raises(ExperimentError, match="analysis: random_plane needs a layer with a weight matrix"):
        check_analysis(make_setup(task="quadratic", model=None, analysis=["random_plane"]))


def test_limits_of_stability(make_block):
    keys = {"analysis": ["stability_limit"], "topology": {"name": "ring", "agents": 4}, "schedule": "cosine"}
    block = make_block(optimizer={"name": "sgd", "lr": 0.2}, **keys)
    block.advance(30)
    (row,) = measure_replica(block.setup, take_rows(block.state_dict(), slice(0, 4)), 0)
    rate = 0.2 * block.setup.rate_factor(29)
    assert row["stability_limit"] == pytest.approx(2 / rate)
    # Metropolis weights of a ring are 1 / 3; the eigenvalues of W are 1, 1 / 3, 1 / 3, -1 / 3.
    assert row["consensus_stability_limit"] == pytest.approx((2 / 3) / rate)
    for other in (
        {"optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.9}},
        {"optimizer": {"name": "sgd", "lr": 0.2, "groups": [{"match": "*.bias", "lr": 0.1}]}},
        {"optimizer": {"name": "sgd", "lr": 0.2, "layer_decay": 0.5}},
        {"optimizer": {"name": "sgd", "lr": 0.2}, "clipping": {"norm": 1}},
        {"optimizer": {"name": "sgd", "lr": 0.2}, "schedule": "plateau"},
    ):
        block = make_block(**keys | other)
        assert measure_replica(block.setup, take_rows(block.state_dict(), slice(0, 4)), 0) == []


def test_the_quadratic_has_its_closed_forms(make_setup):
    setup = make_setup(task={"name": "quadratic", "curvature": [3.0, 1.0, 0.5]}, model=None)
    task = setup.task.to("cpu", torch.float64)
    names = ["hessian_eigenvalues", "hessian_condition_number", "hessian_effective_rank", "worst_sharpness"]
    names += ["average_sharpness", "pac_bayes_sigma", "excess_risk", "hessian_frobenius_norm"]
    model = load_vector(setup.template().double(), torch.ones(3, dtype=torch.float64), {})  # the minimum
    found = measure_point(model, task, names)
    assert [found[f"hessian_top_eigenvalue{end}"] for end in ("", "_2", "_3")] == pytest.approx([3, 1, 0.5])
    assert found["hessian_condition_number"] == pytest.approx(6)
    assert found["hessian_effective_rank"] == pytest.approx(4.5**2 / 10.25)
    assert found["hessian_frobenius_norm"] == pytest.approx(math.sqrt(10.25))
    assert found["worst_sharpness"] == pytest.approx(0.05**2 * 3 / 2, rel=1e-6)
    assert abs(found["average_sharpness"] - 0.01**2 * 4.5 / 2) < 4 * found["average_sharpness_error"]
    assert found["excess_risk"] == pytest.approx(0, abs=1e-12)


class Attending(nn.Module):
    """Drops out in a layer that is no dropout, and by a function, in whatever mode, too."""

    def __init__(self, dropout, always=0.0):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout, batch_first=True)
        self.head = nn.Linear(64, 10)
        self.always = always

    def forward(self, x):
        x = x.view(-1, 8, 8)
        x = nn.functional.dropout(self.attention(x, x, x)[0], self.always)
        return self.head(x.flatten(1))


def test_a_loss_is_found_random_without_changing_anything(make_setup):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    dropping, always = Attending(0.1), Attending(0.0, always=0.1)
    before = torch.get_rng_state()
    check_analysis(make_setup(model=model, analysis_mode="training"))
    check_analysis(make_setup(model=dropping, analysis=["average_sharpness"]))
    with pytest.raises(ExperimentError, match="random numbers"):
        check_analysis(make_setup(model=dropping, analysis_mode="training"))
    check_analysis(make_setup(model=always, analysis=[]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model[2].running_mean, torch.zeros(4)) and not model[2].num_batches_tracked


@pytest.mark.parametrize("memory", [1, 1024])
def test_agents_are_evaluated_in_portions_that_have_room(make_block, monkeypatch, memory):
    model = {"name": "mlp", "hidden": [256]}  # a pass keeps at least 64 + 256 + 10 numbers of 8 bytes a sample
    setup, state = trained(
        make_block,
        steps=3,
        analysis=["stability_limit"],
        analysis_points=["agents"],
        analysis_memory=memory,
        model=model,
    )
    sizes = []
    watching = watched(measuring.chunks, lambda data, size: sizes.append(min(size, len(data[0]))))
    monkeypatch.setattr(measuring, "chunks", watching)
    found = by_point(measure_replica(setup, state, 1))
    assert set(found) - {None} == {0, 1, 2}
    assert max(sizes) <= memory * 2**20 // 2 // (8 * 330)
    alone = load_vector(setup.template().double().eval(), state["rows"]["parameters"][1], {})
    assert found[1]["test_accuracy"] == pytest.approx(setup.task.evaluate(alone)["test_accuracy"], rel=1e-12)


def watched(function, see):
    def watching(self, *words, **more):
        see(*words, **more)
        return function(self, *words, **more)

    return watching


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"analysis": ["noise_curvature"], "task": "quadratic", "model": None}, "generates fresh"),
        ({"analysis_views": ["own"], "task": "quadratic", "model": None}, "generates fresh"),
        ({"analysis": ["relative_flatness"], "task": "quadratic", "model": None}, "weight matrix"),
        ({"analysis": ["m_sharpness"], "analysis_mode": "training"}, "leave out m_sharpness"),
        ({"analysis_mode": "training", "model": {"name": "mlp", "dropout": 0.1}}, "dropout"),
        ({"analysis_mode": "training", "model": Attending(0.1)}, "in training mode the loss draws random numbers"),
        ({"model": Attending(0.0, always=0.1)}, "in evaluation mode the loss draws random numbers"),
        ({"analysis": ["hessian_tracee"]}, "hessian_trace"),
        ({"analysis_memory": 0}, "analysis_memory"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_run(make_setup, keys, said):
    with pytest.raises(ExperimentError, match=said):
        check_analysis(make_setup(**keys))


def test_newton_decrement_of_a_quadratic_is_its_excess_risk(make_setup):
    setup = make_setup(task={"name": "quadratic", "minimum": 1.0}, model={"name": "point", "start": 3.0})
    found = measure_point(setup.template().double(), setup.task, ["excess_risk", "newton_decrement"])
    assert found["newton_decrement"] == pytest.approx(found["excess_risk"], rel=1e-9)


def in_float32(outputs, batch):
    return nn.functional.binary_cross_entropy_with_logits(outputs, batch[1].float(), reduction="none")


def in_float32_inside(outputs, batch):
    return nn.functional.binary_cross_entropy_with_logits(outputs.float(), batch[1].float(), reduction="none").double()


def in_float64(outputs, batch):
    return nn.functional.binary_cross_entropy_with_logits(outputs, batch[1].to(outputs.dtype), reduction="none")


def contrasted(outputs, batch):
    return in_float32(outputs - outputs.mean(0), batch)


@pytest.mark.parametrize(
    ("loss", "warned", "refused"),
    [(in_float32, True, False), (in_float32_inside, True, False), (in_float64, False, False), (contrasted, True, True)],
)
def test_the_precision_of_a_loss_is_not_taken_for_a_mixture_of_samples(make_setup, caplog, loss, warned, refused):
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    task = supervised((x, (x[:, :3] > 0).long()), loss=loss)
    measures = ["hessian_trace", "gauss_newton_trace", "fisher_trace", "gradient_noise_trace"]
    torch.manual_seed(0)
    for seed in range(3):
        setup = make_setup(task=task, model=nn.Linear(8, 3), seed=seed, analysis=measures)
        if refused:
            with pytest.raises(ExperimentError, match="summed up from parts"):
                check_analysis(setup)
        else:
            check_analysis(setup)
    assert ("lower precision than float64" in caplog.text) == warned


@pytest.mark.parametrize(
    ("loss", "dtype"), [(in_float32, torch.float32), (in_float32_inside, torch.float32), (in_float64, torch.float64)]
)
def test_an_objective_knows_its_precision(loss, dtype):
    x = torch.randn(6, 8, dtype=torch.float64)
    task = supervised((x, (x[:, :3] > 0).long()), loss=loss)
    objective = Objective(nn.Linear(8, 3).double(), task.objective, task.train)
    assert objective.eps == torch.finfo(dtype).eps
