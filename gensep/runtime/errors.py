"""Errors of users: the message of a command and its exit code."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType


class UserError(Exception):
    """A mistake that the user can correct: one line: expected, got, remedy."""


def run(command: Callable[[list[str]], None]) -> None:
    """Run `command(argv)`; exit with code 2 and one line for bad input, with 130 after Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
    try:
        command(sys.argv[1:])
    except UserError as error:
        sys.exit(_say(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # JAX crashes at exit while a computation is still running
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT):
            raise
        where = f" {error.filename}" if error.filename else ""
        remedy = "free some space or choose another folder with --output"
        sys.exit(_say(f"cannot write{where}: {error.strerror}; {remedy}"))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside JAX's garbage callback, which would swallow it."""
    while frame is not None:
        if frame.f_code.co_name == "_xla_gc_callback":
            main = threading.main_thread().ident
            again = threading.Timer(0.02, signal.pthread_kill, (main, number))
            again.daemon = True
            return again.start()
        frame = frame.f_back
    raise KeyboardInterrupt


def _say(message: object) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
