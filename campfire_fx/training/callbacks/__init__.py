"""Callbacks for trainers that own the loop; each file needs the package that it is named after.

`lightning.SparseTraining` needs the extra `lightning`, `transformers.SparseTraining` the extra `transformers`.
Accelerate needs no callback: `sparse.attach(optimizer)`, before or after `prepare`.
"""
