"""Training curves: losses, scores and the learning rate over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgcls.output.plots.drawing import INK, LINES, Drawing, canvas, place_tooltips

_SCORES = (
    ("val_accuracy", "accuracy"),
    ("val_balanced_accuracy", "balanced accuracy"),
    ("val_macro_f1", "F1, macro"),
)
_FEW_EPOCHS = 30


def draw_training(
    history: Sequence[Mapping[str, float | None]], best_epoch: int | None, share: float | None
) -> Drawing:
    """The rows of history.csv as lines; best_epoch is marked, where 0 is the fitted classifier.

    share: None, or how far from the fitted classifier's weights to that epoch's the best ones lie.
    """
    epochs = [float(row["epoch"] or 0) for row in history]
    marker = "o" if len(epochs) <= _FEW_EPOCHS else None
    panels = (
        ("Loss", [("train_loss", "train"), ("val_loss", "val")]),
        ("Score on val", list(_SCORES)),
        ("Learning rate", [("lr", "learning rate")]),
    )
    tooltips = []
    with canvas(10.5, 3.4) as figure:
        row = figure.subplots(1, 3, width_ratios=[3, 3, 2])
        for axes, (title, lines) in zip(row, panels, strict=True):
            for (name, label), (color, dashes) in zip(lines, LINES, strict=False):
                values = [float("nan") if r.get(name) is None else r[name] for r in history]
                axes.plot(epochs, values, color=color, linestyle=dashes, label=label,
                          marker=marker, markersize=3)  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel("Epoch")
            axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(visible=True)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=INK, alpha=0.5, linewidth=0.9, linestyle=":")
            if len(lines) > 1:
                axes.legend()
        for axes, (_, lines) in zip(row, panels, strict=True):
            low, high = axes.get_ylim()
            tooltips += place_tooltips(
                figure,
                axes,
                [
                    (epoch - 0.5, low, epoch + 0.5, high, _tooltip(epoch, r, lines))
                    for epoch, r in zip(epochs, history, strict=True)
                ],
            )
    best = "" if best_epoch is None else f" The dotted line is the best epoch, {best_epoch}."
    if share is not None:
        best = (
            f" The best weights lie {share:.0%} of the way from those of epoch 0 to those of epoch "
            f"{best_epoch}, the dotted line."
        )
    if not epochs[0]:
        best = f" Epoch 0 is the fitted classifier, before any training by epochs.{best}"
    return Drawing(
        "training_curves",
        "Training curves",
        f"One point an epoch.{best}",
        figure,
        tooltips,
    )


def _tooltip(
    epoch: float, row: Mapping[str, float | None], lines: Sequence[tuple[str, str]]
) -> str:
    values = [
        f"{label} {value:.4g}" for name, label in lines if (value := row.get(name)) is not None
    ]
    return "\n".join([f"epoch {epoch:.0f}", *values])
