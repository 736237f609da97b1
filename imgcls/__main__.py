"""The process: `imgcls` and `python -m imgcls`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # what start-up makes lives to the end: collecting it is a tenth of the time `--help` takes.
    # A command turns the collector on again before its work begins (cli/options.py).
    gc.disable()
    # imported here so that Ctrl-C is met cleanly at any moment after this line
    try:
        from imgcls.cli.boundary import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nimgcls: stopped\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
