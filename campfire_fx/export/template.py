"""The fixed parts of a generated model file."""

from __future__ import annotations

MARK = "# Written by campfire_fx.export"
"""How every generated file begins; a file that begins otherwise is never overwritten."""

WHOLE_HEADER = (
    MARK
    + '''. It needs only torch.
"""{title}: {parameters} parameters, inference only.

`load()` returns the model with the weights from the .safetensors or .pt file beside this one.
The names in its state_dict are those of the model it was exported from.
Example input: {inputs}.
"""
'''
)

PARTS_HEADER = (
    MARK
    + '''. It needs only torch, and the code of the model that it holds parts of.
"""Parts of {title}: {parameters} parameters in all, inference only.

`load(model)` puts them into a model that its own code has built, with the weights from the
.safetensors or .pt file beside this one. The names in its state_dict are those of the model it
was exported from. Example input: {inputs}.
"""
'''
)

WHOLE_SUMMARY = "Return the model with its weights, on the CPU and in eval mode."
PARTS_SUMMARY = "Put the parts into a model that its own code has built, and its weights; return it in eval mode."

LAYERS = '''class Layers(nn.Module):
    """Keeps the layers, parameters and buffers it is given as attributes."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
'''

LOADER = '''def load({given}path=None):
    """{summary}

    `path` is a .safetensors, .pt or .pth file; without it, the one beside this file with the same name.
    """
    if path is None:
        files = [Path(__file__).with_suffix(end) for end in (".safetensors", ".pt", ".pth")]
        path = next((file for file in files if file.exists()), files[0])
    check_seal(path)
    if Path(path).suffix == ".safetensors":
        weights = read_safetensors(path)
    else:
        with open(path, "rb") as file:
            weights = torch.load(file, map_location="cpu", weights_only=True)
{make}
    model.load_state_dict(weights)
    return model.eval()


def check_seal(path):
    """Raise a ValueError if the file is spoilt: its seal holds the SHA-256 of all its other bytes."""
    data = memoryview(Path(path).read_bytes())
    for start in (0, max(0, len(data) - 1024)):
        text = rb"campfire_fx seal: code [0-9a-f-]{{64}} sha256 ([0-9a-f]{{64}})"
        if seal := re.search(text, data[start : start + 1024]):
            at = start + seal.start(1)
            digest = hashlib.sha256(data[:at])
            digest.update(data[at + 64 :])
            if digest.hexdigest().encode() != seal[1]:
                raise ValueError(f"{{path}} is damaged: its checksum is wrong")
            return


def read_safetensors(path):
    """Return the tensors of a .safetensors file by name.

    The file holds the length of its header (8 bytes), the header (JSON), and the bytes of the tensors.
    """
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        raw = bytearray(file.read())
    data = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.tensor([], dtype=torch.uint8)
    tensors = {{}}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            values = data[start:end].view(DTYPES[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


DTYPES = {{
{dtypes}
}}
'''
