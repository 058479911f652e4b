"""How the help of the commands with many options is laid out: panels of options that belong together."""

from __future__ import annotations

from typing import Any

PANELS: dict[str, dict[str, str]] = {
    "train": {
        "Data": "data data_root download image_size resize augment held_out strict",
        "Network": "model option start_from weights freeze networks",
        "Sparsity": "regime sparsity target era override setting reconfigure residual",
        "Training": "recipe show_recipe epochs batch optimizer learning_rate drops warm_up momentum nesterov"
        " weight_decay precision distill seed",
        "Run": "config output resume overwrite checkpoint_every formats tracker quiet as_json",
        "Machine": "device workers threads",
    },
    "sweep": {
        "Settings that vary": "regime sparsity era_start era_length skip_late learning_rate drops seed random paper",
        "Every training": "data model epochs from_scratch threads",
        "Run": "jobs launcher launcher_option list_only yes output as_json",
    },
    "shrink": {
        "Model": "model option example trust",
        "What goes first": "target setting",
        "How it is shrunk": "residual round_to columns groups compensate fold_norms",
        "Result": "output prove as_json",
    },
    "inspect": {
        "Model": "example option",
        "What is shown": "depth groups latency form graph_file as_json",
        "Cost of a sparse method": "method sparsity dense_overhead",
    },
    "attack": {
        "Networks": "weights model option",
        "Attack": "epsilon space",
        "Images": "data data_root image_size split images mean std",
        "Result": "output as_json",
    },
    "bench": {
        "What is timed": "only model option",
        "Inputs": "batch size example",
        "How": "threads repeats",
        "Result": "csv as_json",
    },
}
"""Command -> panel -> its options, by the names of the function's parameters, in order."""


def lay_out(command: Any) -> None:
    """Put the options of a command into its panels, in their order; others come last, under "Options"."""
    panels = PANELS.get(command.name, {})
    order = [name for names in panels.values() for name in names.split()]
    for panel, names in panels.items():
        for param in command.params:
            if param.name in names.split():
                param.rich_help_panel = panel
    command.params.sort(key=lambda param: order.index(param.name) if param.name in order else len(order))
