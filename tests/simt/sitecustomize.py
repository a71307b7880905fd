"""Python runs this at its start when this folder's copy lies on PYTHONPATH (`make sanitize`).

An editable installation finds its package before PYTHONPATH is searched; without its finder, the
package of the sanitized build beside this file is the one that is imported.
"""

import sys

sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
