"""One benchmark from its wishes to its figures, and the gates for CI."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qtseg_edge.benchmark.accuracy import require_labelled
from qtseg_edge.benchmark.candidates import Skipped, Wanted, candidates_of
from qtseg_edge.benchmark.machine import MachineState
from qtseg_edge.benchmark.results import Benchmark, Result, Settings
from qtseg_edge.benchmark.rounds import EXAMPLE_FRAMES, OnStep, Rounds
from qtseg_edge.board.reader import board_reader
from qtseg_edge.data import image_files, labelled_images
from qtseg_edge.errors import GateError, MissingError


def benchmark(wanted: Wanted, settings: Settings, machine: MachineState, on_step: OnStep = lambda step: None) -> Benchmark:
    """Seconds to minutes: every candidate has two blocks in each round.

    machine: taken before. Raises UsageError, IncompatibleError and QtsegError for wishes that cannot be met, and the error of the first
    candidate where none can be opened. What goes wrong with one of several is in its result.
    """
    split = settings.data
    images = len(image_files(EXAMPLE_FRAMES) if split is None else labelled_images(split))
    with tempfile.TemporaryDirectory(prefix="qtseg-edge-benchmark-") as folder:
        exported, masks = Path(folder) / "exported", Path(folder) / "masks"
        exported.mkdir()
        masks.mkdir()
        candidates, skipped = candidates_of(wanted, exported, on_step)
        for classes in {candidate.classes for candidate in candidates}:
            if split is not None:
                require_labelled(split, classes)
        rounds = Rounds([Result(candidate) for candidate in candidates], settings, on_step, board_reader())
        finished = rounds.run(masks)
    absent = [result for result in rounds.results if isinstance(result.error, MissingError) and not result.candidate.required]
    results = [result for result in rounds.results if result not in absent]
    errors = [result.error for result in rounds.results if result.error and not result.engine]  # not even opened
    if finished and len(errors) == len(rounds.results):
        raise errors[0]
    skipped += [Skipped(result.candidate.label, str(result.error)) for result in absent]
    return Benchmark(machine, settings, results, skipped, rounds.rates, images, rounds.meter, not finished)


def require(done: Benchmark, most_ms: float | None, least_dice: float | None) -> None:
    """Raises GateError, which names every candidate that is over or under and by how much, or that could not be measured.

    most_ms: of the median time of a call end to end. least_dice: x 100.
    """
    if most_ms is None and least_dice is None:
        return
    wrong = [f"{one.what} was not measured ({one.reason})" for one in done.skipped if one.is_failure]
    for result in done.results:
        label, figures = result.candidate.label, result.figures("end_to_end")
        if result.error is not None or figures is None:
            wrong.append(f"{label} was not measured ({result.error or 'interrupted'})")
            continue
        if most_ms is not None and figures.p50 > most_ms:
            wrong.append(f"{label} takes {figures.p50:.2f} ms end to end (p50), {figures.p50 - most_ms:.2f} over the {most_ms:g} allowed")
        if least_dice is not None and (result.dice is None or 100 * result.dice < least_dice):
            dice = "no Dice" if result.dice is None else f"a Dice of {100 * result.dice:.2f}, {least_dice - 100 * result.dice:.2f}"
            wrong.append(f"{label} has {dice} under the {least_dice:g} wanted")
    if wrong:
        raise GateError("benchmark: " + "; ".join(wrong))
