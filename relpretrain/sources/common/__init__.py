"""What all sources share: the annotation and its check, big files read piece by piece, odd values, what was dropped."""
