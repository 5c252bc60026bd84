"""One row of what `doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken", "none"]


@dataclass(frozen=True)
class Finding:
    """state: `none` is what this machine does not have and does not miss. cure: what to type to get it, or more of it; "" for nothing."""

    what: str
    state: State
    found: str
    cure: str = ""
