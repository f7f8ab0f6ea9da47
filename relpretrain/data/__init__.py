"""Shards, the mixture of streams, and the way of a sample to a typed batch."""
