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
from .terminal import BROKEN_PIPE, Terminal, open_streams, redirect, shortened, stoppable, wish

OF_THE_PATH = (
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EROFS),
    *(errno.ENXIO, errno.EEXIST),
)
"""What may be wrong with a path that somebody names, wherever it is first looked at."""
OF_THE_OUTPUT = (errno.ENOSPC, errno.EIO, errno.EPIPE)


def main() -> None:
    """Runs the command line and ends the process."""
    open_streams()
    errors = Terminal(stderr=True)
    try:
        with stoppable():
            status = _flushed(_status(errors), errors)
    except Stopped as stop:  # on the way out
        status = stop.status
    if wish() is not None:
        # All is put away. What libraries do at the end of a process may wait for workers that were ended, for ever.
        os._exit(status)
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
        return _carried_out()
    except BaseException as error:
        stop = error if isinstance(error, Stopped) else wish()  # of which a library made an error of its own
        if stop is None:
            return _failed(error, errors)
        how = "; ".join(getattr(stop, "__notes__", ())) or "nothing was begun that could be gone on with"
        _say(errors, f"secateur: {stop.word}; {how}")
        return stop.status


def _carried_out() -> int:
    from .cli.main import app
    from .cli.shared import console

    status = app(standalone_mode=False)
    return status if isinstance(status, int) else BROKEN_PIPE if console.broken else 0


def _failed(error: BaseException, errors: Terminal) -> int:
    """Says what went wrong, and returns the status that goes with it; raises what is a fault of ours."""
    if isinstance(error, SecateurError):
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        _say(errors, f"secateur: {error}")
        return 2
    if isinstance(error, KeyboardInterrupt):  # of a library's own making
        _say(errors, "secateur: interrupted")
        return 130
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return BROKEN_PIPE  # typer's answer where the reader of its help went away
    if isinstance(error, OSError) and error.filename is not None and error.errno in OF_THE_PATH:
        _say(errors, f"secateur: {error.filename}: {os.strerror(error.errno)}")
        return 2
    if isinstance(error, OSError) and error.filename is None and error.errno in OF_THE_OUTPUT:
        redirect(sys.stdout)
        return _undelivered(errors, error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        _say(errors, f"secateur: out of memory: {error}; what was finished is kept")
        return 2
    # typer brings a copy of click or uses the installed one, by version; both name the class alike.
    if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
        from typer.rich_utils import rich_format_error

        with contextlib.suppress(OSError):  # nobody reads
            rich_format_error(error)  # type: ignore[arg-type]
        return int(getattr(error, "exit_code", 2))
    raise error


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
