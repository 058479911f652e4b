"""Robustness: attacks on classifiers, and how many images they still know under them."""

from campfire_fx.robustness.attack import TUTORIAL_EPSILONS as TUTORIAL_EPSILONS
from campfire_fx.robustness.attack import attack as attack
from campfire_fx.robustness.fgsm import fgsm as fgsm
from campfire_fx.robustness.normalisation import Normalisation as Normalisation
from campfire_fx.robustness.record import AttackRecord as AttackRecord
from campfire_fx.robustness.record import Curve as Curve
