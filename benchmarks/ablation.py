"""Do the relation objectives work? `python benchmarks/ablation.py --preset cpu --out runs/ablation_cpu`.

Starts the command of the folder beside it, from any directory; `--help` lists the options, docs/evidence.md is what it
writes. It takes pandas and scipy: `pip install -e ".[ablation]"`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # processes that it starts inherit this

try:
    from benchmarks.ablation.command import main
except ModuleNotFoundError as error:
    if error.name not in ("pandas", "scipy"):
        raise
    sys.exit(f"ablation: error: {error.name} is not installed: pip install -e '.[ablation]'")

if __name__ == "__main__":
    sys.exit(main())
