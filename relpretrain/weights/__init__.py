"""Weights from and for elsewhere: official checkpoints, and folders for the Hugging Face hub."""
