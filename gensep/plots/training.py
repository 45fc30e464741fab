"""Loss curves of a training run."""

from pathlib import Path

from gensep.plots.figure import plt, save


def plot_training(path: Path, rows: list[dict[str, float]], loss_name: str) -> None:
    """Draw training loss, validation loss and validation loss per noise level over the steps.

    Args:
        path: of the picture.
        rows: rows of the log of a run, see `gensep.training.run_folder.read_metrics`.
        loss_name: label of the axis.
    """
    valid = [row for row in rows if "valid_loss" in row]
    train = [row for row in rows if "loss" in row]
    # a linear axis for negative log densities, which may be negative
    values = [row[name] for row in rows for name in row if "loss" in name]
    scale = "log" if all(v > 0 for v in values) else "linear"
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot([r["step"] for r in train], [r["loss"] for r in train], lw=0.7, label="training")
    left.plot(
        [r["step"] for r in valid],
        [r["valid_loss"] for r in valid],
        "o-",
        ms=3,
        label="validation (averaged weights)",
    )
    left.set(xlabel="step", ylabel=loss_name, yscale=scale)
    left.legend()
    names = [name for name in (valid[0] if valid else {}) if name.startswith("valid_loss_sigma_")]
    for name in names:
        right.plot(
            [r["step"] for r in valid],
            [r[name] for r in valid],
            label=f"sigma {name.rsplit('_', 1)[1]}",
        )
    right.set(xlabel="step", ylabel="validation loss by noise level", yscale=scale)
    if names:
        right.legend(fontsize=8, ncols=2)
    save(figure, path)
