"""`python -m pymodel`: the same as the command `pymodel`."""

import sys

from pymodel.cli import main

sys.exit(main())
