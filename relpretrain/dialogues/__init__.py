"""Dialogues about what images share and where they differ, from their graphs and boxes, for trainers of large models.

A `scene` is an image with its graph; `semantic` compares two, `views` two views of one, `temporal` two frames of a
video, `single` asks about one alone. `conversation` makes the JSON of a trainer of their turns, and `make` writes it
with the images. Nothing is said that the annotation does not support.
"""
