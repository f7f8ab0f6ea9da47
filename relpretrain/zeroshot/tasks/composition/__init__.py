"""Benchmarks of composition: VALSE, SVO-Probes, Winoground, ARO, SugarCrepe and SugarCrepe++."""
