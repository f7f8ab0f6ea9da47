"""Do the relation objectives work? Many small models trained under control, and a page of what came out.

`design` says which runs there are, `recipe` what each trains; `runs`, `jobs` and `train` carry them out; `results` is
the table of what was measured, `measures` and `studies` say what is asked of it, `page` and `plots` show it. `command`
is what `python benchmarks/ablation.py` starts.
"""
