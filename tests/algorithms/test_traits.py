"""What strategies and optimizers say of themselves."""

import pytest
from torch import optim

from basinet.algorithms.optimizers import NSGD, OptimizerTraits
from basinet.algorithms.strategies import SAM, Centralized, Diffusion, StrategyTraits


class Plain:
    def step(self, block):
        pass


class Quiet(Centralized):
    pass


class Outspoken(Centralized):
    traits = StrategyTraits(averages=True, uses_graph=False)


@pytest.mark.parametrize(
    ("strategy", "traits"),
    [
        (Plain(), StrategyTraits()),
        (Diffusion(), StrategyTraits()),
        (Centralized(), StrategyTraits(averages=True, uses_graph=False)),
        # Whether code uses the graph, its parent's author cannot know.
        (Quiet(), StrategyTraits(averages=True)),
        (Outspoken(), StrategyTraits(averages=True, uses_graph=False)),
        (SAM(), StrategyTraits(own_points=True)),
        (SAM(network="centralized"), StrategyTraits(own_points=True, averages=True, uses_graph=False)),
    ],
)
def test_strategies_have_traits(strategy, traits):
    assert StrategyTraits.of(strategy) == traits


class OwnSGD(optim.SGD):
    pass


class OwnNSGD(NSGD):
    pass


@pytest.mark.parametrize(
    ("maker", "traits"),
    [
        (optim.SGD, OptimizerTraits(elementwise=True)),
        (optim.LBFGS, OptimizerTraits()),
        (OwnSGD, OptimizerTraits()),
        (lambda params: optim.SGD(params), OptimizerTraits()),
        (OwnNSGD, OptimizerTraits(stacked="flat", tuning="nsgd")),
    ],
)
def test_optimizers_have_traits(maker, traits):
    assert OptimizerTraits.of(maker) == traits


@pytest.mark.parametrize(
    ("kind", "said", "error", "sentence"),
    [
        (StrategyTraits, {"statik": True}, TypeError, "unexpected keyword argument 'statik'"),
        (StrategyTraits, {"weights": "colums"}, ValueError, "weights must be one of rows, columns, both, got 'colums'"),
        (OptimizerTraits, {"derivative_fre": True}, TypeError, "unexpected keyword argument 'derivative_fre'"),
        (OptimizerTraits, {"stacked": "layer"}, ValueError, "stacked must be 'layers', 'flat' or None, got 'layer'"),
        (OptimizerTraits, {"stacked": "flat", "elementwise": True}, ValueError, "elementwise is for a class that is"),
        (OptimizerTraits, {"evaluates": True}, ValueError, "to evaluate or draw by itself it has to say stacked"),
        (OptimizerTraits, {"keyed": True}, ValueError, "to evaluate or draw by itself it has to say stacked"),
        (OptimizerTraits, {"stacked": "flat", "named": True}, ValueError, "named is for stacked='layers'"),
        (OptimizerTraits, {"stacked": "flat", "derivative_free": True}, ValueError, "says evaluates=True"),
    ],
)
def test_traits_that_cannot_be_are_refused(kind, said, error, sentence):
    with pytest.raises(error, match=sentence):
        kind(**said)
