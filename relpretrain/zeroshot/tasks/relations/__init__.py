"""Benchmarks of relations: VSR, What'sUp, relation classification on scene graphs."""
