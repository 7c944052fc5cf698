"""Strategies whose agents step together, and not at events of their own."""

from basinet.algorithms.strategies import STRATEGIES, EventDriven

STEPPED = [name for name in STRATEGIES if not isinstance(STRATEGIES[name](), EventDriven)]
