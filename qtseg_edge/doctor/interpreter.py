"""This Python as an installation sees it: its folders in the order in which they are searched, and what lies in them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import site
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

# Debian's and Ubuntu's; apt puts JetPack's OpenCV and TensorRT there.
_SYSTEM_FOLDER = re.compile(r"usr/lib/python3[^/]*/dist-packages")


@dataclass(frozen=True)
class Distribution:
    """name: as PyPI compares them, with hyphens. folder: that was searched."""

    name: str
    version: str
    folder: Path


@dataclass(frozen=True)
class Interpreter:
    """folders: of `sys.path`, in their order. root: where the file system begins. may_use: whether this user may read and write
    a device.
    """

    version: tuple[int, int]
    prefix: Path
    base_prefix: Path
    folders: tuple[Path, ...]
    user_folder: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path("/")
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)

    @property
    def in_venv(self) -> bool:
        return self.prefix != self.base_prefix

    @property
    def system_folders(self) -> tuple[Path, ...]:
        return tuple(folder for folder in self.folders if self.is_system(folder))

    def is_system(self, folder: Path) -> bool:
        """apt filled it, not pip."""
        return folder.is_relative_to(self.root) and _SYSTEM_FOLDER.fullmatch(folder.relative_to(self.root).as_posix()) is not None

    @cached_property
    def distributions(self) -> tuple[Distribution, ...]:
        """In the order in which they are found; a broken one is left out."""
        found = []
        for folder in self.folders:
            for distribution in importlib.metadata.distributions(path=[str(folder)]):
                name = distribution.metadata["Name"] if distribution.metadata else None
                if name:
                    found.append(Distribution(re.sub(r"[-_.]+", "-", name).lower(), distribution.version, folder))
        return tuple(found)

    def folders_with(self, module: str) -> tuple[Path, ...]:
        """Those that hold a module of this name, the one that is imported first."""
        return tuple(folder for folder in self.folders if _holds(folder, module))


def this_interpreter(root: Path = Path("/")) -> Interpreter:
    """The current folder, which no package is taken from, is left out."""
    folders = tuple(dict.fromkeys(Path(entry).absolute() for entry in sys.path if entry and Path(entry).is_dir()))
    user_folder = Path(site.getusersitepackages()) if site.ENABLE_USER_SITE else None
    return Interpreter(sys.version_info[:2], Path(sys.prefix), Path(sys.base_prefix), folders, user_folder, dict(os.environ), root)


def _holds(folder: Path, module: str) -> bool:
    try:
        return (folder / module / "__init__.py").exists() or (folder / f"{module}.py").exists() or any(folder.glob(f"{module}*.so"))
    except OSError:
        return False
