"""What a person looks at before and after training.

`doctor`: is the data sound? `audit`: is it in the benchmarks? `show`: what does training make of it? `run_report`: how
did a run go?
"""
