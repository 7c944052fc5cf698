"""Adapters: small trained additions to the layers of a model whose own parameters stay as they are."""

from basinet.sim.models.adapters.adapter import ADAPTERS, AdaptedLayer, Adapter, added_parameters, attach, merge

__all__ = ["ADAPTERS", "AdaptedLayer", "Adapter", "added_parameters", "attach", "merge"]

ADAPTERS.fill(__name__)
