"""Frames through the backend, on stand-ins for TensorRT and the GPU behind the wrappers of both CUDA packages. No mask may be old."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime import FakeBackend, Masks
from tests.runtime.cuda_machine import CudaFault, Machine
from tests.runtime.engines import SIZE_HW
from tests.runtime.tensorrt_world import DYNAMIC, Uint8, World, frames, is_right


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("integrated", [False, True])
def test_every_frame_gets_its_own_mask(world: World, package: str, flavour: str, integrated: bool) -> None:
    backend = world.opened(flavour, package, integrated=integrated)
    assert backend.name == f"{flavour} fp16"
    assert all(is_right(backend.infer(image), image) for image in frames(6))


def test_the_answers_are_those_of_the_backend_it_stands_in_for(world: World) -> None:
    image = frames(1)[0]
    backend = world.opened()
    assert is_right(FakeBackend(backend.spec).infer(image), image)


def test_it_warms_up_records_and_then_replays(world: World, package: str) -> None:
    backend = world.opened(package=package)
    for image in frames(5):
        assert is_right(backend.infer(image), image)
    assert world.runs == ["enqueued", "enqueued", "captured"]  # the rest were replays
    assert len(world.machine.graphs) == 1


def test_tensorrt_rtx_records_by_itself(world: World) -> None:
    backend = world.opened("tensorrt-rtx")
    for image in frames(5):
        assert is_right(backend.infer(image), image)
    assert world.runs == ["enqueued"] * 5


def test_another_batch_is_recorded_anew(world: World) -> None:
    backend = world.opened(batches=DYNAMIC)
    for batch in (2, 3, 2):
        assert all(is_right(backend.infer(image), image) for image in frames(4, batch, seed=batch))
    assert world.runs == ["enqueued", "enqueued", "captured"] * 3
    assert len(world.machine.graphs) == 1  # of the last; the others are freed


def test_sizes_that_alternate_cost_no_recording(world: World) -> None:
    backend = world.opened(batches=DYNAMIC)
    for image in [image for pair in zip(frames(4, 2), frames(4, 3), strict=True) for image in pair]:
        assert is_right(backend.infer(image), image)
    assert world.runs == ["enqueued"] * 8


@pytest.mark.parametrize("how", ["refused", "raised", "nothing recorded", "invalidated", "not instantiated", "not launched"])
def test_a_recording_that_fails_is_left_and_no_answer_is_stale(world: World, package: str, how: str) -> None:
    backend = world.opened(package=package)
    first, second, *rest = frames(5)
    assert is_right(backend.infer(first), first)
    runtime = package == "cuda-bindings"
    calls = {"not instantiated": "GraphInstantiate", "not launched": "GraphLaunch"}
    if how in calls:
        suffix = "WithFlags" if how == "not instantiated" and not runtime else ""
        world.machine.failing[("cuda" if runtime else "cu") + calls[how] + suffix] = 901
    elif how == "nothing recorded":
        world.behaviour.records = False
    else:
        world.behaviour.enqueue = _under_capture(world.machine, how)
    assert is_right(backend.infer(second), second)
    assert all(is_right(backend.infer(image), image) for image in rest)
    assert world.runs == ["enqueued", "enqueued", "captured", *["enqueued"] * 4]  # it is not tried again
    assert not world.machine.captures
    assert not world.machine.graphs


def _under_capture(machine: Machine, how: str) -> Callable[[bool], bool]:
    def enqueue(capturing: bool) -> bool:
        if capturing and how == "raised":
            raise RuntimeError("enqueueV3")
        if capturing and how == "invalidated":
            machine.captures = dict.fromkeys(machine.captures)
            return True
        return not capturing

    return enqueue


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("after", [0, 1])
def test_work_that_is_refused_raises_and_the_next_frame_is_right(world: World, flavour: str, after: int) -> None:
    backend = world.opened(flavour)
    *before, lost, next_one = frames(after + 2)
    for image in before:
        backend.infer(image)
    world.behaviour.enqueue = lambda capturing: False
    with pytest.raises(QtsegError, match=rf"^{flavour} fp16: inference failed \(IExecutionContext::enqueueV3: .*refused\)\)$"):
        backend.infer(lost)
    world.behaviour.enqueue = lambda capturing: True
    assert is_right(backend.infer(next_one), next_one)


@pytest.mark.parametrize("call", ["MemcpyAsync", "EventRecord", "EventSynchronize", "GraphLaunch"])
def test_a_call_of_cuda_that_fails_raises_and_the_next_frame_is_right(world: World, call: str) -> None:
    backend = world.opened()
    *before, lost, next_one, another = frames(6)
    for image in before:
        backend.infer(image)
    if call == "MemcpyAsync":  # a replay makes none
        backend = world.opened()
    world.machine.failing[f"cuda{call}"] = 700
    with pytest.raises(QtsegError, match=rf"inference failed \(cuda{call}: an illegal memory access was encountered\)$") as raised:
        backend.infer(lost)
    assert raised.value.exit_code == 1
    for image in (next_one, another):
        assert is_right(backend.infer(image), image)


def test_work_that_fails_on_the_gpu_is_known_when_its_result_is_taken(world: World) -> None:
    backend = world.opened()
    good, lost, next_one = frames(3)
    kept = Masks(*(values.copy() for values in backend.infer(good)))
    ticket = backend.submit(lost)

    def fault() -> None:
        raise CudaFault(700)

    next(queue for queue in world.machine.queues.values() if queue).insert(0, fault)
    with pytest.raises(QtsegError, match="illegal memory access"):
        backend.result(ticket)
    assert is_right(kept, good)
    assert is_right(backend.infer(next_one), next_one)


def test_integrated_memory_is_not_copied(world: World, package: str) -> None:
    backend = world.opened(package=package, integrated=True)
    world.machine.copy = lambda *arguments, **named: pytest.fail("copied")  # type: ignore[method-assign]
    for image in frames(4):
        assert is_right(backend.infer(image), image)
    assert set(world.machine.blocks) == set(world.machine.pinned)
    assert world.runs == ["enqueued", "enqueued", "captured"]


def test_two_images_are_in_flight_at_once_and_a_third_is_refused(world: World, package: str) -> None:
    backend = world.opened(package=package)
    images = frames(9)
    waiting = [(images[0], backend.submit(images[0]))]
    for image in images[1:]:
        waiting.append((image, backend.submit(image)))
        with pytest.raises(UsageError, match="2 are in flight; take the result of one first"):
            backend.submit(image)
        expected, ticket = waiting.pop(0)
        assert is_right(backend.result(ticket), expected)
    assert len(world.machine.graphs) == 2


def test_what_is_in_flight_runs_on_streams_of_its_own_and_nothing_waits(world: World) -> None:
    backend = world.opened()
    tickets = [backend.submit(image) for image in frames(2)]
    assert len(world.machine.queues) == 2
    assert all(world.machine.queues.values())  # enqueued, not yet run
    backend.result(tickets[0])
    assert [bool(queue) for queue in world.machine.queues.values()].count(True) == 1


def test_one_image_at_a_time_takes_one_stream(world: World) -> None:
    backend = world.opened()
    for image in frames(4):
        backend.infer(image)
    assert len(world.machine.queues) == 1
    assert world.behaviour.seen.count("Context") == 1


def test_results_are_taken_in_any_order_and_once(world: World) -> None:
    backend = world.opened()
    first, second = frames(2)
    tickets = [backend.submit(first), backend.submit(second)]
    assert is_right(backend.result(tickets[1]), second)
    assert is_right(backend.result(tickets[0]), first)
    with pytest.raises(UsageError, match="the result of this ticket was taken before"):
        backend.result(tickets[0])


def test_infer_leaves_what_is_in_flight_alone(world: World) -> None:
    backend = world.opened()
    first, second = frames(2)
    ticket = backend.submit(first)
    with pytest.raises(UsageError, match="images are in flight; take their results before `infer`"):
        backend.infer(second)
    assert is_right(backend.result(ticket), first)
    assert is_right(backend.infer(second), second)


def test_an_image_may_change_once_it_is_submitted(world: World) -> None:
    backend = world.opened()
    image = frames(1)[0]
    original = image.copy()
    ticket = backend.submit(image)
    image[:] = 255
    assert is_right(backend.result(ticket), original)


@pytest.mark.parametrize("image", [np.zeros((1, 1, 1, 3), np.uint8), np.zeros((1, *SIZE_HW, 3), np.float32)], ids=["small", "float"])
def test_an_image_of_another_kind_is_not_submitted(world: World, image: Uint8) -> None:
    with pytest.raises(UsageError, match=r"wanted uint8 images of shape \(32, 64, 3\), got"):
        world.opened().submit(image)


@pytest.mark.parametrize(("batch", "parts"), [(1, 1), (3, 1), (4, 1), (5, 2), (7, 2), (8, 2)])
def test_a_batch_is_run_in_parts_of_the_size_the_engine_is_best_at(world: World, package: str, batch: int, parts: int) -> None:
    backend = world.opened(package=package, batches=DYNAMIC)
    for image in frames(2, batch):
        masks = backend.infer(image)
        assert masks.mask.shape == (batch, *SIZE_HW)
        assert is_right(masks, image)
    assert world.behaviour.seen.count("Context") == parts  # each on a stream of its own


def test_more_parts_than_are_in_flight_at_once(world: World) -> None:
    backend = world.opened(batches=(1, 2, 9))
    for image in frames(3, 9):
        assert is_right(backend.infer(image), image)
    assert len(world.machine.queues) == 2


def test_a_remainder_that_the_engine_does_not_take_is_not_split_off(world: World) -> None:
    backend = world.opened(batches=(3, 4, 8))
    for image in frames(2, 5):
        assert is_right(backend.infer(image), image)
    assert len(world.machine.queues) == 1


@pytest.mark.parametrize(("batches", "batch"), [(DYNAMIC, 9), ((3, 4, 8), 2), (DYNAMIC, 0)])
def test_a_batch_outside_the_range_is_refused_with_the_range(world: World, batches: tuple[int, int, int], batch: int) -> None:
    backend = world.opened(batches=batches)
    with pytest.raises(UsageError, match=rf"tensorrt fp16: this engine takes {batches[0]} to 8 images at once, got {batch}$"):
        backend.infer(np.zeros((batch, *SIZE_HW, 3), np.uint8))
    image = frames(1, 4)[0]
    assert is_right(backend.infer(image), image)


def test_a_failure_between_parts_leaves_nothing_in_flight(world: World) -> None:
    backend = world.opened(batches=DYNAMIC)
    calls = iter([True, False])
    world.behaviour.enqueue = lambda capturing: next(calls)
    with pytest.raises(QtsegError, match="inference failed"):
        backend.infer(frames(1, 8)[0])
    world.behaviour.enqueue = lambda capturing: True
    for image in frames(3, 8):
        assert is_right(backend.infer(image), image)


def test_an_interrupt_while_waiting_leaves_nothing_in_flight(world: World) -> None:
    backend = world.opened()
    first, *rest = frames(4)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ticket = backend.submit(first)
    (queue,) = world.machine.queues.values()
    queue.insert(0, interrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.result(ticket)
    assert not queue
    assert all(is_right(backend.infer(image), image) for image in rest)


def test_it_is_used_in_another_thread_than_it_was_opened_in_and_closed_in_a_third(world: World, package: str) -> None:
    backend, results = world.opened(package=package), []
    images = frames(4)

    def elsewhere() -> None:
        results.extend(is_right(backend.infer(image), image) for image in images)

    for work in (elsewhere, backend.close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    assert results == [True] * 4
    assert "Runtime" in world.machine.log
