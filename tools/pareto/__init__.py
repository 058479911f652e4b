"""A Pareto front of accuracy over size: what tools/run_pareto.py trains, measures and draws."""
