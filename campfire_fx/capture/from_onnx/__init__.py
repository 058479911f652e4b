"""An ONNX file as a PyTorch model, to be captured like any other.

`read.py` makes the model, whose `forward` (`interpret.py`) goes through the file's nodes. What a node does is its row
of a table: `layers.py` (with weights, as modules), `operators.py`, `movement.py`, `pooling.py`.

ONNX computes sizes with tensors of whole numbers. Here these are numpy arrays of Python's numbers (`values.py`), as
sizes of PyTorch are, so that capture sees what depends on the size of an image and leaves it free.
"""
