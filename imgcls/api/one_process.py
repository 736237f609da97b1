"""What a script may not ask of a call: other processes."""

from __future__ import annotations

from imgcls.config.base import Config
from imgcls.engine.device.launch import are_several
from imgcls.errors import ConfigError


def require_one_process(config: Config) -> None:
    """Raise ConfigError for a call that several processes shall do: those are a command's."""
    runtime = getattr(config, "runtime", config)
    if getattr(runtime, "devices", None) not in (None, 1):
        raise ConfigError(
            "devices: is for the command line, which starts a process for each; a script's call "
            "computes in the script's own"
        )
    if are_several():
        raise ConfigError(
            "this script was started as one of several processes, each of which would do the same: "
            "start the command itself, as in `torchrun --nproc-per-node 2 -m imgcls train`"
        )
