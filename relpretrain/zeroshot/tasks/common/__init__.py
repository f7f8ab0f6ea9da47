"""What all tasks share: reading items and images, choosing among texts, and the card of a benchmark."""
