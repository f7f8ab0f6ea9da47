"""Commands and measurements that are run from a checkout; no part of the wheel."""
