"""Robustness: attacks on classifiers, and how many images they still know under them."""

from campfire_fx.app.robustness.attack import TUTORIAL_EPSILONS as TUTORIAL_EPSILONS
from campfire_fx.app.robustness.attack import attack as attack
from campfire_fx.app.robustness.fgsm import fgsm as fgsm
from campfire_fx.app.robustness.normalisation import Normalisation as Normalisation
from campfire_fx.report.attack_record import AttackRecord as AttackRecord
from campfire_fx.report.attack_record import Curve as Curve
