"""`relpretrain fit` and its like: our defaults, all mistakes of a recipe at once, going on with a run."""
