"""Zero-shot benchmarks: what a model knows without having been trained for it."""
