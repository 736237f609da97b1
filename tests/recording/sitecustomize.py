"""Lets an `imgcls` that is started with this folder in PYTHONPATH write down what it trains on."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys

_PATCHED = "imgcls.engine.training.fit"


class _RecordingWhenLoaded(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def load(module):
            run(module)
            import worlds

            worlds.record_steps(module)

        spec.loader.exec_module = load
        return spec


sys.meta_path.insert(0, _RecordingWhenLoaded())
