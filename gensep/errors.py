"""What every command says, and the code it exits with, when something is wrong."""

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend: one line with what was expected, what came, what to do."""


def run(command: Callable[[list[str]], None]) -> None:
    """Run `command(argv)`; exit with 2 after one line for bad input, with 130 after Ctrl-C."""
    try:
        command(sys.argv[1:])
    except UserError as error:
        sys.exit(_say(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT):
            raise
        where = f" {error.filename}" if error.filename else ""
        sys.exit(_say(f"cannot write{where}: {error.strerror}; free some space or choose another "
                      "folder with --output"))


def _say(message: object) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
