"""The process: `imgcls` and `python -m imgcls`."""

from __future__ import annotations

import gc
import os
import sys

SPINS = "20000"


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # what start-up makes lives to the end: collecting it is a tenth of the time `--help` takes.
    # A command turns the collector on again before its work begins (cli/options.py).
    gc.disable()
    # how often a thread of GNU OpenMP looks for the others before it sleeps, read when torch loads.
    # Its own number is 15 times that: on cores that others want too, as loader processes do, each
    # small operation then waits for one that cannot run. tests/benchmarks/waiting.py
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from imgcls.cli.streams import GuardedStreams
    from imgcls.engine.device.launch import are_several

    streams = GuardedStreams()
    # imported here so that Ctrl-C is met cleanly at any moment after this line
    try:
        from imgcls.cli.boundary import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nimgcls: stopped\n")
        code = 130
    if not gc.isenabled():  # nor is there anything to collect at the end, which Python would do
        gc.freeze()
    code = streams.exit_code(code)
    if are_several():
        sys.stderr.flush()
        # past what C++ takes down on its way out, with torch's threads still in it
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
