"""What the steps of each strategy wait for, against the table derived by hand."""

import pytest
import torch
import yaml

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.edges import KINDS_OF_EDGES
from basinet.sim.clock.data_flow import Event, StepFlow
from basinet.sim.clock.rehearsed_flow import data_flow
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.setup.spending import rows_in_steps
from tests.stepped import STEPPED

P = 8 * 310
"""Bytes of the parameters of the small model below."""


def computes(*waits, share=1.0):
    return Event("compute", waits, share=share)


def sends(*waits, size=P, edges="graph"):
    return Event("exchange", waits, size, edges)


def sums(*waits, size=P):
    return Event("collective", waits, size, "server")


def step(*events, result):
    return StepFlow(events, tuple(result))


ATC = [step(computes((1, 1)), sends((0, 0)), result=[(1, 0)])]
CTA = [step(sends((1, 1)), computes((0, 0)), result=[(1, 0)])]
CONSENSUS = [step(computes((1, 1)), sends((0, 1), (1, 1)), result=[(0, 0), (1, 0)])]
CENTRALIZED = [step(computes((1, 1)), sums((0, 0)), result=[(1, 0)])]
TWICE = [step(computes((2, 1)), sends((0, 0)), sends((1, 0)), result=[(2, 0)])]
"""Tracking whose parameters depend on the mixed tracker."""
ALONE = step(computes(), result=[(0, 0)])
LATER = [step(computes((2, 1)), sends((0, 1), (1, 1)), sends((0, 0), (1, 0)), result=[(2, 0)])]
"""Tracking whose trackers are mixed as they were before this step's gradient."""
TWO_PASSES = step(computes((3, 1)), computes(), sends((1, 0)), sends((2, 0)), result=[(3, 0)])
SWEEP = 1437 / (4 * 5)
"""Batches of an agent's samples: the training samples of digits, over four agents."""

BY_HAND = {
    "consensus": CONSENSUS,
    "diffusion": ATC,
    "diffusion order=cta": CTA,
    "diffusion rounds=3": [
        step(computes((3, 1)), sends((0, 0)), sends((1, 0)), sends((2, 0)), result=[(3, 0)]),
    ],
    "centralized": CENTRALIZED,
    "isolated": [ALONE],
    "gradient_tracking": TWICE,
    "gradient_tracking order=aug_dgm": TWICE,
    "gradient_tracking order=dsgt": LATER,
    "gradient_tracking order=diging": [
        step(computes((1, 1)), sends((0, 1), (1, 1), size=2 * P), result=[(0, 0), (1, 0)]),
    ],
    "push_diging": [StepFlow((*LATER[0].events[:2], sends((0, 0), (1, 0), size=P + 8)), LATER[0].result)],
    "push_pull": [
        step(computes((2, 1)), sends((0, 1), (1, 1), edges="reverse"), sends((0, 0), (1, 0)), result=[(2, 0)]),
    ],
    "push_pull order=ab": [
        step(
            computes((1, 1), (2, 1)),
            sends((0, 1), (1, 1), (2, 1), edges="reverse"),
            sends((0, 1), (1, 1), (2, 1)),
            result=[(0, 0), (1, 0), (2, 0)],
        ),
    ],
    "push_sum": [step(computes((1, 1)), sends((0, 0), size=P + 8), result=[(1, 0)])],
    "exact_diffusion": ATC,
    "d2": ATC,
    "nids": ATC,
    "extra": [step(sends((0, 1), (1, 1)), computes((0, 1)), result=[(0, 0), (1, 0)])],
    "relay": ATC,  # the messages of the step before have been used in x
    "robust": ATC,
    "robust rule=median": ATC,
    "robust rule=krum": ATC,
    "robust rule=centered_clipping radius=1.0": ATC,
    "quasi_global_momentum": ATC,
    "decentlam": ATC,
    "sam": [step(computes((2, 1)), computes(), sends((1, 0)), result=[(2, 0)])],
    "sam network=centralized": [step(computes((2, 1)), computes(), sums((1, 0)), result=[(2, 0)])],
    "gt_hsgd": [TWO_PASSES],
    "gt_sarah period=2": [
        step(computes((3, 1), share=SWEEP), *TWICE[0].events[1:], result=[(2, 0)]),
        step(computes((2, 1)), *TWO_PASSES.events[1:], result=[(3, 0)]),
    ],
    "local_sgd period=3": [
        ALONE,
        step(computes(), sums((0, 0)), result=[(1, 0)]),
        step(computes((1, 1)), result=[(0, 0)]),
    ],
    "gossip_pga period=2": [ATC[0], CENTRALIZED[0]],
    "slowmo period=2": [ATC[0], CENTRALIZED[0]],
    "k_gt period=2": [
        step(computes(), sends((0, 0), size=2 * P), result=[(1, 0)]),
        step(computes((1, 1)), result=[(0, 0)]),
    ],
    "asynchronous activity=1": ATC,
    "choco": ATC,
    "deepsqueeze": ATC,
    "lead": ATC,
    "beer": CONSENSUS,
    # Its message is compressed against what others sent in the step before.
    "dcd": [step(computes((1, 2)), sends((1, 1), (0, 0)), result=[(1, 1), (0, 0)])],
    "powergossip rounds=2": [step(computes((3, 1)), sends((0, 0)), sends((1, 0)), sends((2, 0)), result=[(3, 0)])],
    "subspace_centralized": CENTRALIZED,
    "subspace_consensus": [
        *CONSENSUS,
        step(computes((1, 1)), sends((0, 1), (1, 1)), sums((0, 0), (1, 0)), result=[(2, 0)]),
        step(computes((2, 1)), sends((2, 1)), result=[(0, 0), (1, 0)]),
    ],
    "subspace_diffusion": [*ATC, CENTRALIZED[0], *ATC],
}
"""The cycle of steps, in some rotation."""

SHRUNK = ("choco", "deepsqueeze", "lead", "beer", "dcd", "powergossip", "subspace")
"""Strategies whose messages are smaller than the parameters."""


def small(make_setup, strategy, **keys):
    name = strategy if isinstance(strategy, str) else strategy.get("name") if isinstance(strategy, dict) else ""
    golore = {"name": "golore", "lr": 0.1, "rank": 2, "period": 3, "shared": True}
    base = {
        "model": {"name": "mlp", "hidden": [4]},
        "topology": {"name": "star", "agents": 4, "policy": "push" if name in ("push_sum", "push_diging") else "lazy"},
        "strategy": strategy,
        "optimizer": golore if name.startswith("subspace") else "sgd",
        "task": {"name": "digits", "partition": {"name": "iid"}},
        "replicas": 1,
    }
    return make_setup(trial=False, **base | keys)


def said(words):
    name, *settings = words.split()
    return {"name": name} | {key: yaml.safe_load(value) for key, value in (word.split("=") for word in settings)}


def without_sizes(flow):
    return [
        StepFlow(tuple(Event(e.kind, e.waits, 0, e.edges, e.share) for e in step.events), step.result) for step in flow
    ]


def test_the_table_has_every_strategy():
    assert {words.split()[0] for words in BY_HAND} == set(STEPPED)


@pytest.mark.parametrize("words", BY_HAND)
def test_steps_wait_for_what_the_equations_say(words, make_setup):
    setup = small(make_setup, said(words))
    flow = data_flow(setup)
    found, expected = list(flow.cycle), list(BY_HAND[words])
    rows, cycle = rows_in_steps(setup)
    for number in range(2 * cycle):  # the bytes are those that are counted in a run
        for kind in KINDS_OF_EDGES:
            assert sum(e.size for e in flow.at(number).events if e.edges == kind) == rows[number][kind]
    if words.startswith(SHRUNK):
        found, expected = without_sizes(found), without_sizes(expected)
        sizes = [e.size for s in flow.cycle for e in s.events if e.kind != "compute"]
        assert min(sizes) > 0 and max(sizes) < P
    times = len(found) // len(expected)
    assert found in [times * (expected[turn:] + expected[:turn]) for turn in range(len(expected))]


class Own:
    """Sends what it computed a step before, through a view and in place, and uses what it receives a step later."""

    def step(self, block):
        g = block.gradients()
        box = block.memory.setdefault("box", torch.zeros(len(g), 2, g.shape[1], dtype=g.dtype))
        heard = block.memory.get("heard")
        told = box[:, 0] + 0
        block.combine(told)
        box[:, 0].copy_(g)
        block.memory["heard"] = told
        block.adapt(g if heard is None else heard.clone())


class Decides(Own):
    """Sends the same whatever the gradient is, but only if that is small."""

    def step(self, block):
        zeros = torch.zeros_like(block.x)
        if float(block.gradients().abs().max()) < 1e9:
            block.combine(zeros)


class Restarts(Own):
    """Overwrites the mixed parameters with the gradient."""

    def step(self, block):
        g = block.gradients()
        block.combine(block.x)
        torch.mul(g, -1.0, out=block.x)


class Irregular(Own):
    """Communicates at squares."""

    traits = StrategyTraits()

    def step(self, block):
        block.adapt(block.gradients())
        if int((block.step + 1) ** 0.5) ** 2 == block.step + 1:
            block.combine(block.x)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # The parameters have used the messages of the step before and all earlier ones. Three steps back, the last of
        # these have gone into the gradient that was sent in the last.
        (Own, step(computes((1, 2)), sends((0, 1)), result=[(1, 3), (1, 2), (1, 1)])),
        (Decides, step(computes(), sends((0, 0)), result=[(0, 0)])),
        (Restarts, step(computes(), sends((0, 1)), result=[(0, 0)])),
    ],
)
def test_a_strategy_of_ones_own_is_followed(strategy, expected, make_setup):
    (found,) = set(data_flow(small(make_setup, strategy)).cycle)
    assert found == expected


def test_a_strategy_whose_steps_do_not_repeat_is_refused(make_setup):
    with pytest.raises(ExperimentError, match=r"^strategy: what .*Irregular waits for does not repeat from step to st"):
        data_flow(small(make_setup, Irregular))


def test_mixed_optimizer_state_travels_with_the_parameters(make_setup):
    keys = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "optimizer_state": "mix"}
    flow = data_flow(small(make_setup, "diffusion", **keys))
    assert flow.cycle == (step(computes((1, 1)), sends((0, 0), size=2 * P), result=[(1, 0)]),)


def test_passes_of_optimizers_that_evaluate_themselves_are_counted(make_setup):
    flow = data_flow(small(make_setup, "diffusion", optimizer={"name": "mezo", "lr": 1e-3}))
    assert flow.cycle == (step(computes((1, 1), share=2.0), sends((0, 0)), result=[(1, 0)]),)
