"""Clipping, accumulation, averages and loss scaling: against loops over agents written by hand in torch."""

import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from basinet.analysis.runs.context import AnalysisContext
from basinet.sim.agents.gradients import Clipping, LossScaling
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState, load_vector, measured_parameters, take_rows
from basinet.sim.agents.worker import Worker
from basinet.sim.engines import ENGINES
from basinet.sim.engines.divided import DividedEngine
from basinet.sim.engines.loop import LoopEngine
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.optimizer_groups import RATE_FACTOR, divide_parameters
from basinet.sim.experiment.training import ClippingPart
from basinet.sim.tasks import Task, supervised

ALONE = {"strategy": "isolated", "replicas": 1, "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9}}


def in_type(engine, **more):
    return {"dtype": "float64", "device": "cpu", "engine": engine, **more}


def workers_of(setup, count=1):
    placement = Placement.split(setup.config.replicas, setup.num_agents)
    return Worker(setup, placement, setup.config.runtime.engine)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize(("keys", "clip"), [
    ({"norm": 1.5}, lambda ps: nn.utils.clip_grad_norm_(ps, 1.5) > 1.5),
    ({"value": 0.4}, lambda ps: (max(float(p.grad.abs().max()) for p in ps) > 0.4,
                                  nn.utils.clip_grad_value_(ps, 0.4))[0]),
])  # fmt: skip
@pytest.mark.parametrize("accumulate", [None, 3])
def test_every_agents_gradient_is_clipped_as_by_torch(make_block, engine, keys, clip, accumulate):
    block = make_block(**ALONE, clipping=keys, accumulate=accumulate, runtime=in_type(engine))
    plain, clipped = [], 0
    for x in block.x:
        plain.append(load_vector(block.setup.model().double(), x.clone(), {}))
    optimizers = [torch.optim.SGD(p.parameters(), 0.5, momentum=0.9) for p in plain]
    for step in range(6):
        batch = block.oracle.batch(step)
        for n, (model, optimizer) in enumerate(zip(plain, optimizers, strict=True)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch[0][n]), batch[1][n]).backward()
            clipped += bool(clip(list(model.parameters())))
            optimizer.step()
        block.advance(step + 1)
        wanted = torch.stack([nn.utils.parameters_to_vector(p.parameters()) for p in plain])
        torch.testing.assert_close(block.x, wanted.detach(), rtol=1e-11, atol=1e-12)
    assert 0 < clipped < 24, clipped
    assert int(block.oracle.clipping.clipped.sum()) == clipped


def test_noise_is_clipped_and_the_share_counts_honest_agents(make_setup):
    setup = make_setup(
        strategy="diffusion", gradient_noise={"law": "student", "tail": 3, "size": 10}, clipping={"norm": 1e-3},
        attack={"name": "label_flip", "agents": [1]}, runtime=in_type("stacked"),
    )  # fmt: skip
    assert float(workers_of(setup).block.gradients().norm(dim=1).max()) < 1e-3
    worker = workers_of(setup)
    assert "clipped_share" not in worker.measure()[0][0]
    worker.advance(3)
    worker.block.oracle.clipping.clipped[:] = torch.tensor([3, 0, 0, 1, 3, 3, 3, 3])
    saved = worker.state()
    again = workers_of(setup)
    again.load(saved)
    for each in (worker, again):
        rows, _ = each.measure()
        assert [row["clipped_share"] for row in rows] == pytest.approx([4 / 9, 1.0])  # agent 1 of each is an attacker
        assert "clipped_share" not in each.measure()[0][0]  # there have been no gradients since


def test_infinite_gradients_are_clipped_as_by_torch():
    g = torch.tensor([[math.inf, 1.0], [3.0, 4.0]])
    p = nn.Parameter(torch.zeros(2))
    p.grad = g[0].clone()
    nn.utils.clip_grad_norm_([p], 1.0)
    Clipping(ClippingPart(norm=1.0), 2, torch.device("cpu")).clip(g)
    torch.testing.assert_close(g[0], p.grad, equal_nan=True)
    torch.testing.assert_close(g[1], torch.tensor([0.6, 0.8]))


def ragged():
    """Data of which half of the labels do not count, and none of some samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (40, 3), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.5] = -100
    targets[::4] = -100
    targets[:, 0][1::4] = 1
    return inputs, targets


class Weighted(Task):
    """Weights of samples, some of them 0, and far from adding up to one."""

    def weights(self, batch):
        return (batch[0][:, 0].abs() * 1e-3).where(batch[0][:, 1] > -0.5, 0)


class WholeBatch(Task):
    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch[1])


class ComparedInBatch(WholeBatch):
    least_batch = 3


NINE = {"train": (torch.randn(9, 4), torch.arange(9) % 3), "num_outputs": 3, "mean_over": "batch"}
COMPARED = {"task": ComparedInBatch(**NINE), "topology": {"name": "ring", "agents": 3}, "analysis": []}


MEZO = {"name": "mezo", "lr": 1e-2, "eps": 1e-2}


SGD = {"name": "sgd", "lr": 0.5}
A_NSGDC = {"name": "a_nsgdc", "lr": 0.1}


@pytest.mark.parametrize(
    ("engine", "optimizer", "kind"),
    [
        *((engine, SGD, kind) for engine in ENGINES for kind in ("samples", "labels", "weights")),
        ("stacked", A_NSGDC, "labels"),
        ("stacked", MEZO, "labels"),
    ],
)
def test_parts_of_a_batch_give_the_gradient_of_the_whole(make_block, engine, optimizer, kind):
    keys = {"optimizer": optimizer, "batch_size": 7, "runtime": in_type(engine)}
    if kind == "labels":
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        keys |= {"task": supervised(ragged()), "model": model}
    elif kind == "weights":
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(40, 4, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 3, (40,), generator=generator)
        keys |= {"task": Weighted(train=(inputs, targets), num_outputs=3)}
    whole, parts = (make_block(**keys, accumulate=count) for count in (None, 3))  # 3, 2 and 2 samples
    for step in range(1, 4):
        whole.advance(step)
        parts.advance(step)
        # The difference of two losses, divided by eps, has fewer digits.
        atol = 1e-10 if optimizer is MEZO else 1e-12
        torch.testing.assert_close(parts.x, whole.x, rtol=1e-11, atol=atol)


def test_full_gradients_come_in_parts_and_draws_differ_between_parts(make_block):
    keys = {"strategy": {"name": "gt_sarah", "period": 2}, "runtime": in_type("stacked")}
    whole, parts = (make_block(**keys, accumulate=count) for count in (None, 2))
    whole.advance(4)
    parts.advance(4)
    torch.testing.assert_close(parts.x, whole.x, rtol=1e-11, atol=1e-12)
    dropout = {"model": {"name": "mlp", "hidden": [6], "dropout": 0.5}, "accumulate": 5}
    loop, stacked = (make_block(**dropout, runtime=in_type(engine)) for engine in ("loop", "stacked"))
    loop.advance(3)
    stacked.advance(3)
    torch.testing.assert_close(stacked.x, loop.x, rtol=1e-11, atol=1e-12)


class Alone(nn.Linear):
    """Depends on the values of a sample that is alone in its batch."""

    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        y = super().forward(x.flatten(1))
        return y * float(y.detach().sum().sign()) if len(x) == 1 else y


@pytest.mark.parametrize("engine", ["stacked", "vectorized"])
def test_parts_and_rests_that_an_engine_cannot_run_are_left_to_the_loop(make_block, engine):
    keys = {"strategy": {"name": "gt_sarah", "period": 2}, "model": Alone, "batch_size": 3, "accumulate": 2}
    keys |= {"task": {"name": "digits", "train_size": 60}}
    found, wanted = (make_block(**keys, runtime=in_type(name)) for name in (engine, "loop"))
    found.advance(3)
    wanted.advance(3)
    torch.testing.assert_close(found.x, wanted.x, rtol=1e-11, atol=1e-12)


class Point(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.x = nn.Parameter(x)


@pytest.mark.parametrize(("averaging", "start", "every", "fn"), [
    ({"name": "ema", "decay": 0.8}, 0, 1, get_ema_multi_avg_fn(0.8)),
    ({"name": "swa", "start": 0.25, "every": 2}, 2, 2, None),
])  # fmt: skip
def test_averages_are_those_of_torch(make_setup, averaging, start, every, fn):
    worker = workers_of(make_setup(averaging=averaging, steps=8, runtime=in_type("stacked")))
    block, known = worker.block, None
    for step in range(8):
        if step == 5:  # through a checkpoint
            saved, fresh = worker.state(), workers_of(worker.setup)
            fresh.load(saved)
            worker, block = fresh, fresh.block
        block.advance(step + 1)
        if step >= start and (step - start) % every == 0:
            known = known or AveragedModel(Point(block.x.clone()), multi_avg_fn=fn)
            known.update_parameters(Point(block.x.clone()))
        wanted = block.x if known is None else known.module.x
        torch.testing.assert_close(block.measured, wanted.detach(), rtol=1e-12, atol=1e-14)
    assert torch.equal(measured_parameters(worker.state()), block.measured)


@pytest.mark.parametrize("evaluate", [True, False])
def test_evaluations_are_those_of_the_averages(make_setup, evaluate):
    keys = {"averaging": {"name": "ema", "decay": 0.9, "evaluate": evaluate}, "runtime": in_type("stacked")}
    worker, plain = workers_of(make_setup(**keys)), workers_of(make_setup(runtime=in_type("stacked")))
    for each in (worker, plain):
        each.advance(4)
    assert torch.equal(worker.block.x, plain.block.x)  # the steps are the same
    (row, _), (other, _) = worker.measure()[0], plain.measure()[0]
    assert (row["train_loss"] == other["train_loss"]) is not evaluate
    assert row["consensus_distance"] == other["consensus_distance"]
    x = (worker.block.averages.mean if evaluate else worker.block.x)[:4].mean(0)
    model = load_vector(worker.block.template, x, {}).eval()
    found, _ = AnalysisContext(worker.setup).centroid(take_rows(worker.state(), slice(0, 4)), 0)
    torch.testing.assert_close(found[0], x, rtol=1e-12, atol=1e-14)
    assert row["train_loss"] == pytest.approx(worker.block.task.evaluate(model)["train_loss"], rel=1e-12)


def test_scales_are_those_of_torch():
    ours = LossScaling(2, torch.device("cpu"))
    theirs = [torch.amp.GradScaler("cpu") for _ in range(2)]
    p = [nn.Parameter(torch.zeros(3)) for _ in range(2)]
    optimizers = [torch.optim.SGD([x], lr=1.0) for x in p]
    x = torch.zeros(2, 3)
    ours.steady.fill_(1996)
    for scaler in theirs:
        scaler.load_state_dict(scaler.state_dict() | {"_growth_tracker": 1996})
        scaler.scale(torch.zeros(()))
    for t in range(8):
        g = torch.full((2, 3), float(t))
        g[0, 1] = math.inf if t == 2 else 1.0
        g[1, 2] = math.nan if t in (5, 6) else 1.0
        for n, scaler in enumerate(theirs):
            p[n].grad = scaler.get_scale() * g[n]
            scaler.step(optimizers[n])
            scaler.update()
        scaled = ours.scale[:, None] * g
        ours.unscale(scaled)
        x -= scaled
        assert ours.overflowed.tolist() == [t == 2, t in (5, 6)]
        ours.update()
        assert ours.scale.tolist() == [scaler.get_scale() for scaler in theirs]
        torch.testing.assert_close(x, torch.stack([q.detach() for q in p]))


@pytest.mark.parametrize("kind", ["loop", "vectorized", "divided"])
def test_engines_scale_every_agents_loss_in_the_backward_pass(make_setup, kind):
    setup = make_setup()
    gradients, losses = [], []
    scale = torch.tensor([1.0, 2.0, 8.0, 0.5], dtype=torch.float64)
    batch = tuple(t[:12].view(4, 3, *t.shape[1:]) for t in setup.task.train)
    for asked in (None, scale):
        state = StackedState(setup.template().double(), 4, torch.device("cpu"), torch.float64)
        state.fill(slice(None), setup.start(0, setup.layout(setup.template())))
        state.loss_scale = asked
        parts = setup.template().double(), setup.task, state
        engine = DividedEngine(LoopEngine, *parts, 2, 1) if kind == "divided" else ENGINES[kind](*parts)
        losses.append(engine.gradients(batch, torch.arange(4)))
        gradients.append(state.gradients)
    assert torch.equal(*losses)
    torch.testing.assert_close(gradients[1], gradients[0] * scale[:, None], rtol=1e-13, atol=0)


@pytest.mark.parametrize("strategy", ["diffusion", "gradient_tracking"])
def test_half_precision_scales_every_agents_loss(make_block, strategy):
    blocks = [
        make_block(strategy=strategy, runtime={"device": "cpu", "engine": engine, "autocast": "float16"})
        for engine in ("loop", "vectorized")
    ]
    exact = make_block(strategy=strategy, runtime={"device": "cpu"})
    for block in (*blocks, exact):
        block.advance(5)
    for block in blocks:
        assert block.oracle.scaling.scale.tolist() == [2.0**16] * 8
        assert block.oracle.scaling.steady.tolist() == [5] * 8
        assert (block.x - exact.x).norm() < 1e-2 * exact.x.norm()  # half precision has 10 bits, and units have kinks
    block = blocks[0]
    before = block.x.clone()
    block.oracle.scaling.scale[3] = 2.0**60  # the gradient of this agent overflows
    block.adapt(block.gradients())
    assert block.oracle.scaling.overflowed.tolist() == [n == 3 for n in range(8)]
    assert [bool((block.x[n] == before[n]).all()) for n in range(8)] == [n == 3 for n in range(8)]
    state = block.state_dict()["rows"]
    assert state["loss_scale"][3] == 2.0**60


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clipping": {}}, "clipping: give either norm or value"),
        ({"clipping": {"norm": 1, "value": 1}}, "clipping: give either norm or value"),
        ({"clipping": {"norm": 0}}, "clipping.norm: got 0, which should be greater than 0"),
        ({"clipping": {"nrom": 1}}, "clipping.nrom: clipping has no key 'nrom'; allowed: norm, value; did you mean"),
        ({"clipping": {"norm": 1}, "optimizer": MEZO}, "clipping: mezo computes no gradients that could be clipped"),
        ({"clipping": {"norm": 1}, "strategy": "gt_sarah"}, "clipping: gt_sarah corrects gradients of batches by"),
        ({"accumulate": 6}, "accumulate: got 6, but a batch has 5 samples; allowed are at most as many parts"),
        (
            {
                "accumulate": 2,
                "task": WholeBatch(**NINE),
                "analysis": [],
            },
            "accumulate: WholeBatch.loss is one of a whole batch, and not the mean of its samples' losses",
        ),
        (
            COMPARED | {"batch_size": 2},
            "batch_size: got 2, but the loss of .* compares the samples of a batch; .* least 3",
        ),
        (COMPARED | {"evaluate_samples": 1}, "evaluate_samples: got 1, but the loss of .* compares the samples of a"),
        (
            COMPARED | {"analysis": ["hessian_trace"], "analysis_samples": 2},
            "analysis_samples: got 2, but the loss of .* compares the samples of a",
        ),
        (
            COMPARED | {"topology": {"name": "ring", "agents": 9}},
            "task.partition: iid gives agent 0 1 sample, but the loss of .* at least 3 for each agent",
        ),
        (
            COMPARED | {"strategy": "gt_sarah"},
            "strategy: gt_sarah needs gradients over all .* compares the samples of a",
        ),
        ({"accumulate": 0}, "accumulate: got 0, which should be greater than 0"),
        ({"averaging": "emma"}, "averaging: there is no averaging 'emma'; allowed: ema, swa; did you mean 'ema'"),
        ({"averaging": {"name": "swa", "strat": 1}}, "averaging.strat: swa has no setting 'strat'; .* mean 'start'"),
        ({"averaging": {"name": "ema", "decay": 1}}, "averaging.decay: got 1, which should be less than 1"),
        ({"averaging": {"name": lambda t: 2}}, "averaging: .* returns 2, where a number in .0, 1. or None is wanted"),
        ({"schedule": {"name": "plateau", "metric": "test_los"}}, "schedule: .*'test_los' is not measured; allowed: "),
        ({"stop_early": {"metric": "test_los"}}, "stop_early.metric: 'test_los' is not measured; .* 'test_loss'?"),
        ({"stop_early": {"patience": 0}}, "stop_early.patience: got 0"),
        (
            {"optimizer": {"name": "adam", "groups": [{"match": "*.bais", "lr": 1}]}},
            r"optimizer.groups: no parameter fits '\*.bais' of group 1; allowed: 1.weight, 1.bias",
        ),
        (
            {"optimizer": {"name": "adam", "groups": [{"match": "*", "lr": 1}, {"match": "*.bias"}]}},
            "optimizer.groups: group 2 is empty, since earlier ones match",
        ),
        (
            {"optimizer": {"name": "adam", "groups": [{"match": "*.bias", "wieght_decay": 1}]}},
            "optimizer.groups.wieght_decay: a group has no setting 'wieght_decay'; .* did you mean 'weight_decay'",
        ),
        (
            {"optimizer": {"name": "adam", "groups": [{"match": "*.bias", "lr": -1}]}},
            "optimizer.groups.lr: got -1, which should be greater than or equal to 0",
        ),
        (
            {"optimizer": {"name": "adam", "layer_decay": 1.5}},
            "optimizer.layer_decay: got 1.5, which should be less than or equal to 1",
        ),
        (
            {"optimizer": {"name": "adam", "groups": [{"match": "*", "layer_decay": 0.5}]}},
            "optimizer.groups.layer_decay: a group has no setting 'layer_decay'",
        ),
    ],
)
def test_mistakes_are_one_sentence(make_setup, keys, message):
    with pytest.raises(ExperimentError, match=f"^{message}"):
        make_setup(**keys)


@pytest.mark.parametrize("own", [{}, {"weight_decay": 0.1}, {"lr": 0.3, "momentum": 0.0}])
def test_each_layer_steps_at_the_rate_of_the_next_one_times_the_decay(make_block, own):
    settings = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "layer_decay": 0.25}
    if own:
        settings["groups"] = [{"match": "*.bias", **own}]
    block = make_block(model={"name": "mlp", "hidden": [6, 4]}, **(ALONE | {"optimizer": settings}), schedule="cosine")
    models = [load_vector(block.setup.model().double(), x.clone(), {}) for x in block.x]
    optimizers = []
    for model in models:
        groups = [
            {
                "params": [p],
                **(own if name.endswith("bias") else {}),
                "lr": (own.get("lr", 0.5) if name.endswith("bias") else 0.5)
                * {"1": 1 / 16, "3": 1 / 4, "5": 1}[name[0]],
            }
            for name, p in model.named_parameters()
        ]
        optimizers.append((torch.optim.SGD(groups, lr=0.5, momentum=0.9), [group["lr"] for group in groups]))
    for step in range(3):
        batch, factor = block.oracle.batch(step), block.setup.rate_factor(step)
        for n, (model, (optimizer, rates)) in enumerate(zip(models, optimizers, strict=True)):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch[0][n]), batch[1][n]).backward()
            optimizer.step()
        block.advance(step + 1)
        wanted = torch.stack([nn.utils.parameters_to_vector(model.parameters()) for model in models])
        torch.testing.assert_close(block.x, wanted.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        ("0.weight 0.bias 2.weight 2.bias", "aabb"),
        ("body.positions body.embed.weight body.stages.0.0.mlp.0.weight body.stages.0.0.mlp.2.bias", "abcc"),
        ("body.stages.0.1.weight body.stages.1.0.weight body.norm.weight head.0.weight head.3.weight", "abcde"),
        ("fc1.weight fc1.bias fc2.weight layer1.0.conv1.weight layer1.0.conv2.weight layer1.10.conv1.weight", "aabccd"),
        ("weight bias", "aa"),
    ],
)
def test_layers_are_told_by_the_first_numbers_of_names(names, layers):
    names = names.split()
    optimizer = {"name": "sgd", "lr": 1.0, "layer_decay": 0.5}
    config = Config.parse({"task": "digits", "topology": "ring", "strategy": "diffusion", "optimizer": optimizer})
    groups = divide_parameters(config.optimizer, {name: [name] for name in names})
    if len({*layers}) == 1:
        assert groups == []
        return
    found = {place: own for own, places in groups for place in places}
    last = max(layers)
    assert [found[place] for place in range(len(names))] == [
        {RATE_FACTOR: 0.5 ** (ord(last) - ord(layer))} for layer in layers
    ]


def test_copies_of_one_model_skip_a_step_together(make_block):
    runtime = {"dtype": "float32", "device": "cpu", "autocast": "float16"}
    block = make_block(strategy="centralized", runtime=runtime)
    before = block.x.detach().clone()
    block.oracle.scaling.scale[0] = 1e30  # the gradient of the first agent overflows
    block.advance(1)
    assert torch.equal(block.x[:4], before[:4])  # no agent of its replica has moved
    assert (block.x[4:] != before[4:]).any()
