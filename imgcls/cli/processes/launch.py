"""`--devices`: the same command again, in one process a device."""

from __future__ import annotations

import sys
from typing import Literal

from imgcls.engine.device.launch import launch


class CommandEnded(BaseException):
    """The command was run by other processes, which have said all there is to say."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def launch_if_several(devices: int | Literal["all"] | None, device: str) -> None:
    """Run the command in so many processes; return where one will do.

    Raises CommandEnded behind it, with its exit code.
    """
    if devices is None:
        return
    code = launch(devices, device, sys.argv[1:])
    if code is not None:
        raise CommandEnded(code)
