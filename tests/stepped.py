"""Strategies whose agents step together, and not at events of their own."""

from basinet.algorithms.strategies import STRATEGIES, StrategyTraits

STEPPED = [name for name in STRATEGIES if not StrategyTraits.of(STRATEGIES[name]()).events]
