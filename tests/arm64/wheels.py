"""Prints what the runtime and its tests need, as requirements, read from the installed project: written down once."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement

# Of the extras, what the tests of `inside.py` use. PyAV reads video and writes H.264.
OPTIONAL = ("av", "pytest", "pytest-timeout", "hypothesis")


def wanted() -> list[str]:
    """Requirements without markers, sorted: the dependencies, and those of the extras that are named above."""
    found = {}
    for text in requires("qtseg-edge") or []:
        requirement = Requirement(text)
        if "extra" not in str(requirement.marker) or requirement.name in OPTIONAL:
            found[requirement.name] = f"{requirement.name}{requirement.specifier}"
    return sorted(found.values())


if __name__ == "__main__":
    print("\n".join(wanted()))
