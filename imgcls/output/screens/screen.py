"""Results as screens of 80 columns."""

from __future__ import annotations

import math
import shlex

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from imgcls.models.licences import licence_text
from imgcls.output.console import Console
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, percent, pictures_and_classes, reach
from imgcls.output.screens.epoch_table import between_in_words, deciding_numbers
from imgcls.output.text import visible
from imgcls.results.checkpoint import StartingWeights
from imgcls.results.evaluation import EvalReport
from imgcls.results.training import PlanReport, PreflightReport, TrainResult


def show_plan(console: Console, plan: PlanReport, *, is_result: bool = False) -> None:
    """What is going to happen: the result of `--dry-run`, else a few lines on the way."""
    # a line of its own, that no table folds: it is copied
    screens = (_plan_facts(plan), f"{'Output':<{len('Parameters')}}  {plan.output}")
    if is_result:
        console.result(plan, *screens, _class_table(plan))
    else:
        for screen in screens:
            console.say(screen)
    for note in plan.notes:
        console.warn(note)


def show_train_result(console: Console, result: TrainResult) -> None:
    """Best epoch, where the files are, and what to type next."""
    if result.members:
        _show_ensemble(console, result)
        return
    facts = facts_table()
    for fold in result.folds:
        best, val = fold.best_metrics, fold.val_pictures
        label = "Best epoch" if len(result.folds) == 1 else f"Fold {fold.fold}, best epoch"
        early = ", stopped early" if fold.stopped_early else ""
        if fold.epochs_run:
            which = f"{fold.best_epoch} of {fold.epochs_run}"
            if fold.share is not None:
                which = between_in_words(fold.share, fold.best_epoch)
            elif not fold.best_epoch:
                which = f"none of {fold.epochs_run}, the fitted head is kept"
            facts.add_row(label, f"{which}{early}")
        else:
            facts.add_row(label.replace("Best epoch", "Fitted head"), "no epochs to train")
        facts.add_row("  chosen by", deciding_numbers(fold.monitor, best))
        facts.add_row(
            "  validation",
            f"accuracy {percent(best['val_accuracy'], val)}, balanced "
            f"{percent(best['val_balanced_accuracy'], val)}, "
            f"F1 {percent(best['val_macro_f1'], val)}, "
            f"loss {best['val_loss']:.4f}",
        )
    if result.summary is not None:
        mean, std, pooled = (result.summary[k] for k in ("mean", "std", "pooled"))
        count = pooled["samples"]
        for name in ("accuracy", "balanced_accuracy", "f1_macro"):
            facts.add_row(
                metric_title(name),
                f"{percent(mean[name], count)} ± {percent(std[name], count)} over folds, "
                f"{percent(pooled[name], count)} pooled",
            )
    if result.bad_images:
        facts.add_row("Left out", f"{result.bad_images:,} unreadable pictures, see bad_images.csv")
    facts.add_row("Time", duration(sum(fold.elapsed_s for fold in result.folds)))
    console.result(result, panel("Trained", facts))
    if result.summary is not None:
        console.path("Summary", str(result.run / "summary.json"))
    else:
        console.path("Best weights", str(result.folds[0].best_checkpoint))
    several = " --fold all" if len(result.folds) > 1 else " --split test"
    console.path("Next", f"imgcls evaluate {shlex.quote(str(result.run))}{several}")


def _show_ensemble(console: Console, result: TrainResult) -> None:
    """Each model's validation, and how their average does on test."""
    facts = facts_table()
    part = "model" if len(result.members) > 1 else "fold"
    for member in result.members:
        for fold in member.folds:
            best, val = fold.best_metrics, fold.val_pictures
            which = f", fold {fold.fold}" if len(member.folds) > 1 else ""
            facts.add_row(
                f"{member.model_name}{which}",
                f"validation: balanced accuracy {percent(best['val_balanced_accuracy'], val)}, "
                f"loss {best['val_loss']:.4f}",
            )
    if (average := result.average) is not None and average.ensemble is not None:
        for name, gain in average.ensemble.gain.items():
            if name in ("balanced_accuracy", "nll"):
                written = metric_writer(name, average.ensemble.samples)
                within = reach(gain.interval, written)
                facts.add_row(
                    f"Average, {metric_title(name)}",
                    f"{written(gain.this)} on {average.split}{_views(average)}, change against one "
                    f"{part} alone {written(gain.difference)}{within and f' ({within})'}",
                )
    elif average is None:
        facts.add_row("Average", "not evaluated, since there is no test split")
    folds = [fold for member in result.members for fold in member.folds]
    facts.add_row("Time", duration(sum(fold.elapsed_s for fold in folds)))
    console.result(result, panel("Trained", facts))
    if average is not None and average.page is not None:
        console.path("Report", str(average.page))
    tta = _tta(average)
    console.path("Next", f"imgcls predict photos --checkpoint {shlex.quote(str(result.run))}{tta}")


def _views(average: EvalReport) -> str:
    return f" with{views}" if (views := _tta(average)) else ""


def _tta(average: EvalReport | None) -> str:
    """The option that scores as this average was scored, behind a space; or nothing."""
    gain = None if average is None else average.ensemble
    return "" if gain is None or gain.tta == "none" else f" --tta {gain.tta}"


def _plan_facts(plan: PlanReport) -> RenderableType:
    facts = facts_table(len("Parameters"))
    counts = {
        split: sum(row[split] for row in plan.class_counts.values())
        for split in ("train", "val", "test")
    }
    size = pictures_and_classes(sum(counts.values()), len(plan.class_names))
    facts.add_row("Data", f"{plan.data}: {size}")
    facts.add_row(
        "Split",
        f"{counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test "
        f"({plan.splitter}{_folds(plan)})",
    )
    if plan.preflight is not None:
        facts.add_row("Checked", _checked(plan.preflight))
    facts.add_row("Model", f"{plan.model_name}, {plan.start}, {plan.img_size} pixels")
    if plan.starting_weights.kind != "random":
        facts.add_row("Weights", _weights(plan.starting_weights))
    if plan.parameters_total is not None:
        everything = plan.parameters_trainable == plan.parameters_total
        trained = "all" if everything else f"{plan.parameters_trainable:,}"
        facts.add_row("Parameters", f"{plan.parameters_total:,}, {trained} trained")
    facts.add_row("Recipe", plan.recipe)
    if plan.epochs:
        accumulated = f" x {plan.grad_accum} batches" if plan.grad_accum > 1 else ""
        divided = f" in {plan.processes} processes" if plan.processes > 1 else ""
        facts.add_row(
            "Training",
            f"{plan.opt}, lr {plan.lr:.3g}, batch {plan.batch_size}{divided}{accumulated}, "
            f"{plan.epochs} "
            f"epoch{'s' * (plan.epochs != 1)} of {plan.steps_per_epoch} "
            f"step{'s' * (plan.steps_per_epoch != 1)}",
        )
    for index, reason in enumerate(plan.reasons):
        facts.add_row("" if index else "Chosen", reason)
    if plan.unbalanced:
        facts.add_row(
            "Imbalance",
            f"{plan.imbalance_ratio:.0f} to 1 between the largest class and the smallest: "
            f"{plan.imbalance}, best epoch by {plan.monitor}",
        )
    facts.add_row(
        "Device",
        f"{plan.device} ({plan.device_name}), {_precision(plan.amp)}, {plan.workers} loader "
        f"process{'es' if plan.workers != 1 else ''}",
    )
    if plan.memory_mib is not None:
        whose = "of the GPU" if plan.device.startswith("cuda") else "of the process"
        facts.add_row(
            "Memory", f"about {plan.memory_mib:,.0f} MiB {whose} at its peak ({plan.memory_by})"
        )
    if plan.expected_s is not None:
        facts.add_row("Time", f"about {_roughly(plan.expected_s)}{_for_what(plan)}")
    return facts


def _roughly(seconds: float) -> str:
    """An estimated time, to no more digits than it is good for."""
    minutes = seconds / 60
    if seconds < 60:  # noqa: PLR2004  seconds in a minute
        return f"{max(math.ceil(seconds / 5) * 5, 5)} s"
    if minutes < 90:  # noqa: PLR2004  what people still count in minutes
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} hours"


def _for_what(plan: PlanReport) -> str:
    several = len(plan.folds) > 1
    folds = f" for all {len(plan.folds)} folds" if several else ""
    whole = f", if {'none stops' if several else 'it does not stop'} early" if plan.epochs else ""
    return f"{folds}{whole}"


def _weights(weights: StartingWeights) -> str:
    if weights.kind == "unknown":
        return "of unknown origin and licence"
    return ", ".join(filter(None, [weights.name, f"licence {licence_text(weights.licence)}"]))


def _folds(plan: PlanReport) -> str:
    if not plan.k_folds:
        return ""
    return f", fold {plan.folds[0]}{' first' if len(plan.folds) > 1 else ''}"


def _checked(found: PreflightReport) -> str:
    # copies of what was not read are not known
    among = " among them" if found.read < found.pictures else ""
    wrong = [
        words
        for count, words in (
            (len(found.unreadable), f"{len(found.unreadable):,} unreadable and left out"),
            (found.leaks, f"{found.leaks:,} with an identical copy{among} in another split"),
            (found.conflicts, f"{found.conflicts:,} with one under another label"),
        )
        if count
    ]
    if found.read < found.pictures:
        drawn = f"{found.read:,} of {found.pictures:,} pictures, drawn at random"
        said = ", ".join(wrong) or f"all are whole, none has a copy{among} in another split"
        return f"{drawn}: {said}; imgcls inspect reads all"
    if not wrong:
        return f"all {found.pictures:,} pictures are whole, none has a copy in another split"
    return f"{', '.join(wrong)}, of {found.pictures:,} pictures; see imgcls inspect"


def _class_table(plan: PlanReport) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("Class", overflow="fold")
    for split in ("train", "val", "test"):
        table.add_column(split, justify="right")
    for name, counts in plan.class_counts.items():
        table.add_row(name, *(str(counts[s]) for s in ("train", "val", "test")))
    return Group("", table)


def facts_table(label_width: int = 0) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=label_width)
    table.add_column(overflow="fold")
    return table


def titled_table(title: str, first: str, *others: str) -> Table:
    """A table without lines: a column of texts, then columns of numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def prose(text: str, style: str = "") -> Text:
    """Sentences that are wrapped between words; names in them may hold anything."""
    return Text(visible(text), style)


def option_value(value: object) -> str:
    """The value of an option; one without is shown as missing."""
    return MISSING if value is None else str(value)


def panel(title: str, content: RenderableType) -> Panel:
    # a title that is plain text would be read as markup
    return Panel(content, title=Text(visible(title)), title_align="left", expand=False)


def _precision(amp: str) -> str:
    return {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}[amp]


def duration(seconds: float) -> str:
    """The time in the two largest units that it fills."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  seconds in a minute
        return f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
