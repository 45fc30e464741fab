"""Separate mixtures with generative priors: one wave per source."""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gensep.cli import config
from gensep.cli.config import option
from gensep.runtime.errors import UserError, run

if TYPE_CHECKING:
    from gensep.separation.separate import SourcePriors
    from gensep.separation.settings import Settings

PROG = "python -m gensep.basis"


@dataclass(frozen=True)
class Config:
    """Options of `gensep.basis`."""

    mixtures: tuple[str, ...] = option((), "audio files to separate", positional=True)
    priors: tuple[str, ...] = option(
        ("piano", "violin"),
        "a prior for each source, 1 to 8: shipped names, run folders or files; they may repeat",
    )
    output: str = option(
        "separated/{name}", "folder of the stems; {name} is the input's name, {folder} its folder"
    )
    preset: Literal["fast", "default", "best"] = option("default", "speed against quality")
    sampler: str | None = option(None, "sampler, in place of the preset's")
    steps: int | None = option(
        None, "noise levels, in place of the preset's (more the more sources)"
    )
    samples: int | None = option(None, "posterior samples to average, in place of the preset's")
    constraint: Literal["soft", "hard"] = option(
        "soft", "hard moves the sources onto the mixing law at every noise level"
    )
    uncertainty: bool = option(
        False,
        "write how far the posterior samples "
        "lie apart: uncertainty.npz, .png, energy intervals; calibrated "
        "only as far as the sampler is, see docs/samplers.md",
    )
    seed: int = option(0, "seed of the sampler")
    window: int | None = option(None, "frames that a prior sees at once (32 ms each)")
    overlap: float | None = option(None, "share of a window that overlaps the next")
    start: float = option(0.0, "seconds to skip")
    duration: float | None = option(None, "seconds to separate; all by default")
    ext: str = option("wav", "format of the stems: wav, flac, ogg, ...")
    subtype: str | None = option(
        None, "sample format, e.g. PCM_16; by default float in wav, 24 bits in flac"
    )
    reference: str | None = option(
        None,
        "folder of true stems named like the priors: prints "
        "SI-SDR, its gain over the mixture, and the mel-mask oracle's",
    )
    picture: bool = option(True, "draw spectrograms of mixture and stems")
    save_masks: bool = option(
        False,
        "write masks.npz beside the stems, for gensep.invert",
    )
    list_priors: bool = option(False, "list the shipped priors and exit")


def main(argv: list[str]) -> None:
    """Separate every input; stop at the first that cannot be."""
    if any(word.partition("=")[0] == "--images" for word in argv):
        raise UserError("images are separated by 'python -m gensep.basis_images SET'")
    c = config.parse(Config, argv, prog=PROG, about=__doc__ or "")
    if c.list_priors:
        return print(list_priors())
    if not c.mixtures:
        raise UserError(
            "expected an audio file: python -m gensep.basis MIX.wav "
            "[--priors piano violin]; see --help"
        )
    from gensep.audio.files import probe
    from gensep.separation.separate import assemble, make_settings

    names = ("sampler", "steps", "samples", "window", "overlap", "seed", "constraint")
    changed = {name: getattr(c, name) for name in names if getattr(c, name) is not None}
    settings = make_settings(c.preset, changed, len(c.priors))
    folders = [output_folder(c.output, path) for path in c.mixtures]
    if len(set(folders)) < len(folders):
        raise UserError(
            f"several inputs would be written to {max(folders, key=folders.count)}; "
            "put {name} or {folder} into --output"
        )
    for path in c.mixtures:
        probe(path)
    sources = assemble(c.priors)
    for path, folder in zip(c.mixtures, folders, strict=True):
        separate(path, folder, c, sources, settings)
    return None


def separate(
    path: str, folder: Path, c: Config, sources: "SourcePriors", settings: "Settings"
) -> None:
    """Separate one mixture as the options say, and print how it went."""
    from gensep.audio.excerpt import Excerpt
    from gensep.evaluation.reference import reference_table
    from gensep.separation.run import Outputs, separate_file

    began = time.perf_counter()
    mixture = Excerpt(Path(path), c.start, c.duration)
    outputs = Outputs(
        ext=c.ext,
        subtype=c.subtype,
        reference=c.reference,
        uncertainty=c.uncertainty,
        save_masks=c.save_masks,
        picture=c.picture,
    )
    done = separate_file(
        mixture, sources, settings, folder, outputs, dataclasses.replace(c, mixtures=(path,))
    )
    seconds, sampling = done.facts["seconds"], done.masks.run_seconds
    print(
        f"{path}: {len(done.stems)} stems of {seconds:.1f} s in {folder}: sampled in "
        f"{sampling:.1f} s ({sampling / seconds:.2f} s per second), compiled in "
        f"{done.masks.compile_seconds:.1f} s, {time.perf_counter() - began:.1f} s in all",
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
        lines.append(
            f"{name:<12} validation loss {about.get('valid_loss', '?')} at step "
            f"{about.get('step', '?')}"
        )
    return "\n".join(lines) or "no priors ship with this installation"


def output_folder(template: str, path: str) -> Path:
    """Fill in {name} and {folder} of a folder template."""
    try:
        return Path(template.format(name=Path(path).stem, folder=Path(path).parent))
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"--output knows {{name}} and {{folder}}, not what is in '{template}'"
        ) from None


if __name__ == "__main__":
    run(main)
