"""Write a trained separator in float16 and its card into the folder of those that ship."""

from dataclasses import dataclass
from pathlib import Path

from gensep.cli.config import parse
from gensep.cli.options import Positional
from gensep.runtime import errors

ROOT = Path(__file__).parent.parent

CARD = """\
# {name}

A separator of mixtures of {sources} (`{network}`), for `python -m gensep.separate {name} mix.wav`.
It is the supervised rival of the priors that ship: their network body and representation, and as
many parameters as all of them have together.

| | |
|---|---|
| parameters | {parameters:,} ({size:.1f} MB, float16) |
| trained on | random sums of solo renderings, those that the priors of {sources} were trained on |
| chosen on | sums of renderings with fonts that no training set holds |
| validation loss | {loss} at step {step} of {steps} (L1 error over the sum of the mixture) |
| batch, seconds, seed | {batch}, {seconds}, {seed} |
| recipe | `python scripts/train_shipped_priors.py WORK ... --stages lines render`, then \
`python -m gensep.train_separator --config configs/{config} --data {data} --run RUN \
--steps {steps}` and `python scripts/ship_separator.py RUN {name} --config_name {config}` |
| commit | {commit} |
| licence | MIT, like the code |

![estimates for a validation mixture](estimates.png)
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to ship."""

    run: Positional[str]
    """Run folder of gensep.train_separator."""
    name: Positional[str]
    """Name to ship it by."""
    config_name: str
    """File in configs/ that it was trained with."""
    output: str = str(ROOT / "gensep/assets/separators")
    """Folder to write into."""


def main(argv: list[str]) -> None:
    """Write separator.npz, its card and the picture."""
    c = parse(Config, argv)
    import json

    import jax
    from PIL import Image

    from gensep.runtime.files import check_writable, write_atomically
    from gensep.separators.files import FILE, load_separator, save_separator

    loaded, folder = load_separator(c.run), Path(c.output) / c.name
    check_writable(folder)
    about = dict(loaded.about)
    config = about.pop("config")
    sources = (
        " and ".join(loaded.sources) if len(loaded.sources) == 2 else ", ".join(loaded.sources)
    )
    save_separator(folder / FILE, loaded.network, loaded.settings, half=True, **about)
    with Image.open(Path(c.run) / "estimates.png") as picture:
        small = picture.convert("RGB").quantize(48, dither=Image.Dither.NONE)
    small.save(folder / "estimates.png", optimize=True)
    facts = {
        "name": c.name,
        "sources": sources,
        "network": loaded.settings["network"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(loaded.network)),
        "size": (folder / FILE).stat().st_size / 1e6,
        "loss": about["valid_loss"],
        "step": about["step"],
        "config": c.config_name,
        "data": " ".join(f"WORK/stems/{name}" for name in loaded.sources),
        "commit": json.loads((Path(c.run) / "run.json").read_text()).get("commit", "unknown"),
        **{name: config[name] for name in ("steps", "batch", "seconds", "seed")},
    }
    write_atomically(folder / "README.md", CARD.format(**facts))


if __name__ == "__main__":
    errors.run(main)
