"""The command line."""

from pymodel.cli.main import main

__all__ = ["main"]
