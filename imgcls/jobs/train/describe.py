"""What a run is going to do, before it does it."""

from __future__ import annotations

from pathlib import Path

from imgcls.engine.device.memory import guess_training_memory_mib
from imgcls.engine.device.runtime import amp_name, device_label
from imgcls.engine.scoring.features import whole_model
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly
from imgcls.models.build import count_parameters
from imgcls.results.training import PlanReport


def describe_plan(
    plan: Plan, run: Path | None = None, assembly: Assembly | None = None
) -> PlanReport:
    """The plan as a record for screen and JSON.

    assembly: the first fold, ready to train, to count its parameters and guess the memory it takes.
    """
    config, fold = plan.config, plan.folds[0]
    counts = {
        split: plan.table.class_counts(plan.assignment.indices(split, fold))
        for split in ("train", "val", "test")
    }
    steps = plan.steps_per_epoch(fold)
    trainable = total = memory_mib = None
    if assembly is not None:
        model = whole_model(assembly.parts.learner.model)
        trainable, total = count_parameters(model)
        memory_mib = guess_training_memory_mib(
            model,
            assembly.preprocessing.input_size,
            min(plan.pace.batch_size, int(counts["train"].sum())),
            half=plan.compute.precision is not None,
        )
    return PlanReport(
        data=config.data.source,
        splitter=plan.assignment.splitter,
        folds=plan.folds,
        k_folds=config.data.folds,
        class_names=plan.class_names,
        class_counts={
            name: {split: int(counts[split][i]) for split in counts}
            for i, name in enumerate(plan.class_names)
        },
        model_name=config.model.name,
        start=_start(plan, assembly),
        recipe=plan.recipe.describe(),
        img_size=plan.img_size,
        parameters_trainable=trainable,
        parameters_total=total,
        opt=config.optim.opt,
        lr=plan.pace.lr,
        batch_size=plan.pace.batch_size,
        grad_accum=config.optim.grad_accum,
        epochs=plan.epochs,
        steps_per_epoch=steps,
        total_steps=steps * plan.epochs * len(plan.folds),
        monitor=plan.recipe.monitor,
        imbalance=plan.recipe.imbalance,
        imbalance_ratio=plan.recipe.imbalance_ratio,
        unbalanced=plan.recipe.unbalanced,
        device=str(plan.compute.device),
        device_name=device_label(plan.compute.device),
        amp=amp_name(plan.compute.precision),
        workers=plan.workers,
        memory_mib=memory_mib,
        output=run or config.runtime.output,
        preflight=plan.preflight,
        reasons=plan.reasons,
        notes=(*plan.assignment.notes, *plan.notes),
    )


def _start(plan: Plan, assembly: Assembly | None) -> str:
    if plan.config.model.weights is not None:
        taken = "weights" if assembly is None else assembly.weights or "weights"
        return f"{taken} from {plan.config.model.weights}"
    return "pretrained" if plan.pretrained else "from scratch"
