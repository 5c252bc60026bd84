from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime import Backend, FakeBackend, Masks, Segmenter
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.runtime.roi.area import Roi
from qtseg_edge.spec import ModelCard, ModelSpec
from qtseg_edge.transforms import Letterbox
from tests.runtime.scopes import Scope, tissue

Uint8 = NDArray[np.uint8]
SIZE_HW = (64, 96)
THREE = ModelCard("three", ("background", "polyp", "tool"), ((0, 0, 0), (0, 200, 120), (230, 90, 60)), SIZE_HW, "scale")


class Recorder(Backend):
    """Keeps what it is given and answers with the same two arrays, overwritten by every call, as an engine may."""

    def __init__(self, classes: int = 2, batch: int | None = 1) -> None:
        card = THREE if classes == 3 else replace(FAKE_CARD, size_hw=SIZE_HW)
        self.name, self.spec = "recorder", ModelSpec(card, SIZE_HW, batch)
        self.seen: list[Uint8] = []
        self.answer = Masks(np.zeros((1, *SIZE_HW), np.uint8), np.full((1, *SIZE_HW), 255, np.uint8))

    def _infer(self, image: Uint8) -> Masks:
        self.seen.append(image.copy())
        return self.answer


def fake(size_hw: tuple[int, int] = SIZE_HW) -> FakeBackend:
    return FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=size_hw), size_hw, 1))


def noise(size_hw: tuple[int, int], seed: int = 0) -> Uint8:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)))
@settings(max_examples=60)
def test_the_mask_has_the_size_of_the_frame(size_hw: tuple[int, int]) -> None:
    result = Segmenter(fake()).segment(noise(size_hw))
    assert result.mask.shape == result.confidence.shape == size_hw
    assert result.mask.dtype == result.confidence.dtype == np.uint8
    assert result.mask.max() <= 1


def test_at_the_models_own_size_the_mask_is_the_graphs() -> None:
    frame = noise(SIZE_HW)
    wanted = fake().infer(frame[None])
    result = Segmenter(fake()).segment(frame)
    assert np.array_equal(result.mask, wanted.mask[0])
    assert np.array_equal(result.confidence, wanted.confidence[0])


def test_at_the_models_own_size_several_classes_are_the_graphs() -> None:
    recorder = Recorder(classes=3)
    recorder.answer.mask[0, :20], recorder.answer.mask[0, 30:50] = 1, 2
    recorder.answer.confidence[0, ::2] = 170
    result = Segmenter(recorder).segment(noise(SIZE_HW))
    assert np.array_equal(result.mask, recorder.answer.mask[0])
    assert np.array_equal(result.confidence, recorder.answer.confidence[0])


def test_a_marked_square_comes_back_where_it_was() -> None:
    frame = noise((240, 300)) // 4
    frame[60:180, 100:250, 0] = 250
    result = Segmenter(fake()).segment(frame)
    assert result.mask[64:176, 104:246].all()
    outside = np.ones((240, 300), bool)
    outside[56:184, 96:254] = False
    assert not result.mask[outside].any()


def every_level() -> Recorder:
    """Answers with every foreground probability from 0 to 255, as a graph would: class and the probability of that class."""
    recorder = Recorder()
    levels = np.resize(np.arange(256, dtype=np.uint8), SIZE_HW)
    recorder.answer.mask[0] = levels >= 128
    recorder.answer.confidence[0] = np.where(levels >= 128, levels, 255 - levels)
    return recorder


def test_the_default_threshold_is_the_graphs_own_decision() -> None:
    recorder = every_level()
    for segmenter in (Segmenter(recorder), Segmenter(recorder, 0.5)):
        result = segmenter.segment(noise(SIZE_HW))
        assert np.array_equal(result.mask, recorder.answer.mask[0])
        assert np.array_equal(result.confidence, recorder.answer.confidence[0])


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.25, 0.4, 0.6, 0.9, 0.999])
def test_a_pixel_counts_from_the_threshold_on(threshold: float) -> None:
    levels = np.resize(np.arange(256), SIZE_HW)
    result = Segmenter(every_level(), threshold).segment(noise(SIZE_HW))
    assert np.array_equal(result.mask > 0, levels >= max(1, round(threshold * 255)))
    assert np.array_equal(result.confidence, np.where(result.mask > 0, levels, 255 - levels))


def test_a_higher_threshold_never_marks_more() -> None:
    frame = noise((120, 90))
    areas = [np.count_nonzero(Segmenter(fake(), threshold).segment(frame).mask) for threshold in np.linspace(0.02, 0.98, 25)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]


def test_the_models_card_gives_the_threshold_where_the_user_gives_none() -> None:
    recorder = every_level()
    recorder.spec = replace(recorder.spec, card=replace(recorder.spec.card, threshold=0.8))
    assert Segmenter(recorder).threshold == 0.8
    assert Segmenter(recorder, 0.3).threshold == 0.3
    assert np.count_nonzero(Segmenter(recorder).segment(noise(SIZE_HW)).mask) < np.count_nonzero(recorder.answer.mask)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="wanted a probability between 0 and 1"):
        Segmenter(fake(), threshold)


def test_a_threshold_for_several_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="applies to two-class models, this one has 3 classes"):
        Segmenter(Recorder(classes=3), 0.5)


def test_a_model_of_a_larger_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="wanted a model of batch 1 or dynamic, got 4"):
        Segmenter(Recorder(batch=4))


@pytest.mark.parametrize(("first", "second"), [((64, 96), (96, 64)), ((100, 20), (20, 100)), ((480, 640), (64, 20))])
def test_after_a_change_of_size_nothing_of_the_old_frame_is_left(first: tuple[int, int], second: tuple[int, int]) -> None:
    recorder, alone = Recorder(), Recorder()
    segmenter = Segmenter(recorder)
    segmenter.segment(noise(first) | 1)
    segmenter.segment(noise(second, seed=1))
    Segmenter(alone).segment(noise(second, seed=1))
    assert np.array_equal(recorder.seen[1], alone.seen[0])


def test_frames_are_letterboxed_at_the_top_left_with_zeros() -> None:
    recorder = Recorder()
    Segmenter(recorder).segment(noise((64, 48)) | 1)
    assert recorder.seen[0].shape == (1, *SIZE_HW, 3)
    assert recorder.seen[0][0, :, :48].all()
    assert not recorder.seen[0][0, :, 48:].any()


@pytest.mark.parametrize("colour", [(250, 10, 10), (255, 255, 255), (0, 0, 0), (128, 0, 255)])
@pytest.mark.parametrize("size_hw", [(64, 96), (480, 640), (50, 20)])
def test_a_frame_of_one_colour_with_noise_is_empty_and_the_network_is_not_asked(
    colour: tuple[int, int, int], size_hw: tuple[int, int]
) -> None:
    jitter = np.random.default_rng(0).integers(-1, 2, (*size_hw, 3))
    frame = np.clip(np.array(colour) + jitter, 0, 255).astype(np.uint8)
    backend = FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=SIZE_HW), SIZE_HW, 1), fail_at=0)
    result = Segmenter(backend).segment(frame)
    assert result.mask.shape == size_hw
    assert not result.mask.any()
    assert np.all(result.confidence == 255)
    assert result.infer_ms is None


def test_a_faint_structure_is_content() -> None:
    frame = np.full((*SIZE_HW, 3), 120, np.uint8)
    frame[::2] += 8
    recorder = Recorder()
    Segmenter(recorder).segment(frame)
    assert len(recorder.seen) == 1


def test_after_a_frame_without_content_the_next_is_segmented_again() -> None:
    segmenter = Segmenter(fake())
    before = segmenter.segment(noise((50, 70)))
    assert not segmenter.segment(np.zeros((50, 70, 3), np.uint8)).mask.any()
    assert np.array_equal(segmenter.segment(noise((50, 70))).mask, before.mask)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 1), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 3), np.uint16),
        np.zeros((1, 48, 64, 3), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros((48, 0, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.dtype}{frame.shape}",
)
def test_anything_but_an_rgb_frame_is_refused(frame: NDArray[np.generic]) -> None:
    with pytest.raises(UsageError, match=r"wanted an RGB frame \(h, w, 3\) of uint8, got"):
        Segmenter(fake()).segment(frame)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", [np.s_[::2, ::2], np.s_[:, ::-1], np.s_[5:60, 7:80], np.s_[:, :, ::-1]], ids=str)
@pytest.mark.parametrize("size_hw", [SIZE_HW, (90, 150)])
def test_a_frame_that_is_a_view_gives_the_result_of_its_copy(size_hw: tuple[int, int], view: tuple[slice, ...]) -> None:
    frame = noise(size_hw)[view]
    assert np.array_equal(Segmenter(fake()).segment(frame).mask, Segmenter(fake()).segment(frame.copy()).mask)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("size_hw", [SIZE_HW, (90, 150)])
def test_results_share_memory_with_nothing(classes: int, size_hw: tuple[int, int]) -> None:
    recorder = Recorder(classes)
    segmenter = Segmenter(recorder)
    first = segmenter.segment(noise(size_hw))
    kept = (first.mask.copy(), first.confidence.copy())
    recorder.answer.mask[:] = 1
    recorder.answer.confidence[:] = 200
    second = segmenter.segment(noise(size_hw, seed=1))
    assert np.array_equal(first.mask, kept[0]) and np.array_equal(first.confidence, kept[1])
    arrays = [first.mask, first.confidence, second.mask, second.confidence, recorder.answer.mask, recorder.answer.confidence]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :])


def test_the_frame_is_not_changed() -> None:
    frame = noise((90, 150))
    before = frame.copy()
    Segmenter(fake()).segment(frame)
    assert np.array_equal(frame, before)


def test_what_the_backend_raises_comes_through_and_the_next_frame_works() -> None:
    backend = FakeBackend(fail_at=1)
    segmenter = Segmenter(backend)
    segmenter.segment(noise((50, 50)))
    with pytest.raises(QtsegError, match="failed at call 1"):
        segmenter.segment(noise((50, 50)))


def test_latencies_are_told() -> None:
    result = Segmenter(FakeBackend(seconds=0.02)).segment(noise((480, 640)))
    assert result.infer_ms >= 20
    assert result.prepare_ms > 0
    assert result.restore_ms > 0


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("size_hw", [SIZE_HW, (90, 150)])
def test_its_parts_give_what_the_whole_gives(classes: int, size_hw: tuple[int, int]) -> None:
    recorder, frame = Recorder(classes), noise(size_hw)
    recorder.answer.mask[0, 10:40, 20:60] = classes - 1
    segmenter = Segmenter(recorder)
    prepared = segmenter.prepare(frame)
    mask, confidence = segmenter.restore(prepared, recorder.infer(prepared.image))
    whole = segmenter.segment(frame)
    assert mask.any()
    assert np.array_equal(mask, whole.mask) and np.array_equal(confidence, whole.confidence)


def test_a_flat_frame_is_restored_empty_whatever_the_backend_says() -> None:
    recorder = Recorder()
    recorder.answer.mask[:] = 1
    segmenter = Segmenter(recorder)
    prepared = segmenter.prepare(np.full((50, 70, 3), 90, np.uint8))
    assert prepared.is_flat
    for masks in (None, recorder.answer):
        mask, confidence = segmenter.restore(prepared, masks)
        assert not mask.any() and np.all(confidence == 255)


def test_a_frame_with_content_is_not_restored_without_masks() -> None:
    segmenter = Segmenter(Recorder())
    with pytest.raises(ValueError, match="wanted the backend's masks"):
        segmenter.restore(segmenter.prepare(noise((50, 70))), None)


def test_every_prepared_frame_keeps_its_own_image() -> None:
    """Some are prepared while the network is still busy with another."""
    segmenter = Segmenter(fake())
    frames = [noise((50, 70), seed) for seed in range(4)]
    prepared = [segmenter.prepare(frame) for frame in frames]
    for frame, one in zip(frames, prepared, strict=True):
        assert np.array_equal(one.image, Segmenter(fake()).prepare(frame).image)
    assert not any(np.shares_memory(a.image, b.image) for i, a in enumerate(prepared) for b in prepared[i + 1 :])


AREA = (40, 30, 90, 70)
WITHIN = np.s_[30:100, 40:130]


def test_of_a_fixed_area_the_network_is_shown_that_area_alone() -> None:
    recorder, frame = Recorder(), noise((120, 200))
    prepared = Segmenter(recorder, roi=AREA).prepare(frame)
    assert prepared.area == AREA and prepared.frame_hw == (120, 200)
    assert np.array_equal(prepared.image[0], Letterbox((70, 90), SIZE_HW).frame(frame[WITHIN].copy()))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_mask_of_an_area_lies_where_the_area_is_and_all_around_it_is_background(classes: int) -> None:
    recorder, frame = Recorder(classes), noise((120, 200))
    recorder.answer.mask[:] = classes - 1
    recorder.answer.confidence[:] = 180
    result = Segmenter(recorder, roi=AREA).segment(frame)
    assert result.mask.shape == result.confidence.shape == (120, 200)
    assert np.all(result.mask[WITHIN] == classes - 1) and np.all(result.confidence[WITHIN] == 180)
    result.mask[WITHIN], result.confidence[WITHIN] = 0, 255
    assert not result.mask.any() and np.all(result.confidence == 255)


def test_an_area_of_the_whole_frame_changes_nothing() -> None:
    frame = noise((90, 150))
    whole, none = Segmenter(fake(), roi=(0, 0, 150, 90)).segment(frame), Segmenter(fake()).segment(frame)
    assert np.array_equal(whole.mask, none.mask) and np.array_equal(whole.confidence, none.confidence)


def test_a_marked_square_in_an_area_comes_back_where_it_was() -> None:
    frame = noise((240, 300)) // 4
    frame[90:150, 120:210, 0] = 250
    mask = Segmenter(fake(), roi=(70, 60, 190, 130)).segment(frame).mask
    assert mask[93:147, 123:207].all()
    mask[87:153, 117:213] = 0
    assert not mask.any()


def test_an_area_of_one_colour_is_empty_whatever_is_around_it() -> None:
    frame = noise((120, 200))
    frame[WITHIN] = 90
    backend = FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=SIZE_HW), SIZE_HW, 1), fail_at=0)
    result = Segmenter(backend, roi=AREA).segment(frame)
    assert not result.mask.any() and np.all(result.confidence == 255)


@pytest.mark.parametrize("roi", ["auto", "none", AREA])
def test_an_area_is_a_view_that_is_not_changed(roi: Roi) -> None:
    frame = Scope().picture()
    before = frame.copy()
    Segmenter(fake(), roi=roi).segment(frame)
    assert np.array_equal(frame, before)


def test_auto_shows_the_network_the_scopes_picture_of_a_frame_that_stands_alone() -> None:
    scope = Scope("octagon")
    x, y, w, h = scope.box
    left, top, width, height = Segmenter(fake(), roi="auto").prepare(scope.picture()).area
    assert left <= x and top <= y and left + width >= x + w and top + height >= y + h
    assert width * height <= 1.07 * w * h


def test_auto_follows_a_stream_by_the_times_of_its_frames() -> None:
    segmenter, frame = Segmenter(fake(), roi="auto"), Scope("octagon").picture()
    areas = [segmenter.prepare(frame, index / 5).area for index in range(15)]
    assert areas[0] == (0, 0, 640, 360)
    assert areas[-1] == segmenter.prepare(frame).area != areas[0]
    assert segmenter.prepare(frame, 3.2).area == areas[0]  # the frame before stood alone


def test_marks_beside_the_scopes_picture_are_not_seen() -> None:
    """Red text on the border is no finding."""
    frame = Scope("octagon", text=0, tissue=3).picture() // 2
    frame[100:120, 20:80] = (255, 0, 0)
    assert Segmenter(fake()).segment(frame).mask[100:120, 20:80].any()
    assert not Segmenter(fake(), roi="auto").segment(frame).mask[:, :100].any()


def test_a_fixed_area_beyond_the_frame_is_refused() -> None:
    assert tissue(0).shape == (512, 640, 3)
    with pytest.raises(UsageError, match="within the frame of 640x512 pixels, got 600,0,100,100"):
        Segmenter(fake(), roi=(600, 0, 100, 100)).segment(tissue(0))
