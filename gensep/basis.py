"""Separate mixtures into sources, with one generative prior per source."""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gensep.cli import config
from gensep.cli.options import Positional, PriorName, StemChoice, StemFormat, choices
from gensep.runtime.errors import UserError, run
from gensep.separation.settings import SamplerOptions

if TYPE_CHECKING:
    from gensep.separation.separate import Posterior


@dataclass(frozen=True, kw_only=True)
class Config(SamplerOptions, StemChoice, StemFormat):
    """Options of gensep.basis."""

    mixtures: Positional[tuple[str, ...]] = ()
    """Audio files to separate."""
    priors: tuple[PriorName, ...] = ("piano", "violin")
    """One prior per source, 1 to 8: shipped names, run folders or prior files; may repeat."""
    guide: tuple[str, ...] = ()
    """Critics that correct priors, as SOURCE=RUN: runs of gensep.train_critic --against."""
    guide_weight: float = 1.0
    """How far guides correct: 0 not at all, 1 as far as they were trained to."""
    output: str = "separated/{name}"
    """Folder of the stems; {name} is the name of the input, {folder} its folder."""
    preset: Annotated[str, choices("gensep.separation.settings:PRESETS")] = "default"
    """Trade-off between speed and quality. On two CPU cores and recorded notes, with two sources:
    fast .07 s per second and 9.1 dB, default .31 s and 10.8 dB, best 1.1 s and 10.8 dB; with four:
    .44 s and 3.8 dB, 1.4 s and 6.4 dB, 3.0 s and 7.9 dB."""
    uncertainty: bool = False
    """Write means, deviations and quantiles of the posterior samples to uncertainty.npz and .png,
    and energy intervals to separation.json. They are only as reliable as the sampler, see
    docs/samplers.md."""
    window: int | None = None
    """Number of frames (of 32 ms) that a prior sees at once; by default 512 for networks that take
    any length, such as the shipped ones, and 128 for others."""
    overlap: float | None = None
    """Share of a window that overlaps the next one."""
    start: float = 0.0
    """Seconds to skip at the start of each mixture."""
    duration: float | None = None
    """Seconds of each mixture to separate; by default all."""
    reference: str | None = None
    """Folder of true stems, named like the priors; prints the SI-SDR of the stems, its gain over
    the mixture and that of the mel-mask oracle."""
    picture: bool = True
    """Plot spectrograms of the mixture and the stems."""
    save_masks: bool = False
    """Write masks.npz beside the stems, for gensep.invert."""
    list_priors: bool = False
    """List the shipped priors and exit."""


def main(argv: list[str]) -> None:
    """Separate every input; stop at the first that cannot be."""
    if any(word.partition("=")[0] == "--images" for word in argv):
        raise UserError("images are separated by 'python -m gensep.basis_images SET'")
    c = config.parse(Config, argv)
    if c.list_priors:
        return print(list_priors())
    if not c.mixtures:
        raise UserError(
            "expected an audio file: python -m gensep.basis MIX.wav "
            "[--priors piano violin]; see --help"
        )
    from gensep.audio.files import probe
    from gensep.runtime.files import output_folders
    from gensep.separation.separate import Posterior, assemble, make_settings

    settings = make_settings(c.preset, c.changes("window", "overlap"), len(c.priors))
    folders = output_folders(c.output, c.mixtures)
    for path in c.mixtures:
        probe(path)
    sources = assemble(c.priors, c.guide, c.guide_weight)
    method = Posterior(sources, settings, c.uncertainty)
    for path, folder in zip(c.mixtures, folders, strict=True):
        separate(path, folder, c, method)
    return None


def separate(path: str, folder: Path, c: Config, method: "Posterior") -> None:
    """Separate one mixture as the options say, and print how it went."""
    from gensep.audio.excerpt import Excerpt
    from gensep.evaluation.reference import reference_table
    from gensep.separation.run import Outputs, separate_file

    began = time.perf_counter()
    mixture = Excerpt(Path(path), c.start, c.duration)
    alone = dataclasses.replace(c, mixtures=(path,))
    done = separate_file(mixture, method, folder, Outputs.of(c), alone)
    seconds, sampling = done.facts["seconds"], done.facts["sampling_seconds"]
    print(
        f"{path}: {len(done.stems)} stems of {seconds:.1f} s in {folder}: sampled in "
        f"{sampling:.1f} s ({sampling / seconds:.2f} s per second), compiled in "
        f"{done.facts['compile_seconds']:.1f} s, {time.perf_counter() - began:.1f} s in all",
        file=sys.stderr,
    )
    if c.reference:
        print(reference_table(done.facts["scores"]))


def list_priors() -> str:
    """Return a line for each shipped prior."""
    from gensep.priors.files import load_prior, shipped_names

    lines = []
    for name in shipped_names():
        about = load_prior(name).header["about"]
        loss, step = about.get("valid_loss", "?"), about.get("step", "?")
        lines.append(f"{name:<12} validation loss {loss} at step {step}")
    return "\n".join(lines) or "no priors ship with this installation"


if __name__ == "__main__":
    run(main)
