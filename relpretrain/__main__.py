"""`python -m relpretrain` is `relpretrain`."""

import sys

from relpretrain.cli import main

sys.exit(main())
