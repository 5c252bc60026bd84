"""What is one lesion and what are two."""

from __future__ import annotations

import numpy as np

from qtseg_edge.sequences.lesions import LesionFollower
from tests.labelled import SIZE_HW, Bool, box


def followed(*labels: Bool) -> list[tuple[int, list[int]]]:
    """Number and frames of every lesion."""
    follower = LesionFollower(2)
    for index, label in enumerate(labels):
        follower.update(label.astype(np.uint8), index, index / 10)
    return [(lesion.number, lesion.indices) for lesion in follower.lesions]


NOTHING, HERE, THERE = box(0, 0, 0, 0), box(10, 10, 30, 30), box(40, 60, 60, 80)


def test_a_lesion_that_stays_is_one() -> None:
    assert followed(NOTHING, HERE, HERE, HERE) == [(1, [1, 2, 3])]


def test_one_that_moves_is_one_as_long_as_it_overlaps() -> None:
    assert followed(*(box(10, 10 + 5 * step, 30, 30 + 5 * step) for step in range(10))) == [(1, list(range(10)))]


def test_what_leaves_and_comes_back_is_two() -> None:
    assert followed(HERE, NOTHING, HERE) == [(1, [0]), (2, [2])]


def test_a_jump_is_another_lesion() -> None:
    assert followed(HERE, THERE) == [(1, [0]), (2, [1])]


def test_after_a_cut_a_small_one_in_the_place_of_a_large_one_is_another() -> None:
    large, small = box(5, 5, 60, 90), box(20, 20, 30, 30)
    assert followed(large, large, small, small) == [(1, [0, 1]), (2, [2, 3])]
    assert followed(small, large) == [(1, [0]), (2, [1])]


def test_two_at_once_are_two_and_numbered_as_they_come_the_larger_first() -> None:
    assert followed(THERE, THERE | box(0, 0, 30, 30)) == [(1, [0, 1]), (2, [1])]
    assert followed(box(40, 60, 50, 70) | HERE) == [(1, [0]), (2, [0])]


def test_one_that_an_instrument_cuts_in_parts_is_one() -> None:
    parts = HERE & ~box(0, 18, 64, 20) & ~box(26, 0, 28, 96)
    assert followed(HERE, parts, parts, HERE) == [(1, [0, 1, 2, 3])]


def test_a_part_that_comes_into_view_beside_it_is_another() -> None:
    assert followed(HERE, HERE | box(10, 31, 30, 40)) == [(1, [0, 1]), (2, [1])]


def test_two_that_grow_together_go_on_as_the_one_they_share_most_with() -> None:
    left, right = box(10, 10, 30, 30), box(10, 35, 30, 45)
    assert followed(left | right, box(10, 10, 30, 45)) == [(1, [0, 1]), (2, [0])]


def test_classes_do_not_link() -> None:
    follower = LesionFollower(3)
    for index in range(2):
        follower.update((HERE * (index + 1)).astype(np.uint8), index, 0.0)
    assert [(lesion.class_index, lesion.indices) for lesion in follower.lesions] == [(1, [0]), (2, [1])]


def test_it_says_where_each_lesion_is() -> None:
    follower = LesionFollower(2)
    parts = HERE & ~box(0, 18, 64, 20)
    follower.update(HERE.astype(np.uint8), 0, 0.0)
    places = follower.update((parts | THERE).astype(np.uint8), 1, 0.5)
    assert {lesion.number: (shape.box, shape.area) for lesion, shape in places.items()} == {
        1: ((10, 10, 20, 20), 360),
        2: ((60, 40, 20, 20), 400),
    }
    assert {lesion.number: lesion.times for lesion in places} == {1: [0.0, 0.5], 2: [0.5]}
    assert follower.update(np.zeros(SIZE_HW, np.uint8), 2, 1.0) == {}
