"""Windows, played on Linux for a whole process and its children: put this folder on PYTHONPATH.

What Windows lacks is taken away (forking, its signals, what the kernel tells about cores and
memory, symbolic links for ordinary users), and what it forbids is refused: renaming, replacing or
removing a file that this process has open or mapped, and replacing a folder. Paths, locks and the
console stay those of this system.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import DefaultContext

from files_in_use import RESTRICTED, refused_while_in_use

if sys.platform != "linux":
    raise RuntimeError("this plays another system on Linux")

_LACKING = {
    os: ("fork", "forkpty", "sched_getaffinity", "posix_fallocate", "geteuid", "getuid"),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigtimedwait"),
}
_MODULES = ("pwd", "grp", "termios")


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
for name in RESTRICTED:
    setattr(os, name, refused_while_in_use(getattr(os, name)))
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
