"""`benchmarks` can be imported from wherever the tests are started."""

from pymodel.cli.run_bench import find_benchmarks

find_benchmarks()
