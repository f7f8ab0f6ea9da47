"""What was scored: score files, items one by one, versions of the data, comparisons of models, thresholds."""
