"""Making shards: annotations to shards (`convert`), shards to other shards (`pack`), in several processes.

`output` leads items to shards, `jobs` runs processes, `progress` shows how far they are.
"""
