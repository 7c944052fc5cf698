"""Entry point of the command line: parse the words, import and run the command, report mistakes."""

import atexit
import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from basinet.launch.cli.output import FAILED, INTERRUPTED, MISTAKE, say, write
from basinet.launch.cli.parser import make_parser
from basinet.launch.terminal import settle_streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Under torchrun, the first rank runs it with the help of the others, which print nothing.

    Args:
        arguments: Words of the command line; those of the process by default.

    Returns:
        Exit status, the same at all ranks: 0 done, 1 a run failed or a submission was refused, 2 a mistake in what was
        asked, 130 interrupted.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)  # skip the last garbage collection, which takes half a second
    settle_streams()
    try:
        status = _main(arguments)
    finally:
        ranks = sys.modules.get("basinet.sim.runtimes.torchrun")
        if ranks is not None and ranks.met():
            # torchrun kills the other ranks as soon as one has exited with an error: let each exit with its own status.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ranks is not None and ranks.follows():
        # Process groups torn down at exit may abort the interpreter once the first rank is gone.
        ranks.leave()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _main(arguments: Sequence[str] | None) -> int:
    parser = make_parser()
    options, later = parser.parse_known_args(arguments)
    if any(word.startswith("-") for word in later) or (later and "words" not in options):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:  # argparse accepts no further words after an option
        options.words += later
    try:
        with _loading():
            command = importlib.import_module(f"basinet.launch.cli.commands.{options.command}_command")
        status: int = command.execute(options)
        write()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        return _end(error)
    return status


_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO)
"""Errors of a full or failing disk, which are not mistakes of the user."""


def _end(error: Exception) -> int:
    """Report a mistake in one sentence, or raise a defect with its traceback; return the exit status."""
    from basinet.sim.experiment.mistakes import ExperimentError, first_line

    ranks = sys.modules.get("basinet.sim.runtimes.torchrun")
    follows = ranks is not None and ranks.follows()
    if (ranks is not None and ranks.failed()) or not isinstance(error, (ExperimentError, OSError)):
        if not follows:
            raise error
        say(f"basinet: rank {os.environ['RANK']}: {error}")
        return FAILED
    if not (follows or ("TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0")):
        # Otherwise the first rank says it.
        say(f"basinet: {first_line(error)}")
    return FAILED if isinstance(error, OSError) and error.errno in _DISK else MISTAKE


@contextmanager
def _loading() -> Iterator[None]:
    """Import modules without garbage collection, now or later, among their million permanent objects."""
    first = "torch" not in sys.modules
    if first:
        gc.disable()
    try:
        yield
    finally:
        if first:
            gc.enable()
            gc.freeze()
