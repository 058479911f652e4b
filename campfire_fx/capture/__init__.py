"""Capture: a model and an example in, graphs over the model's own modules out."""

from campfire_fx.capture.entry import trace as trace
from campfire_fx.capture.example import example_for as example_for
from campfire_fx.capture.example import examples_for as examples_for
from campfire_fx.capture.given import model_of as model_of
from campfire_fx.capture.unfit import unfit as unfit
from campfire_fx.capture.variants import variant_of as variant_of
from campfire_fx.layers.refusals import is_refusal as is_refusal
