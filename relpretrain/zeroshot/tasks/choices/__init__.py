"""A choice among several texts of an image, or images of a text: VL-CheckList, CREPE, NegBench, SPEC and others."""
