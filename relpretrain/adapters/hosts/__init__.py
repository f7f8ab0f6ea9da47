"""Adapters from other codebases to the backbone protocol, one file each; `base` and `regions` are shared."""
