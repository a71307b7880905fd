"""Commands that are run in this process use one thread; `benchmarks` can be imported from anywhere."""

from tiny_training import one_thread

from pymodel.cli.run_bench import find_benchmarks

__all__ = ["one_thread"]

find_benchmarks()
