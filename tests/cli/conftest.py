"""Commands that are run in this process use one thread."""

from tiny_training import one_thread

__all__ = ["one_thread"]
