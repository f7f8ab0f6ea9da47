"""Texts, boxes and graphs of others, as they are published, joined onto the samples of shards.

`rows` reads files of any size, `formats` says what each published format means, `joining` makes the new samples.
"""
