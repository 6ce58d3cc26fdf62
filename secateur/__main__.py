"""How the program starts and ends: `secateur` and `python -m secateur`.

Status 0: done; 2: an error that is the user's to mend, in one message; 130 and 143: interrupted, terminated; 141: the
output was not read to its end. A traceback and status 1 are a fault of ours.
"""

import contextlib
import errno
import os
import sys
import traceback

from .space.errors import SecateurError, Stopped
from .terminal import BROKEN_PIPE, Terminal, open_streams, redirect, shortened, stoppable

OF_THE_PATH = (
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EROFS),
    *(errno.ENXIO, errno.EEXIST),
)
"""What may be wrong with a path that somebody names, wherever it is first looked at."""


def main() -> None:
    """Runs the command line and ends the process."""
    open_streams()
    errors = Terminal(stderr=True)
    with stoppable() as leave:
        try:
            status = _flushed(_status(errors), errors)
        except Stopped as stop:  # on the way out
            status = stop.status
        leave(status)
    sys.exit(status)


def _flushed(status: int, errors: Terminal) -> int:
    """Delivers what was printed; the status, or that of an output that could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            redirect(stream)
            if stream is sys.stdout:
                status = status or _undelivered(errors, error)
    return status


def _status(errors: Terminal) -> int:
    """Carries a command out; says what went wrong, and returns the status that goes with it."""
    try:
        from .cli import app, console

        try:
            status = app(standalone_mode=False)
        except SecateurError as error:
            if "--debug" in sys.argv:
                traceback.print_exception(error)
            _say(errors, f"secateur: {error}")
            return 2
        return status if isinstance(status, int) else BROKEN_PIPE if console.broken else 0
    except Stopped as stop:
        how = "; ".join(getattr(stop, "__notes__", ())) or "nothing was begun that could be gone on with"
        _say(errors, f"secateur: {stop.word}; {how}")
        return stop.status
    except SystemExit as end:  # typer's answer where the reader of its help went away
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return BROKEN_PIPE
    except KeyboardInterrupt:  # of a library's own making
        _say(errors, "secateur: interrupted")
        return 130
    except OSError as error:
        if error.filename is not None and error.errno in OF_THE_PATH:
            _say(errors, f"secateur: {error.filename}: {os.strerror(error.errno)}")
            return 2
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EPIPE):
            raise
        redirect(sys.stdout)
        return _undelivered(errors, error)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            _say(errors, f"secateur: out of memory: {error}; what was finished is kept")
            return 2
        # typer brings a copy of click or uses the installed one, by version; both name the class alike.
        if not any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
            raise
        from typer.rich_utils import rich_format_error

        with contextlib.suppress(OSError):  # nobody reads
            rich_format_error(error)  # type: ignore[arg-type]
        return int(getattr(error, "exit_code", 2))


def _undelivered(errors: Terminal, error: OSError) -> int:
    if error.errno == errno.EPIPE:
        return BROKEN_PIPE
    _say(errors, f"secateur: cannot write to standard output: {os.strerror(error.errno or 0)}")
    return 2


def _say(errors: Terminal, message: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads
        errors.print(shortened(message), style="red", soft_wrap=True)


if __name__ == "__main__":
    main()
