"""Make stems again from saved masks or mel power, by another inversion method."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gensep.cli import config
from gensep.cli.options import Positional, StemFormat, choices
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    from gensep.separation.from_masks import Inversion


@dataclass(frozen=True, kw_only=True)
class Config(StemFormat):
    """Options of gensep.invert."""

    inputs: Positional[tuple[str, ...]] = ()
    """Folders that gensep.basis wrote with --save_masks, or .npz files of mel power alone."""
    method: Annotated[str | None, choices("gensep.inversion.methods:METHODS")] = None
    """Method that makes spectra from masks; by default misi, or fast_griffin_lim for an input
    without a mixture."""
    iterations: int | None = None
    """Iterations, instead of the default of the method: 32 of Griffin-Lim, 5 of misi, 1 of
    em_wiener."""
    powers: Annotated[str | None, choices("gensep.inversion.methods:POWERS")] = None
    """How the power of mel bands becomes that of frequency bins, instead of the default of the
    method."""
    residual: bool = False
    """Write one more stem with the power of the mixture that no source explains; for powers nnls or
    pinv."""
    output: str | None = None
    """Folder of the stems; by default FOLDER/METHOD."""
    mixture: str | None = None
    """Audio file of the mixture, if it has moved since the separation."""
    reference: str | None = None
    """Folder of true stems; prints the SI-SDR of the stems and its gain over the mixture."""
    seed: int = 0
    """Seed of random phases, if there is no mixture."""


def main(argv: list[str]) -> None:
    """Invert every input; stop at the first that cannot be inverted."""
    c = config.parse(Config, argv)
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
        refused = "--reference, --residual, --mixture and --powers need the folder of a separation"
        raise UserError(f"{path} comes without a mixture: {refused}")
    return invert_power_file(path, output, c.method, c.iterations, c.seed, c.ext, c.subtype)


if __name__ == "__main__":
    run(main)
