"""QTSeg from training to the edge. Importing this package loads no inference or training library."""

__version__ = "0.1.0"
