"""Where to compute: links, and what a cut costs over them. No jax."""
