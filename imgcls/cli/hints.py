"""Hints for a command line that could not be read: what to type instead."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from imgcls.config.other_names import OTHER_NAMES

# what no option of ours is another word for -> what to do
_OTHERWISE = {
    **dict.fromkeys(
        ("num-classes", "n-classes", "nb-classes", "classes"), "the classes are those of the data"
    ),
    **dict.fromkeys(
        ("val-dir", "valid-dir", "test-dir"),
        "name the folder that has train/, val/ and test/ in it",
    ),
    **dict.fromkeys(
        ("mean", "std", "crop-pct", "interpolation"), "it comes with the model's weights"
    ),
    **dict.fromkeys(("no-aug", "no-augment"), "write --augment none"),
    **dict.fromkeys(
        ("resume", "checkpoint"),
        "`imgcls resume RUN` goes on with a run; --weights begins a new one from its weights",
    ),
    **dict.fromkeys(("freeze", "freeze-backbone", "linear-probe"), "write --tune head"),
    "version": "write `imgcls --version`",
}
# other tools' commands -> ours
_VERBS = {
    **dict.fromkeys(("test", "eval", "val", "validate", "score"), "evaluate"),
    **dict.fromkeys(("classify", "infer", "inference", "label"), "predict"),
    **dict.fromkeys(("fit", "finetune", "fine-tune"), "train"),
    **dict.fromkeys(("models", "list", "ls-models"), "list-models"),
    **dict.fromkeys(("audit", "check", "verify"), "inspect"),
    **dict.fromkeys(("search", "sweep", "hpo"), "tune"),
    **dict.fromkeys(("convert", "onnx"), "export"),
    **dict.fromkeys(("bench", "speed", "time"), "benchmark"),
    **dict.fromkeys(("continue", "restart"), "resume"),
    **dict.fromkeys(("ls", "history", "experiments"), "runs"),
    **dict.fromkeys(("show", "info"), "runs show"),
    "diff": "runs diff",
    **dict.fromkeys(("prune", "clean", "gc"), "runs prune"),
    "help": "--help",
}
_LIKENESS = 0.8
_YES_OR_NO = frozenset(["true", "false", "yes", "no", "on", "off", "1", "0", "auto"])


def instead_of(option: str, command: Any) -> str | None:
    """What to type for an option that the command lacks, or None where nobody knows.

    option: as it was typed, such as `--model_name`. command: with its params.
    """
    name = option.lstrip("-").partition("=")[0].replace("_", "-").lower()
    wanted = OTHER_NAMES.get(name, name)
    for parameter in command.params:
        if f"--{wanted}" in parameter.opts:
            return f"did you mean --{wanted}?"
    argument = _argument(command)
    # a trained model is a CHECKPOINT here, a RUN or a MODEL there
    trained = ("checkpoint", "run", "model")
    names = trained if wanted in trained else (wanted,)
    if argument is not None and _metavar(argument).lower().removesuffix("s") in names:
        return f"give it without an option: {command.name} {_metavar(argument)}"
    advice = _OTHERWISE.get(name)
    if advice is not None and all(flag in _flags(command) for flag in _written(advice)):
        return advice
    shown = [flag for p in command.params if not getattr(p, "hidden", False) for flag in p.opts]
    is_word = len(name) > 1
    near = is_word and difflib.get_close_matches(f"--{name}", shown, n=1, cutoff=_LIKENESS)
    return f"did you mean {near[0]}?" if near else None


def verb_instead_of(word: str) -> str | None:
    """Our command for another tool's, or None where nobody knows."""
    verb = _VERBS.get(word.lower().replace("_", "-"))
    return f"did you mean `imgcls {verb}`?" if verb else None


def misplaced(arguments: Sequence[str], command: Any) -> str | None:
    """What is wrong with a value that is missing, or stands where none goes; None if nothing is.

    Without this `--output --epochs 3` is read as a folder called --epochs and the data 3.
    arguments: as typed behind the command's name.
    """
    flags = _flags(command)
    words = [*itertools.takewhile(lambda word: word != "--", arguments), None]
    for option, word in pairwise(words):
        parameter = flags.get(option or "")
        if parameter is None:
            continue
        if not getattr(parameter, "is_flag", False):
            if word is None or word in flags:
                return f"{option} needs a value: {parameter.metavar or 'TEXT'}"
        elif word is not None and word.lower() in _YES_OR_NO and not Path(word).exists():
            ways = " or ".join((*parameter.opts, *parameter.secondary_opts))
            ways += ", or leave it out" * (word.lower() == "auto")
            return f"{option} takes no value, and {word!r} stands behind it; write {ways}"
    return None


def too_many(extra: str, arguments: Sequence[str], command: Any) -> str:
    """Why arguments are too many, by what stands before the first.

    extra: all of them, joined by spaces. arguments: as typed behind the command's name.
    """
    flags = _flags(command)
    for option, value, word in zip(arguments, arguments[1:], arguments[2:], strict=False):
        both_numbers = all(re.fullmatch(r"[\d.,]+", text) for text in (value, word))
        if option in flags and both_numbers and extra.startswith(word):
            return f"{option} takes one value, and {word!r} is a second one"
    argument = _argument(command)
    if argument is None:
        return f"{command.name} takes options only; {extra!r} belongs to none"
    return (
        f"{_metavar(argument)} is one name, and {extra!r} is too many; quote a pattern, or a name "
        "with spaces, or the shell makes many names of it"
    )


def _flags(command: Any) -> dict[str, Any]:
    """The parameter of each option's name, the names of its denial too."""
    names: dict[str, Any] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            names |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), parameter)
    return names


def _argument(command: Any) -> Any:
    return next((p for p in command.params if p.param_type_name == "argument"), None)


def _written(advice: str) -> list[str]:
    """The options of this command that an advice names, not those of one that it spells."""
    return re.findall(r"--[a-z-]+", re.sub(r"`[^`]*`", "", advice))


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper().strip("[].")
