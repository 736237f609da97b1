"""What a run is going to do, before it does it."""

from __future__ import annotations

from pathlib import Path

from imgcls.engine.device.runtime import amp_name, device_label
from imgcls.engine.scoring.features import whole_model
from imgcls.jobs.plan.model import ModelPlan
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly
from imgcls.jobs.train.several.in_parallel import processes_of
from imgcls.jobs.train.time_budget import expected_s
from imgcls.models.counting import count_parameters
from imgcls.results.training import PlanReport


def describe_plan(
    plan: Plan,
    run: Path | None = None,
    assembly: Assembly | None = None,
    *,
    measure: bool = False,
) -> PlanReport:
    """The plan as a record for screen and JSON.

    assembly: the first fold, ready to train, to count its parameters. measure: also the memory and
    the time that training takes, from the first epoch on.
    """
    config, fold = plan.config, plan.data.folds[0]
    counts = {split: plan.data.class_counts(split, fold) for split in ("train", "val", "test")}
    steps = plan.pace.steps_per_epoch(int(counts["train"].sum()))
    trainable = total = memory_mib = memory_by = time_s = None
    if assembly is not None:
        model = whole_model(assembly.parts.learner.model)
        trainable, total = count_parameters(model)
    if measure:
        memory_mib, memory_by = plan.memory.peak_mib(plan.pace.batch_size)
        time_s = expected_s(plan)
    return PlanReport(
        data=config.data.source,
        splitter=plan.data.assignment.splitter,
        folds=plan.data.folds,
        k_folds=config.data.folds,
        class_names=plan.data.class_names,
        class_counts={
            name: {split: int(counts[split][i]) for split in counts}
            for i, name in enumerate(plan.data.class_names)
        },
        model_name=config.model.name,
        start=_start(plan.model, assembly),
        starting_weights=plan.model.starting_weights,
        recipe=plan.recipe.describe(),
        img_size=plan.model.img_size,
        parameters_trainable=trainable,
        parameters_total=total,
        opt=config.optim.opt,
        lr=plan.pace.lr,
        batch_size=plan.pace.batch_size,
        grad_accum=plan.pace.grad_accum,
        epochs=plan.epochs,
        steps_per_epoch=steps,
        total_steps=steps * plan.epochs * len(plan.data.folds),
        monitor=plan.recipe.monitor,
        imbalance=plan.recipe.imbalance,
        imbalance_ratio=plan.recipe.imbalance_ratio,
        unbalanced=plan.recipe.unbalanced,
        device=str(plan.compute.device),
        device_name=device_label(plan.compute.device),
        amp=amp_name(plan.compute.precision),
        workers=plan.loading.workers,
        memory_mib=memory_mib,
        memory_by=memory_by,
        expected_s=time_s,
        output=run or config.runtime.output,
        preflight=plan.data.preflight,
        reasons=plan.reasons,
        notes=(*plan.model.notes, *plan.data.assignment.notes, *plan.notes),
        processes=processes_of(plan),
    )


def _start(model: ModelPlan, assembly: Assembly | None) -> str:
    if model.config.weights is not None:
        taken = "weights" if assembly is None else assembly.weights or "weights"
        return f"{taken} from {model.config.weights}"
    if model.starting_weights.kind == "unknown":
        return "imported"
    return "pretrained" if model.pretrained else "from scratch"
