"""Make stems from saved masks by another method, or sound from mel power alone."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run


@dataclass(frozen=True)
class Config:
    """Options of `gensep.invert`."""

    inputs: tuple[str, ...] = option(
        (),
        "folders that gensep.basis wrote with --save_masks, or .npz files of mel power alone",
        positional=True,
    )
    method: str | None = option(
        None,
        "spread, nnls, pinv, mixture_phase, griffin_lim, "
        "fast_griffin_lim, misi or em_wiener; by default misi, "
        "fast_griffin_lim without a mixture",
    )
    iterations: int | None = option(
        None, "of the method, in place of its own: 32 for Griffin-Lim, 5 for misi, 1 for em_wiener"
    )
    powers: str | None = option(
        None, "how mel bands become bins, in place of the method's own: spread, nnls or pinv"
    )
    residual: bool = option(
        False,
        "one more stem for what the powers lack of the mixture's; with powers nnls or pinv",
    )
    output: str | None = option(None, "folder of the stems; by default FOLDER/METHOD")
    mixture: str | None = option(None, "the mixture, if it is no longer where it was separated")
    reference: str | None = option(None, "folder of true stems: prints SI-SDR and its gain")
    seed: int = option(0, "seed of random phases, where there is no mixture")
    ext: str = option("wav", "format of the stems: wav, flac, ogg, ...")
    subtype: str | None = option(None, "sample format, e.g. PCM_16")


def main(argv: list[str]) -> None:
    """Invert every input; stop at the first that cannot be."""
    c = config.parse(Config, argv, prog="python -m gensep.invert", about=__doc__ or "")
    if not c.inputs:
        raise UserError("expected a folder that gensep.basis wrote with --save_masks; see --help")
    check(c)
    for name in c.inputs:
        path = Path(name)
        if path.suffix == ".npz" and not path.is_dir():
            invert_power_file(path, c)
        else:
            invert_folder(path, c)


def check(c: Config) -> None:
    """Refuse options that no method has, before anything is read."""
    from gensep.inversion.methods import METHODS, POWERS

    for name, value, table in (("method", c.method, METHODS), ("powers", c.powers, POWERS)):
        if value is not None and value not in table:
            raise UserError(f"{name} must be one of {', '.join(table)}, not '{value}'")
    most = 20 if c.method == "em_wiener" else 10_000  # EM reads the file for each
    if c.iterations is not None and not 0 <= c.iterations <= most:
        raise UserError(f"iterations must be 0 to {most}, not {c.iterations}")
    if c.output is not None and len(c.inputs) > 1:
        raise UserError("several inputs would be written to one --output; leave it away")


def invert_folder(folder: Path, c: Config) -> None:
    """Write the stems of a folder of gensep.basis again, by another method."""
    from gensep.audio.files import probe, read_blocks
    from gensep.audio.stems import StemWriter
    from gensep.inversion.mask_file import FILE, read_masks
    from gensep.inversion.resynthesis import Options, invert_masks

    method = c.method or "misi"
    start, duration, mixture = separated_from(folder, c)
    content = read_masks(folder / FILE)
    if content.masks is None:
        raise UserError(f"{folder / FILE} holds no masks; give the file itself to hear its power")
    info = probe(mixture)
    samples = sum(block.shape[1] for block in read_blocks(mixture, start, duration))
    check_length(content, samples / info.rate, mixture)
    options = Options(c.powers, c.iterations, residual=c.residual)
    names = (*content.names, "residual") if c.residual else content.names
    output = Path(c.output) if c.output else folder / method
    targets = targets_in(output, names, c)
    check_reference(c, mixture, targets[: len(content.names)], start, duration)
    writer = StemWriter(targets, info.rate, info.channels, samples, c.subtype)
    began = time.perf_counter()

    def blocks() -> Iterable[Any]:
        return read_blocks(mixture, start, duration)

    stems = invert_masks(blocks, info.rate, content.masks, content.representation, method, options)
    write(writer, stems, samples, f"{folder.name}: {method}")
    record: dict[str, Any] = {
        "mixture": str(mixture),
        "stems": [t.name for t in targets],
        "method": method,
        "seconds": samples / info.rate,
        "rate": info.rate,
        "channels": info.channels,
    }
    finish(
        record,
        output,
        targets,
        began,
        c,
        lambda: scores(mixture, targets[: len(content.names)], c, content, start, duration),
    )


def invert_power_file(path: Path, c: Config) -> None:
    """Write the sound of mel power, or of every source where the file has masks, by Griffin-Lim."""
    from gensep.audio.stems import StemWriter
    from gensep.inversion.mask_file import read_masks
    from gensep.inversion.methods import METHODS
    from gensep.inversion.resynthesis import invert_power

    method = c.method or "fast_griffin_lim"
    if METHODS[method].finish != "griffin_lim":
        raise UserError(
            f"{path} comes without a mixture, which {method} needs; use griffin_lim or "
            "fast_griffin_lim, or give the folder"
        )
    if c.reference or c.residual or c.mixture or c.powers not in (None, "nnls"):
        raise UserError(
            f"{path} comes without a mixture: --reference, --residual, --mixture and "
            "--powers need the folder of a separation"
        )
    content = read_masks(path)
    power = content.power[None] if content.masks is None else content.masks * content.power
    form = content.representation
    samples = (power.shape[1] - 1) * form.hop_length
    output = Path(c.output) if c.output else path.with_suffix("") / method
    names = (path.stem,) if content.masks is None else content.names
    targets = targets_in(output, names, c)
    writer = StemWriter(targets, form.sample_rate, 1, samples, c.subtype)
    began = time.perf_counter()
    how = METHODS[method]
    rounds = how.iterations if c.iterations is None else c.iterations
    stems = invert_power(power, form, rounds, how.momentum, c.seed)
    write(writer, stems, samples, f"{path.name}: {method}")
    record = {
        "power": str(path),
        "stems": [t.name for t in targets],
        "method": method,
        "seconds": samples / form.sample_rate,
        "rate": form.sample_rate,
        "channels": 1,
    }
    finish(record, output, targets, began, c, None)


def separated_from(folder: Path, c: Config) -> tuple[float, float | None, Path]:
    """Give start, duration and mixture of a folder that gensep.basis wrote."""
    file = folder / "separation.json"
    try:
        record = json.loads(file.read_text())
        options = record["options"]
        found = float(options["start"]), options["duration"], Path(c.mixture or record["mixture"])
    except FileNotFoundError:
        raise UserError(f"there is no {file}; give a folder that gensep.basis wrote") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no record of gensep.basis ({error}); separate again") from None
    if not found[2].is_file():
        raise UserError(
            f"the mixture of {folder} is no longer at {found[2]}; name it with --mixture"
        )
    return found


def check_length(content: Any, seconds: float, mixture: Path) -> None:
    """Refuse a mixture that is not as long as the masks."""
    form = content.representation
    frames = 1 + round(seconds * form.sample_rate) // form.hop_length
    if abs(frames - len(content.power)) > 1:
        raise UserError(
            f"{mixture} lasts {seconds:.2f} s, {frames} frames, its masks have "
            f"{len(content.power)}; name the mixture that was separated"
        )


def targets_in(output: Path, names: tuple[str, ...], c: Config) -> list[Path]:
    """Give the files of the stems."""
    return [output / f"{name}.{c.ext.lstrip('.')}" for name in names]


def write(writer: Any, stems: Iterable[Any], samples: int, name: str) -> None:
    """Write stems as they come, with a progress bar."""
    from tqdm import tqdm

    with (
        tqdm(
            desc=name,
            total=samples,
            unit="sample",
            unit_scale=True,
            leave=False,
            dynamic_ncols=True,
            disable=None,
        ) as bar,
        writer,
    ):
        for part in stems:
            for i, stem in enumerate(part):
                writer.write(i, stem)
            bar.update(part.shape[-1])


def check_reference(c: Config, mixture: Path, targets: list[Path], start, duration) -> None:
    """Refuse references that do not fit, before the work."""
    if c.reference:
        from gensep.audio.excerpt import Excerpt
        from gensep.evaluation import reference

        names = [target.stem for target in targets]
        reference.check_references(Excerpt(mixture, start, duration), names, c.reference)


def scores(mixture: Path, targets: list[Path], c: Config, content: Any, start, duration) -> Any:
    """Give the scores against the true stems, None without them."""
    if not c.reference:
        return None
    from gensep.audio.excerpt import Excerpt
    from gensep.evaluation import reference

    return reference.score_stems(
        Excerpt(mixture, start, duration), targets, c.reference, content.representation
    )


def finish(
    record: dict[str, Any],
    output: Path,
    targets: list[Path],
    began: float,
    c: Config,
    score: Callable[[], Any] | None,
) -> None:
    """Write the record, say what was done, print scores where there are any."""
    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    seconds = round(time.perf_counter() - began, 2)
    rows = score() if score else None
    record = {
        **record,
        "inversion_seconds": seconds,
        **({"scores": rows} if rows else {}),
        "options": dataclasses.asdict(c),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(output / "inversion.json", text)
    print(
        f"{len(targets)} stems of {record['seconds']:.1f} s in {output} by {record['method']}: "
        f"{seconds:.1f} s",
        file=sys.stderr,
    )
    if rows:
        from gensep.evaluation.reference import reference_table

        print(reference_table(rows))


if __name__ == "__main__":
    run(main)
