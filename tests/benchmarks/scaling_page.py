"""Fill examples/scaling.md with what its commands print: `python tests/benchmarks/scaling_page.py`.

Behind a change of examples/scaling.json or of a script. A block of the page that begins with
`$ python examples/...` holds that command's output.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "examples" / "scaling.md"
BLOCK = re.compile(r"^    \$ (python examples/.*)\n(?:    .*\n)*", re.MULTILINE)


def filled(text: str) -> str:
    """The page with each command's output as it is now."""

    def block(found: re.Match[str]) -> str:
        command = [sys.executable, *shlex.split(found[1])[1:]]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        lines = [f"    {line.rstrip()}\n" for line in done.stdout.splitlines()]
        return f"    $ {found[1]}\n{''.join(lines)}"

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
