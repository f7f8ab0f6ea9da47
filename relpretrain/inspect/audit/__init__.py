"""`relpretrain data audit`: which training images are also in zero-shot benchmarks, by id and by perceptual hash."""
