"""What is reported of a sequence, against what can be told by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.data import read_binary_mask
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.runtime import Segmenter, open_backend
from qtseg_edge.runtime.sources import open_source
from qtseg_edge.runtime.temporal.tracker import CONFIRM, WINDOW
from qtseg_edge.sequences.evaluation import evaluate_sequence
from qtseg_edge.sequences.labelled import LabelledSequence
from qtseg_edge.sequences.measures import Measures, Span, mean, measures, pooled
from tests.labelled import FOUR, SIZE_HW, Answers, Levels, as_mask, box, fake, red_by_class, split_of
from tests.media import write_video
from tests.sequences.scenes import ALARM, FLASH, LESION, OTHER, Scene, story

SAMPLES = Path(__file__).parents[2] / "samples"


def both(scene: Scene, folder: Path, fps: float = 10) -> tuple[Measures, Measures]:
    """Without and with the filter."""
    evaluation = scene.evaluated(folder, fps)
    return measures(evaluation, "without filter"), measures(evaluation, "with filter")


def spans(*of: tuple[float, int]) -> tuple[Span, ...]:
    return tuple(Span(pytest.approx(seconds), frames) for seconds, frames in of)


def test_every_number_of_a_story_without_the_filter(tmp_path: Path) -> None:
    found, _ = both(story(), tmp_path)
    assert found == Measures(
        seconds=pytest.approx(3.0),
        lesions=2,
        to_detection=spans((0.2, 2)),  # there from frame 5, hit from frame 7
        lesion_frames=10 + 6,
        hit_frames=7,
        pairs=7,  # of the eight frames 7 to 14
        flips=2,  # away in frame 11 and back
        events=5,
        false_events=spans((0.1, 1), (0.1, 1), (0.1, 1), (0.5, 5)),
        mask_changes=pytest.approx((0, 1, 0, 0, 0, 1, 1, 0.2, 0, 0, 0, 1, 0, 0)),  # frames 6 to 14 and 25 to 29; at 13 a flash goes
        label_changes=(0.0,) * 14,
        dices=pytest.approx((0, 0, 1, 1, 1, 1, 0, 800 / 900, 1, 1, *[0] * 6)),
        touched_frames=7,
        empty_frames=14,
        marked_empty_frames=4,  # 2, 20, 22 and 23
    )
    assert found.false_events_per_minute == pytest.approx(60 * 4 / 3)


def test_every_number_of_the_same_story_with_the_filter(tmp_path: Path) -> None:
    _, found = both(story(), tmp_path)
    assert found == Measures(
        seconds=pytest.approx(3.0),
        lesions=2,
        to_detection=spans((0.4, 4)),  # two frames later
        lesion_frames=16,
        hit_frames=5,
        pairs=5,
        flips=2,
        events=2,
        false_events=spans((0.3, 3)),
        mask_changes=pytest.approx((0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0)),
        label_changes=(0.0,) * 14,
        dices=pytest.approx((0, 0, 0, 0, 1, 1, 0, 1, 1, 1, *[0] * 6)),
        touched_frames=5,
        empty_frames=14,
        marked_empty_frames=0,
    )
    assert found.false_events_per_minute == pytest.approx(20)


def test_the_network_is_asked_once_for_both(tmp_path: Path) -> None:
    backend = Answers(box(*LESION))
    evaluation = Scene(8).label(LESION, *range(8)).evaluated(tmp_path, backend=backend)
    assert backend.calls == 8
    assert [len(shown.hits[1]) for shown in evaluation.shown.values()] == [8, 8 - (CONFIRM - 1)]


def test_every_frame_is_told_as_it_is_done(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    sequence = LabelledSequence(*Scene(4).write(tmp_path), 10)
    evaluate_sequence(fake(), sequence, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_without_a_lesion_and_without_a_mark_there_is_nothing_to_divide(tmp_path: Path) -> None:
    for found in both(Scene(5), tmp_path):
        assert (found.lesions, found.events, found.to_detection, found.false_events, found.dices) == (0, 0, (), (), ())
        assert (found.pairs, found.empty_frames, found.marked_empty_frames) == (0, 5, 0)
        assert found.false_events_per_minute == 0
        assert np.isnan(mean(found.mask_changes))


def test_a_single_frame_lasts_as_long_as_one(tmp_path: Path) -> None:
    found, filtered = both(Scene(1).see(FLASH, 0), tmp_path, fps=4)
    assert found.seconds == filtered.seconds == 0.25
    assert found.false_events == (Span(0.25, 1),)
    assert (found.false_events_per_minute, filtered.false_events_per_minute) == (240, 0)


def test_a_video_of_unequal_frame_times_is_measured_in_its_own_time(tmp_path: Path) -> None:
    scene = Scene(8).label(LESION, 2, 3, 4, 5, 6).see(LESION, 4, 5, 6).see(FLASH, 0)
    times = [0, 1, 2, 10, 30, 31, 32, 40]  # tenths of a second
    video = write_video(
        tmp_path / "a.mkv", scene.rgb(), codec="ffv1", pix_fmt="bgr0", rate=10, times=times, time_base=Fraction(1, 10), options={}
    )
    evaluation = evaluate_sequence(fake(), LabelledSequence(video, scene.write(tmp_path)[1]))
    found = measures(evaluation, "without filter")
    assert [float(time) for time in evaluation.times] == [time / 10 for time in times]
    assert found.to_detection == spans((2.8, 2))
    assert measures(evaluation, "with filter").to_detection == spans((3.0, 4))
    assert found.seconds == pytest.approx(4.0 + evaluation.interval)
    assert found.false_events_per_minute == pytest.approx(60 / found.seconds)


def test_a_video_gives_what_its_frames_give(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", story().rgb(), codec="ffv1", pix_fmt="bgr0", rate=10, options={})
    masks = story().write(tmp_path / "from one", first=1)[1]
    of_video = evaluate_sequence(fake(), LabelledSequence(video, masks))
    of_frames = story().evaluated(tmp_path / "folder")
    for variant in of_frames.shown:
        assert measures(of_video, variant).false_events == spans(
            *((s.seconds, s.frames) for s in measures(of_frames, variant).false_events)
        )
        assert measures(of_video, variant).dices == measures(of_frames, variant).dices
        assert of_video.shown[variant].hits == of_frames.shown[variant].hits


def test_a_lesion_seen_in_every_frame_is_shown_two_frames_later_with_the_filter(tmp_path: Path) -> None:
    found, filtered = both(Scene(12).label(LESION, *range(3, 12)).see(LESION, *range(3, 12)), tmp_path)
    assert (found.to_detection, filtered.to_detection) == (spans((0, 0)), spans((0.2, CONFIRM - 1)))


def test_one_seen_in_half_of_the_frames_is_shown_within_the_window(tmp_path: Path) -> None:
    _, filtered = both(Scene(12).label(LESION, *range(12)).see(LESION, 0, 4, 5, 6), tmp_path)
    assert [span.frames for span in filtered.to_detection] == [WINDOW - 1]


def test_one_seen_in_two_frames_only_is_lost_to_the_filter(tmp_path: Path) -> None:
    found, filtered = both(Scene(12).label(LESION, *range(12)).see(LESION, 4, 5), tmp_path)
    assert (found.detected, filtered.detected) == (1, 0)
    assert filtered.pairs == filtered.events == 0


def test_a_mark_counts_from_an_intersection_of_a_tenth_of_the_union(tmp_path: Path) -> None:
    """The lesion has 400 pixels."""
    exactly, below = (10, 10, 12, 30), (10, 10, 11, 30)  # 40 of 400, and 20
    assert both(Scene(2).label(LESION, 0, 1).see(exactly, 1), tmp_path / "a")[0].hit_frames == 1
    found, _ = both(Scene(2).label(LESION, 0, 1).see(below, 1), tmp_path / "b")
    assert (found.hit_frames, found.detected, found.touched_frames) == (0, 0, 1)


def test_a_small_mark_on_a_lesion_is_no_false_alarm_and_one_beside_it_is(tmp_path: Path) -> None:
    on_it, half_on_it, beside = (12, 12, 15, 15), (10, 28, 15, 32), (10, 29, 15, 33)
    for number, (place, false) in enumerate(((on_it, 0), (half_on_it, 0), (beside, 1))):
        found, _ = both(Scene(2).label(LESION, 0, 1).see(place, 1), tmp_path / str(number))
        assert (found.events, len(found.false_events), found.detected) == (1, false, 0)


def test_a_mark_that_stays_after_its_lesion_is_no_false_event_but_marks_empty_frames(tmp_path: Path) -> None:
    found, _ = both(Scene(20).label(LESION, 0, 1).see(LESION, *range(20)), tmp_path)
    assert (found.events, found.false_events) == (1, ())
    assert (found.empty_frames, found.marked_empty_frames) == (18, 18)


def test_a_mark_over_two_lesions_hits_both(tmp_path: Path) -> None:
    left, right, over = (10, 10, 30, 30), (10, 36, 30, 56), (10, 10, 30, 56)
    found, _ = both(Scene(1).label(left, 0).label(right, 0).see(over, 0), tmp_path)
    assert (found.lesions, found.detected, found.hit_frames, found.lesion_frames) == (2, 2, 2, 2)


def test_a_mask_that_goes_from_one_half_of_a_lesion_to_the_other_flickers(tmp_path: Path) -> None:
    """Though its overlap with the label stays the same."""
    left, right = (10, 10, 30, 20), (10, 20, 30, 30)
    found, _ = both(Scene(6).label(LESION, *range(6)).see(left, 0, 2, 4).see(right, 1, 3, 5), tmp_path)
    assert found.flips == 0
    assert set(found.dices) == {400 / 600}
    assert found.mask_changes == (1.0,) * 5


def test_a_mask_that_moves_with_its_lesion_changes_as_much_as_the_label(tmp_path: Path) -> None:
    scene = Scene(6)
    for index in range(6):
        place = (10, 10 + index, 30, 50 + index)
        scene.label(place, index).see(place, index)
    found, _ = both(scene, tmp_path)
    assert found.label_changes == found.mask_changes == pytest.approx((2 / 41,) * 5)


def test_where_the_label_jumps_no_steadiness_is_asked(tmp_path: Path) -> None:
    scene = Scene(3).label(LESION, 0).label((10, 13, 30, 33), 1).label((10, 16, 30, 36), 2)  # IoU 17 / 23
    assert both(scene, tmp_path)[0].mask_changes == ()


def test_a_flat_frame_shows_nothing_whatever_the_network_would_say(tmp_path: Path) -> None:
    frames, masks = Scene(3).label(LESION, 0, 1, 2).write(tmp_path)
    split = split_of(tmp_path / "flat", {"1": (np.full((*SIZE_HW, 3), 200, np.uint8), as_mask(box(*LESION)))})
    (split / "images" / "1.png").replace(frames / "1.png")
    evaluation = evaluate_sequence(Answers(box(*LESION)), LabelledSequence(frames, masks, 10))
    assert evaluation.shown["without filter"].hits == {1: {0, 2}}


def test_a_lesion_of_one_class_is_not_found_by_a_mark_of_another(tmp_path: Path) -> None:
    labels, seen = np.zeros((6, *SIZE_HW), np.uint8), np.zeros((6, *SIZE_HW), np.uint8)
    labels[:, 10:30, 10:30], labels[:, 40:60, 50:70] = 1, 2
    seen[:, 10:30, 10:30], seen[:, 40:60, 50:70] = 3, 2
    split = split_of(tmp_path, {str(index): (red_by_class(seen[index]), labels[index]) for index in range(6)})
    evaluation = evaluate_sequence(Levels(FOUR), LabelledSequence(split / "images", split / "masks", 10))
    assert [lesion.class_index for lesion in evaluation.lesions] == [1, 2]
    found = measures(evaluation, "with filter")
    assert (found.detected, found.events, len(found.false_events)) == (1, 2, 1)
    assert evaluation.shown["with filter"].hits == {2: {2, 3, 4, 5}}


def test_the_measures_do_not_depend_on_the_size_of_the_frames(tmp_path: Path) -> None:
    """Regions are compared at the network's size; the story is told at twice its size."""
    scene = story()
    for pictures in (scene.labels, scene.seen):
        for index, marked in pictures.items():
            pictures[index] = np.kron(marked, np.ones((2, 2), bool))
    scene.size_hw = (128, 192)
    evaluation = scene.evaluated(tmp_path / "large", backend=fake(SIZE_HW))
    of_small = story().evaluated(tmp_path / "small")
    for variant, shown in of_small.shown.items():
        assert evaluation.shown[variant].hits == shown.hits
        assert measures(evaluation, variant).false_events == measures(of_small, variant).false_events


def test_sequences_are_pooled_by_lesion_event_and_frame(tmp_path: Path) -> None:
    late = Scene(10).label(OTHER, *range(10)).see(OTHER, *range(6, 10))
    quick = Scene(5).label(LESION, *range(5)).see(LESION, *range(5)).see(ALARM, 1)
    nothing = Scene(10)
    evaluations = [
        scene.evaluated(tmp_path / str(number), fps) for number, (scene, fps) in enumerate(((late, 5), (quick, 10), (nothing, 20)))
    ]
    total = pooled(measures(evaluation, "without filter") for evaluation in evaluations)
    assert total.seconds == pytest.approx(2.0 + 0.5 + 0.5)
    assert (total.lesions, total.lesion_frames, total.hit_frames, total.empty_frames) == (2, 15, 9, 10)
    assert total.to_detection == spans((1.2, 6), (0, 0))
    assert total.false_events == spans((0.1, 1))
    assert total.false_events_per_minute == pytest.approx(20)
    assert len(total.dices) == 15 and mean(total.dices) == pytest.approx((4 + 4 + 800 / 1025) / 15)
    assert (total.pairs, total.flips) == (3 + 4, 0)


def test_the_sample_clip_has_the_scores_of_its_masks(tmp_path: Path) -> None:
    """The built-in model on every tenth frame: the same counts as samples/score.py has of the masks that it gives frame by frame."""
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    frames.mkdir()
    masks.mkdir()
    with open_backend(None, "openvino:f32") as backend, open_source(str(SAMPLES / "colonoscopy.mp4")) as source:
        segmenter, overlaps = Segmenter(backend), []
        for frame in source:
            if frame.index % 10 == 0:
                name = f"{frame.index:06d}.png"
                cv2.imwrite(str(frames / name), cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
                (masks / name).write_bytes((SAMPLES / "colonoscopy-masks" / name).read_bytes())
                overlaps.append(foreground_overlap(segmenter.segment(frame.rgb).mask, read_binary_mask(masks / name)))
        found = measures(evaluate_sequence(backend, LabelledSequence(frames, masks, 2.5)), "without filter")
    labelled = [overlap for overlap in overlaps if overlap.labelled]
    assert found.dices == tuple(overlap.dice for overlap in labelled)
    assert found.touched_frames == sum(overlap.intersection > 0 for overlap in labelled) > 10
    assert found.marked_empty_frames == sum(overlap.predicted > 0 for overlap in overlaps if not overlap.labelled)
    assert found.empty_frames == len(overlaps) - len(labelled)
