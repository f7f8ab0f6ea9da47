"""What lets a run survive.

`finite` stops before NaN is learned, `checkpoint_io` writes whole files, `preemption` saves when the machine is taken
away, `peers` names the process that died.
"""
