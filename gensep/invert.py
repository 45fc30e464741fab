"""Make stems from saved masks by another method, or sound from mel power alone."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    from gensep.separation.from_masks import Inversion


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
    """Invert every input; stop at the first that cannot be inverted."""
    c = config.parse(Config, argv, prog="python -m gensep.invert", about=__doc__ or "")
    if not c.inputs:
        raise UserError("expected a folder that gensep.basis wrote with --save_masks; see --help")
    if c.output is not None and len(c.inputs) > 1:
        raise UserError("several inputs would be written to one --output; leave it away")
    from gensep.cli.records import write_record
    from gensep.evaluation.reference import reference_table

    for name in c.inputs:
        done = invert(Path(name), c)
        write_record(done.folder / "inversion.json", c, done.facts)
        print(
            f"{len(done.stems)} stems of {done.facts['seconds']:.1f} s in {done.folder} by "
            f"{done.facts['method']}: {done.facts['inversion_seconds']:.1f} s",
            file=sys.stderr,
        )
        if "scores" in done.facts:
            print(reference_table(done.facts["scores"]))


def invert(path: Path, c: Config) -> "Inversion":
    """Invert a folder of `gensep.basis`, or a file of mel power."""
    from gensep.separation.from_masks import invert_power_file, invert_separation

    output = Path(c.output) if c.output else None
    if path.suffix != ".npz" or path.is_dir():
        mixture = Path(c.mixture) if c.mixture else None
        how = (path, output, c.method, c.iterations, c.powers)
        return invert_separation(*how, mixture, c.reference, c.ext, c.subtype, residual=c.residual)
    if c.reference or c.residual or c.mixture or c.powers not in (None, "nnls"):
        raise UserError(
            f"{path} comes without a mixture: --reference, --residual, --mixture and "
            "--powers need the folder of a separation"
        )
    return invert_power_file(path, output, c.method, c.iterations, c.seed, c.ext, c.subtype)


if __name__ == "__main__":
    run(main)
