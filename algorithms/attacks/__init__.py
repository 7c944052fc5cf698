"""Attacks: what agents do that mean to spoil the training of the others, the honest ones.

An attacker takes part as told (it draws batches, adapts, combines), but lies: what it tells an honest agent is the
attack's message in the place of its own row, or its data are spoilt. Attackers tell each other the truth, and know what
the honest neighbours of an agent tell it. What an optimizer remembers, where it is mixed as well, is told truly.
"""

from basinet.algorithms.attacks.alie import ALIE
from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages, NoAttack
from basinet.algorithms.attacks.dissensus import Dissensus
from basinet.algorithms.attacks.gaussian_noise import GaussianNoise
from basinet.algorithms.attacks.label_flip import LabelFlip
from basinet.algorithms.attacks.sign_flip import SignFlip

__all__ = ["ALIE", "ATTACKS", "Attack", "Dissensus", "GaussianNoise", "LabelFlip", "Messages", "NoAttack", "SignFlip"]

ATTACKS.fill(__name__)
