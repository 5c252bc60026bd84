from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.board.reading import BoardReading
from qtseg_edge.board.throttle_log import HOLD_SECONDS, ThrottleLog


def look(*reasons: str) -> BoardReading:
    return BoardReading({"cpu": 80.0, "tj": 99.51}, 24.0, "board", reasons)


def test_one_line_when_it_begins_and_one_when_it_is_over() -> None:
    log = ThrottleLog()
    assert log.update(look(), 0) is None
    begun = log.update(look("gpu over temperature"), 2)
    assert begun is not None and begun.startswith(
        "throttled (gpu over temperature, tj 99.5 °C): slower than its power mode allows; improve"
    )
    assert log.update(look("gpu over temperature", "cpu over temperature"), 4) is None
    assert (log.now, log.seconds()) == (("gpu over temperature", "cpu over temperature"), 2)
    assert log.update(look(), 13.9) is None and log.now
    assert log.update(look(), 14) == "no longer throttled, after 2 s"
    assert (log.now, log.seen, log.seconds()) == ((), ("gpu over temperature", "cpu over temperature"), 2)


def test_bursts_are_one_episode() -> None:
    log = ThrottleLog()
    lines = [log.update(look("instantaneous over-current") if second % 6 == 0 else look(), second) for second in range(0, 60, 2)]
    assert [line for line in lines if line] == lines[:1]
    assert log.seconds() == 54


def test_where_nothing_tells_nothing_is_said() -> None:
    log = ThrottleLog()
    assert log.update(BoardReading({}, None, "board", None), 1) is None and log.seen == ()


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 30)), max_size=40))
def test_lines_alternate_and_the_time_never_shrinks(looks: list[tuple[bool, float]]) -> None:
    log, now, total = ThrottleLog(), 0.0, 0.0
    lines = []
    for is_throttled, seconds in looks:
        now += seconds
        line = log.update(look("heat") if is_throttled else look(), now)
        lines += [line] if line else []
        assert log.seconds() >= total and log.seconds() <= now
        total = log.seconds()
        assert bool(log.now) == (len(lines) % 2 == 1)
    assert all(line.startswith("throttled" if index % 2 == 0 else "no longer") for index, line in enumerate(lines))
    assert HOLD_SECONDS > 0 and (log.seen == ()) == (not lines)
