"""One look at the machine, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class BoardReading:
    """temperature_celsius: by zone, those that can be read now. watts: of `power_of`, such as "board" or "GPU"; None where nothing tells.
    throttled: why it runs slower than its power mode allows, now or since the look before: empty where it does not, None where nothing
    tells.
    """

    temperature_celsius: dict[str, float]
    watts: float | None
    power_of: str
    throttled: tuple[str, ...] | None

    @property
    def hottest(self) -> str:
        """Such as "tj 52.6 °C"; "" where no temperature is known."""
        if not self.temperature_celsius:
            return ""
        zone = max(self.temperature_celsius, key=self.temperature_celsius.__getitem__)
        return f"{zone} {self.temperature_celsius[zone]:.1f} °C"


class BoardReader(Protocol):
    """Used by one thread."""

    def read(self) -> BoardReading:
        """Milliseconds: some files of /sys. Never raises for a sensor that cannot be read: it is left out."""
        ...
