"""QTSeg from training to the edge. Importing this package loads no inference or training library."""

import time

__version__ = "0.1.0"
IMPORTED_AT = time.perf_counter()  # from where a run counts how long its first result took
