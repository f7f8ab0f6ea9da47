"""Grad-CAM: maps of `texts`, `relations`, `contrast`, `embeddings` and `mrc`, of a layer that is `watched`.

`spans` knows which tokens are which words, `boxes` how maps and boxes go together.
"""
