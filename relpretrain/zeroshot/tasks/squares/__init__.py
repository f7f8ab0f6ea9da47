"""Two texts and two images that must be matched up: MMVP, ColorSwap, COLA, BiVLC, RocketScience, EqBen, VisMin."""
