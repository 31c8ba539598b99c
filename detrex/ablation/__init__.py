"""Ablations: grids of configs, the jobs that run them, and their tables."""
