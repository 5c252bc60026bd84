"""Ctrl-C and SIGTERM, for commands that have files to finalise or to take away."""

from __future__ import annotations

import signal


def interrupt_once() -> None:
    """The first Ctrl-C or SIGTERM ends the command. Further ones are ignored: they would cut short what it does with its files."""
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)
