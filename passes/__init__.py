"""Verbs: one graph -> graph pass per file. `pipeline` has their order; reached only as `campfire_fx.passes`."""
