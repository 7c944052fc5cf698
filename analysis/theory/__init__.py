"""Theory of agents at a minimum: excess risk, stability and exit times."""

from basinet.analysis.theory.mode_recursion import (
    Rule,
    disagreement_variance,
    excess_risk_after,
    first_order_excess_risk,
    network_factor,
    rule_of,
    stability_limit,
    steady_excess_risk,
)
from basinet.analysis.theory.parts import RiskParts
from basinet.analysis.theory.passage import (
    effective_potential,
    kramers_time,
    mean_passage_time,
    smoothed,
    well_probability,
)
from basinet.analysis.theory.probe import probe, probed_excess_risk, probed_stability_limit
from basinet.analysis.theory.recursion import Quadratics, Recursion

__all__ = [
    "Quadratics",
    "Recursion",
    "RiskParts",
    "Rule",
    "disagreement_variance",
    "effective_potential",
    "excess_risk_after",
    "first_order_excess_risk",
    "kramers_time",
    "mean_passage_time",
    "network_factor",
    "probe",
    "probed_excess_risk",
    "probed_stability_limit",
    "rule_of",
    "smoothed",
    "stability_limit",
    "steady_excess_risk",
    "well_probability",
]
