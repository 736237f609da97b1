"""The types of the public names: `python -m imgcls.api.stub > imgcls/__init__.pyi`."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator

from imgcls.api.keywords import is_keyword_call

_HEADER = '''"""Made by `python -m imgcls.api.stub > imgcls/__init__.pyi`; a test keeps it true."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import torch

from imgcls.engine.training.events import Event
from imgcls.jobs.train.start import Begun
from imgcls.results.audit import AuditReport
from imgcls.results.benchmark import BenchmarkReport
from imgcls.results.evaluation import EvalReport, PageReport
from imgcls.results.export import ExportReport
from imgcls.results.models import ModelEntry
from imgcls.results.prediction import PredictReport
from imgcls.results.runs import RunList
from imgcls.results.search import TuneResult
from imgcls.results.training import ImportReport, TrainResult
'''


def stub() -> str:
    """The stub: calls with their keywords and docstrings, all other names from their homes."""
    homes: dict[str, str] = vars(sys.modules["imgcls"])["_HOMES"]
    calls, imports = [], []
    for name, home in sorted(homes.items(), key=lambda item: (item[1], item[0])):
        found = getattr(importlib.import_module(home), name)
        if is_keyword_call(found):
            calls.append("\n".join(_call(name, found)))
        elif inspect.isclass(found) and is_keyword_call(found.__init__):
            imports.append(f"from {home} import {name} as _{name}")
            calls.append(f"class {name}(_{name}):\n{textwrap.indent(_made(found), '    ')}")
        else:
            imports.append(f"from {home} import {name} as {name}")
    names = "".join(f'    "{name}",\n' for name in homes)
    return "\n".join([_HEADER + "\n".join(imports), f"__all__ = [\n{names}]", "", *calls]) + "\n"


def _made(found: type) -> str:
    return "\n".join(_call("__init__", found.__init__))  # type: ignore[misc]


def _call(name: str, found: object) -> Iterator[str]:
    signature = inspect.signature(found)  # type: ignore[arg-type]
    yield f"def {name}("
    is_placed = True
    for parameter in signature.parameters.values():
        if is_placed and parameter.kind is parameter.KEYWORD_ONLY:
            is_placed = False
            yield "    *,"
        yield f"    {parameter},"
    yield f") -> {signature.return_annotation}:"
    yield textwrap.indent(f'"""{inspect.getdoc(found)}\n"""', "    ")


if __name__ == "__main__":
    sys.stdout.write(stub())
