"""The version of the package, and where it runs."""

import os
import sys
import warnings

__version__ = "0.1.0.dev0"

_OLDEST = (3, 10)


def check_platform() -> None:
    """Refuse a system or a Python that this package cannot run on, and warn of one that it is not tested on.

    Raises:
        ImportError: If files cannot be locked as POSIX systems do, or Python is too old.
    """
    if sys.version_info < _OLDEST:
        found, oldest = (".".join(map(str, version[:2])) for version in (sys.version_info, _OLDEST))
        raise ImportError(f"relpretrain needs Python {oldest} or newer, and this is {found}")
    if os.name != "posix":
        raise ImportError(f"relpretrain runs on Linux, and this is {sys.platform}: use WSL 2 there, or a container")
    if sys.platform != "linux":
        warnings.warn(f"relpretrain is tested on Linux alone, and this is {sys.platform}", stacklevel=3)
