"""A run's data in parts: `settings` judged, the `place` of a process, `building`, batches `served`, `position`."""
