"""Do the relation objectives work? `python benchmarks/ablation.py --preset cpu --out runs/ablation_cpu`.

The same as `python -m relpretrain.evidence.main`; `--help` lists the options, docs/evidence.md is what it writes.
"""

import sys

from relpretrain.evidence.main import main

if __name__ == "__main__":
    sys.exit(main())
