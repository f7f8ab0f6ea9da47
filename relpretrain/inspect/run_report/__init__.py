"""The report of a training run: loss curves, tables, two runs side by side."""
