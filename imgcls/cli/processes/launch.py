"""`--devices`: the same command again, in one process a device."""

from __future__ import annotations

import sys
from typing import Literal

import typer

from imgcls.engine.device.launch import launch


def launch_if_several(devices: int | Literal["all"] | None, device: str) -> None:
    """Run the command in so many processes and end with its exit code; return where one will do."""
    if devices is None:
        return
    code = launch(devices, device, sys.argv[1:])
    if code is not None:
        raise typer.Exit(code)
