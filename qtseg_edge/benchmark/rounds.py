"""Candidates measured in turns: each in a process of its own, one of them running at a time, block by block, in several rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from statistics import fmean, median
from typing import Any

from qtseg_edge.benchmark.accuracy import compare_masks, score_masks
from qtseg_edge.benchmark.limits import Rate
from qtseg_edge.benchmark.machine import gpu_bytes_used
from qtseg_edge.benchmark.power import PowerMeter, Sample, power_meter
from qtseg_edge.benchmark.process import Worker
from qtseg_edge.benchmark.results import WAYS, Result, Settings, percentile
from qtseg_edge.board.reading import BoardReader
from qtseg_edge.data import image_files
from qtseg_edge.errors import QtsegError

EXAMPLE_FRAMES = Path(str(resources.files("qtseg_edge") / "assets" / "frames"))
OnStep = Callable[[str], None]
_OPEN_SECONDS, _BLOCK_SECONDS, _IMAGE_SECONDS = 900.0, 120.0, 60.0  # beyond these a candidate hangs; building a cache takes minutes
_RATE_SHARE = 0.3  # of a block's seconds, for each rate


class Rounds:
    """One measurement. `results` and `rates` hold what there is at any moment, also after an interrupt.

    board: tells whether the machine was throttled during a block, where it has sensors for that; a GPU's own word comes with its power.
    on_step: told what is next. There is no bar that moves meanwhile: drawing it would take time from what is measured.
    """

    def __init__(
        self, results: list[Result], settings: Settings, on_step: OnStep = lambda step: None, board: BoardReader | None = None
    ) -> None:
        self.results, self._settings, self._told = results, settings, on_step
        self._workers: dict[int, Worker] = {}
        self._rates: Worker | None = None
        self._rate_samples: list[tuple[dict[str, Any], list[float]]] = []
        self._board = board
        self._meters: dict[bool, PowerMeter | None] = {uses_gpu: power_meter(uses_gpu) for uses_gpu in (False, True)}

    @property
    def meter(self) -> str:
        used = [self._meters[result.candidate.uses_gpu] for result in self.results if result.watts]
        return used[0].by if used and used[0] else ""

    @property
    def rates(self) -> list[Rate]:
        """By the tenth percentile of the times: a candidate's p10 is compared with what the machine does undisturbed."""
        found = []
        for work, samples in self._rate_samples:
            if samples:
                seconds = percentile(samples, 10) / 1e3
                found.append(Rate(work["place"], work["what"], work["by"], work["amount"] / seconds, len(samples)))
        return found

    def run(self, masks_into: Path) -> bool:
        """Whether all of it was done: False after Ctrl-C. Every process that it started has ended then. masks_into: an empty folder."""
        with ExitStack() as stack:
            try:
                self._open(stack)
                if all(result.error for result in self.results):
                    return True
                self._open_rates(stack)
                for number in range(self._settings.rounds):
                    self._round(number)
                self._compare(masks_into)
            except KeyboardInterrupt:
                return False
        return True

    def _open(self, stack: ExitStack) -> None:
        """One after the other; whoever cannot be opened is a result with its reason."""
        for index, result in enumerate(self.results):
            self._told(f"opening {result.candidate.label}")
            worker = self._workers[index] = stack.enter_context(Worker())
            before = gpu_bytes_used() if result.candidate.uses_gpu else None
            self._asked(index, self._opened, worker, result)
            if before is not None and (after := gpu_bytes_used()) is not None:
                result.gpu_bytes = max(0, after - before)

    def _open_rates(self, stack: ExitStack) -> None:
        self._rates = stack.enter_context(Worker())
        with_gpu = any(result.candidate.uses_gpu for result in self.results)
        with self._without_rates_where_they_fail():
            self._rate_samples = [(work, []) for work in self._rates.ask("rates", _OPEN_SECONDS, with_gpu=with_gpu)]

    def _opened(self, worker: Worker, result: Result) -> None:
        candidate = result.candidate
        question = {
            "path": candidate.path,
            "device": candidate.device,
            "size_hw": candidate.size_hw,
            "batch": candidate.batch,
            "images": EXAMPLE_FRAMES,
            "trust": self._settings.trust,
            "cuda_driver": self._settings.cuda_driver,
        }
        facts = worker.ask("open", _OPEN_SECONDS, **question)
        result.engine, result.open_seconds = facts["name"], facts["seconds"]

    def _round(self, number: int) -> None:
        """Every second one backwards: what drifts evenly in time hits all alike, and nobody always follows the same one."""
        self._told(f"round {number + 1} of {self._settings.rounds}")
        for index in order(len(self.results), number):
            for way in WAYS:
                if self.results[index].error is None:
                    self._asked(index, self._timed, index, way)
        self._measure_rates()

    def _timed(self, index: int, way: str) -> None:
        result, seconds = self.results[index], self._settings.seconds
        meter = self._meters[result.candidate.uses_gpu] if way == "end_to_end" else None
        with ExitStack() as stack:
            power: list[Sample] = stack.enter_context(meter.measuring()) if meter else []
            self._throttled_lately()  # by whatever was before
            found = self._workers[index].ask("time", seconds + _BLOCK_SECONDS, what=way, seconds=seconds)
        result.samples[way].append(found["ms"])
        result.memory_bytes = found["bytes"]
        self._note_power(result, power)

    def _note_power(self, result: Result, samples: list[Sample]) -> None:
        watts = [sample.watts for sample in samples if sample.watts is not None]
        celsius = [sample.celsius for sample in samples if sample.celsius is not None]
        gpu_mhz = [sample.gpu_mhz for sample in samples if sample.gpu_mhz is not None]
        result.watts += [fmean(watts)] if watts else []
        result.celsius += [max(celsius)] if celsius else []
        result.gpu_mhz += [median(gpu_mhz)] if gpu_mhz else []
        reasons = [reason for sample in samples for reason in sample.throttled]
        result.throttled = list(dict.fromkeys([*result.throttled, *reasons, *self._throttled_lately()]))

    def _throttled_lately(self) -> tuple[str, ...]:
        """Since the question before."""
        return (self._board.read().throttled or ()) if self._board else ()

    def _measure_rates(self) -> None:
        seconds = _RATE_SHARE * self._settings.seconds
        with self._without_rates_where_they_fail():
            for index, (_, samples) in enumerate(self._rate_samples):
                if self._rates is not None:
                    samples += self._rates.ask("rate", seconds + _BLOCK_SECONDS, index=index, seconds=seconds)

    @contextmanager
    def _without_rates_where_they_fail(self) -> Iterator[None]:
        """The candidates' times are worth having without a limit beside them."""
        try:
            yield
        except QtsegError as error:
            self._told(f"the machine's rates cannot be measured: {error}")
            self._rates = None

    def _compare(self, folder: Path) -> None:
        split = self._settings.data
        images = EXAMPLE_FRAMES if split is None else split / "images"
        limit = _BLOCK_SECONDS + _IMAGE_SECONDS * len(image_files(images))
        masks: dict[int, Path] = {}
        for index, result in enumerate(self.results):
            if result.error is None:
                self._told(f"masks of {result.candidate.label}")
                into = folder / f"{index}.npy"
                self._asked(index, self._workers[index].ask, "masks", limit, images=images, labelled=split is not None, into=into)
                if result.error is None:
                    masks[index] = into
        compare_masks(self.results, masks)
        if split is not None:
            score_masks(self.results, masks, split)

    def _asked(self, index: int, ask: Callable[..., object], *arguments: object, **named: object) -> None:
        """An error is the candidate's, not the run's."""
        result = self.results[index]
        try:
            ask(*arguments, **named)
        except QtsegError as error:
            result.error = error
            self._workers[index].close()


def order(count: int, number: int) -> list[int]:
    """Of the candidates in round `number`."""
    forward = list(range(count))
    return forward if number % 2 == 0 else forward[::-1]
