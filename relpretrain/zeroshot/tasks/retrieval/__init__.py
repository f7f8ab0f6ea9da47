"""Retrieval of images and texts: COCO, Flickr30K, Stanford Paragraphs."""
