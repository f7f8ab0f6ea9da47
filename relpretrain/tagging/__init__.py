"""Relations for images that have boxes and no graph: proposals, what scores them, calibration, and the commands.

`proposals` says which relations are asked of which pairs, and which answers are kept; `head` and `margin` answer;
`calibration` makes probabilities of scores, `held_out` measures them on graphs; `shards` reads samples; `label` and
`calibrate` are the commands of `relpretrain data`.
"""
