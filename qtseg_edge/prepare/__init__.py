"""Raw downloads of published data sets into `{split}/{images,masks}` with a manifest, folds as published."""

from qtseg_edge.prepare.build import Prepared, prepare
from qtseg_edge.prepare.datasets import DATASETS

__all__ = ["DATASETS", "Prepared", "prepare"]
