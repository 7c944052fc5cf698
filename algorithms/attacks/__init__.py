"""Attacks: how Byzantine agents disturb the training of the honest ones.

An attacker follows the algorithm (it draws batches, adapts, combines), but sends honest agents the attack's message
instead of its own row, or trains on corrupted data. Attackers send each other their true rows, and know what an agent
receives from its honest neighbours. Optimizer state, where it is mixed too, is sent unchanged.
"""

from basinet.algorithms.attacks.alie import ALIE
from basinet.algorithms.attacks.attack import ATTACKS, Attack, Messages, NoAttack
from basinet.algorithms.attacks.dissensus import Dissensus
from basinet.algorithms.attacks.gaussian_noise import GaussianNoise
from basinet.algorithms.attacks.label_flip import LabelFlip
from basinet.algorithms.attacks.sign_flip import SignFlip

__all__ = ["ALIE", "ATTACKS", "Attack", "Dissensus", "GaussianNoise", "LabelFlip", "Messages", "NoAttack", "SignFlip"]

ATTACKS.fill(__name__)
