"""`relpretrain data doctor`: every sample is read once as training would, judged, counted and reported."""
