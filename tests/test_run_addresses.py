"""`@FILE` for addresses that must not stand on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from tests.live_runs import LiveRun, pictures
from tests.media import decoded


def refused(*arguments: str, code: int = 2) -> str:
    result = CliRunner().invoke(app, ["run", "--device", "fake", *arguments], env={"COLUMNS": "300"})
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), result.output
    return result.stderr


def test_sources_and_outputs_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "camera").write_text("# of theatre 3\n\n  testsrc://160x120@25  \n", encoding="utf-8")
    (tmp_path / "outputs").write_text("out.mp4\nout-{start}.events.jsonl\n", encoding="utf-8")
    with LiveRun(tmp_path, "--source", "@camera", "-o", "@outputs") as run:
        run.wait(pictures(10))
        command = Path(f"/proc/{run.process.pid}/cmdline").read_bytes()
        assert run.end()[0] == 130, run.err
    assert b"testsrc" not in command and b"@camera" in command
    assert len(decoded(tmp_path / "out.mp4")) >= 10
    (events,) = tmp_path.glob("out-*.events.jsonl")
    assert len(events.name) == len("out-20261125T080000Z.events.jsonl")


@pytest.mark.parametrize("option", ["--source", "--output"])
def test_a_file_without_addresses_is_an_error_that_shows_nothing_of_it(tmp_path: Path, option: str) -> None:
    other = ["--source", "testsrc://"] if option == "--output" else []
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("# rtsp://user:secret@host/\n", encoding="utf-8")
    binary.write_bytes(b"\xffsecret")
    for path, reason in (
        (empty, "holds no address"),
        (binary, "is not text"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        text = refused(*other, option, f"@{path}")
        assert f"{option} @{path}: " in text and reason in text and "secret" not in text


def test_a_password_from_a_file_is_redacted_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "camera").write_text("rtsp://user:s3cret@127.0.0.1:1/nowhere\n", encoding="utf-8")
    text = refused("--source", f"@{tmp_path}/camera", code=6)
    assert "s3cret" not in text and "***@127.0.0.1:1/nowhere" in text
