"""The training command: data, networks, recipes, the loop, and the main job that puts them together."""
