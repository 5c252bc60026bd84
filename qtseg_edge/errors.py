"""Every error a user can meet, each with the exit code of the command that it ends.

QtsegError             1  run-time failure
+- UsageError          2  an argument that cannot work
+- MissingError        3  a dependency or device that is not there
+- IncompatibleError   4  a checkpoint, model or engine that does not fit
+- GateError           5  accuracy or precision below what was asked
+- SourceLostError     6  a source that broke while it was being read
"""

from __future__ import annotations

INTERRUPTED = 130  # exit code of a command ended by Ctrl-C or SIGTERM, its outputs finalised


class QtsegError(Exception):
    """Its text is one line: what was wanted, what came, and the command that fixes it."""

    exit_code = 1


class UsageError(QtsegError):
    exit_code = 2


class MissingError(QtsegError):
    exit_code = 3


class IncompatibleError(QtsegError):
    exit_code = 4


class GateError(QtsegError):
    exit_code = 5


class SourceLostError(QtsegError):
    exit_code = 6
