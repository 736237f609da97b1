"""Windows, played on Linux for a whole process and its children: put this folder on PYTHONPATH.

What Windows lacks is taken away (forking, its signals, what the kernel tells about cores and
memory, symbolic links for ordinary users), and what it forbids is refused: renaming, replacing or
removing a file that this process has open or mapped, and replacing a folder. Paths, locks and the
console stay those of this system.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import DefaultContext
from pathlib import Path

if sys.platform != "linux":
    raise RuntimeError("this plays another system on Linux")

_LACKING = {
    os: ("fork", "forkpty", "sched_getaffinity", "posix_fallocate", "geteuid", "getuid"),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigtimedwait"),
}
_MODULES = ("pwd", "grp", "termios")


def _in_use() -> set[str]:
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if len(parts := line.split(maxsplit=5)) == 6:
            found.add(parts[5])
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = descriptor.readlink()
            if not target.is_dir():
                found.add(str(target))
    return found


def _refused_while_in_use(function):
    def call(path, *rest, **keywords):
        names = [Path.cwd() / os.fsdecode(name) for name in (path, *rest[:1])]
        if keywords.get("dir_fd") is not None:
            names = [Path(f"/proc/self/fd/{keywords['dir_fd']}").readlink() / os.fsdecode(path)]
        for used in _in_use():
            if any(Path(used).is_relative_to(name) for name in names):
                raise PermissionError(errno.EACCES, "in use by this process", str(used))
        if function.__name__ == "replace" and Path(rest[0]).is_dir():
            raise PermissionError(errno.EACCES, "a folder cannot be replaced", str(rest[0]))
        return function(path, *rest, **keywords)

    return call


def _no_links(source, target, target_is_directory=False, **keywords):
    raise OSError(errno.EPERM, "a required privilege is not held by the client", str(target))


def _spawned(self, method=None, _get_context=DefaultContext.get_context):
    return _get_context(self, "spawn" if method in (None, "fork") else method)


def _sysconf(name, _sysconf=os.sysconf):
    # psutil asks it on Linux, and something else on Windows
    if sys._getframe(1).f_globals.get("__name__", "").startswith("imgcls"):
        raise AttributeError("module 'os' has no attribute 'sysconf'")
    return _sysconf(name)


os.sysconf = _sysconf
for name in ("rename", "replace", "unlink", "remove", "rmdir"):
    setattr(os, name, _refused_while_in_use(getattr(os, name)))
os.symlink = _no_links
DefaultContext.get_context = _spawned
multiprocessing.get_context = multiprocessing.context._default_context.get_context
multiprocessing.set_start_method("spawn")
for module, names in _LACKING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in _MODULES:
    sys.modules[name] = None  # importing it raises ImportError
