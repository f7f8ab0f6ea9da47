"""Tar shards: finding them here or far away, reading any sample by its place, and writing them whole or not at all.

`find` resolves what a recipe names, `manifest` knows what each shard holds, `remote` and `cache` bring shards from
elsewhere, `opened` keeps those that are read, `row_index` knows where every sample of one lies, `writer` and
`resumable` write shards that survive a kill.
"""

from relpretrain.data.shards.find import named_manifests, resolve_shards
from relpretrain.data.shards.manifest import ShardEntry, check_against, manifests
from relpretrain.data.shards.remote import cache_folder, is_remote, local_copy
from relpretrain.data.shards.row_index import RawSample, ShardIndex
from relpretrain.data.shards.writer import IMAGE_EXTENSIONS, ShardWriter, write_atomically

__all__ = [
    "IMAGE_EXTENSIONS",
    "RawSample",
    "ShardEntry",
    "ShardIndex",
    "ShardWriter",
    "cache_folder",
    "check_against",
    "is_remote",
    "local_copy",
    "manifests",
    "named_manifests",
    "resolve_shards",
    "write_atomically",
]
