"""The parts of systemd's file formats that tests need: systemd.syntax(7), systemd.service(5) "COMMAND LINES", udev(7)."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

Unit = dict[str, dict[str, list[str]]]


def read_unit(path: Path) -> Unit:
    """Sections, their keys, and every value in order."""
    unit: Unit = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = unit.setdefault(line.strip("[]"), {})
        else:
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return unit


def read_environment(path: Path) -> dict[str, str]:
    """As EnvironmentFile= does, for values without quotes."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(("#", ";"))]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def command_of(unit: Unit, environment: Mapping[str, str], instance: str = "") -> list[str]:
    """ExecStart= with specifiers and variables put in: ${A} is one argument, $A as many as it has words."""
    arguments = []
    for word in shlex.split(unit["Service"]["ExecStart"][0].replace("%i", instance)):
        if word.startswith("$") and not word.startswith("${"):
            arguments += shlex.split(environment.get(word[1:], ""))
        else:
            arguments.append(re.sub(r"\$\{(\w+)\}", lambda found: environment.get(found[1], ""), word))
    return arguments


_WORD = re.compile(r'\s*([A-Z]+)(?:\{(\w+)\})?\s*(==|!=|\+=|:=|-=|=)\s*"([^"]*)"\s*(?:,|$)')
_MATCHES, _ASSIGNMENTS = {"ACTION", "SUBSYSTEM", "ENV"}, {"ENV", "SYMLINK", "TAG", "GOTO", "LABEL"}


class Rules:
    """A file of udev rules, of which only what this project's use is understood; anything else is a ValueError."""

    def __init__(self, path: Path) -> None:
        self._lines = [_words(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
        labels = [value for line in self._lines for key, _, operator, value in line if (key, operator) == ("LABEL", "=")]
        jumps = [value for line in self._lines for key, _, operator, value in line if (key, operator) == ("GOTO", "=")]
        if not set(jumps) <= set(labels) or len(set(labels)) != len(labels):
            raise ValueError(f"{path}: jumps to {jumps}, labels are {labels}")

    def applied(self, event: Mapping[str, str], properties: Mapping[str, str]) -> tuple[dict[str, str], list[str], list[str]]:
        """Properties, links and tags of a device after an event. event: ACTION and SUBSYSTEM."""
        known, links, tags, jump = dict(properties), list[str](), list[str](), ""
        for line in self._lines:
            if jump and ("LABEL", "", "=", jump) not in line:
                continue
            jump = ""
            matches = [word for word in line if word[2] in ("==", "!=")]
            if not all(
                _holds(event.get(key, "") if not name else known.get(name, ""), operator, value) for key, name, operator, value in matches
            ):
                continue
            for key, name, _, value in (word for word in line if word not in matches):
                text = re.sub(r"\$env\{(\w+)\}", lambda found: known.get(found[1], ""), value)
                if key == "ENV":
                    known[name] = text
                elif key == "GOTO":
                    jump = value
                elif key != "LABEL":
                    (links if key == "SYMLINK" else tags).append(text)
        return known, links, tags


def _words(line: str) -> list[tuple[str, str, str, str]]:
    words, end = [], 0
    for found in _WORD.finditer(line):
        key, name, operator, value = found[1], found[2] or "", found[3], found[4]
        if found.start() != end or key not in (_MATCHES if operator in ("==", "!=") else _ASSIGNMENTS) or (key == "ENV") != bool(name):
            raise ValueError(f"not a rule: {line}")
        words.append((key, name, operator, value))
        end = found.end()
    if end != len(line):
        raise ValueError(f"not a rule: {line[end:]}")
    return words


def _holds(found: str, operator: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(found, pattern) == (operator == "==")
