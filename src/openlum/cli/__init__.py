"""The command line: one file for each group of commands. Heavy libraries are imported when a command runs."""

import gc
import sys
import tempfile
import traceback

from openlum.cli import ask, logs, steps, verify  # noqa: F401 - the imports register the commands
from openlum.cli.bench import bench
from openlum.cli.export import export
from openlum.cli.knowledge import knowledge
from openlum.cli.shared import app
from openlum.errors import InputError

app.add_typer(bench, name="bench")
app.add_typer(export, name="export")
app.add_typer(knowledge, name="knowledge")

NEW_OBJECTS = 50_000
"""The garbage collector starts after this number of new objects. With fewer, it would search the classes of every import."""
INTERRUPTED = 130
"""The exit status after Ctrl-C."""


def main() -> None:
    """Run the command line. The exit status is 0 for success, 2 for wrong input and 1 for an internal error."""
    gc.set_threshold(NEW_OBJECTS)
    try:
        app()
    except InputError as error:
        print(f"lum: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"lum: out of memory ({error}); use smaller settings, or a machine with more memory", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"lum: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            print(
                "lum: interrupted. Run the same command again to resume: finished steps and trainings are skipped, pre-training "
                "continues from its last checkpoint, and other steps start again.",
                file=sys.stderr,
            )
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="lum-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(
            f"lum: internal error: {error!r}. This is a bug in openlum; please report it with the details in {log.name}",
            file=sys.stderr,
        )
        sys.exit(1)
