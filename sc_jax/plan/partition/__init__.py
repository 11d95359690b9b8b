"""Planners: of a profile and a link, where each stage runs. NumPy, no jax."""
