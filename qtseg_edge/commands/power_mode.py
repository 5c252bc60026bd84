"""`--set-power-mode`, the only way in which this program changes the machine."""

from __future__ import annotations

from qtseg_edge.console import notice


def change_power_mode(wanted: str | None) -> None:
    """Says what it was before. Raises what `set_power_mode` does; nothing where it was not asked for."""
    from qtseg_edge.jetson.power_mode import set_power_mode

    if wanted is not None:
        notice(f"qtseg-edge: {set_power_mode(wanted).line}")
