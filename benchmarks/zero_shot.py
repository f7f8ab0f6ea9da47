"""Zero-shot benchmarks from the command line; the same as `relpretrain zeroshot`.

python benchmarks/zero_shot.py --checkpoint last.ckpt --tasks vsr valse --data DIR --out DIR
python benchmarks/zero_shot.py --scores FILE --tasks valse --data DIR
"""

import sys

from relpretrain.zeroshot.command import main

if __name__ == "__main__":
    sys.exit(main(program="zero_shot.py"))
