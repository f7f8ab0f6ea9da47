"""Command line of the generated world: `python -m relpretrain.data.synthetic --out DIR`."""

from jsonargparse import auto_cli

from relpretrain.data.synthetic import generate

if __name__ == "__main__":
    auto_cli(generate, as_positional=False)
