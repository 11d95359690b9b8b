"""Split computing and early exiting in JAX and Flax."""
