"""The command line, thin: one file a group of commands. Heavy imports wait until a command runs."""

import sys
import tempfile
import traceback

from openlum.cli import data, steps  # noqa: F401 - they add their commands
from openlum.cli.bench import bench
from openlum.cli.shared import app
from openlum.errors import InputError

app.add_typer(bench, name="bench")

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


def main() -> None:
    """Entry point. Exit status: 0 fine, 2 the user's input, 1 our fault."""
    try:
        app()
    except InputError as error:
        print(f"lum: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"lum: memory ran out ({error}); use smaller settings, or a machine with more", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"lum: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print(
                "lum: interrupted; the same command goes on: with finished steps and trainings of a benchmark, and where a "
                "pretraining was; other steps begin again",
                file=sys.stderr,
            )
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="lum-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"lum: internal error: {error!r}. This is our fault; the details are in {log.name}", file=sys.stderr)
        sys.exit(1)
