"""What the runs say, a page for each preset's question, with plots."""
