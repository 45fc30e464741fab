"""Train a supervised separator: a network that sees mixtures and learns to give their sources."""

from dataclasses import dataclass

from gensep.cli import config
from gensep.mixtures.options import Drawing
from gensep.runtime.errors import run
from gensep.separators.networks import SEPARATORS
from gensep.separators.options import Separating
from gensep.training.options import Learning


@dataclass(frozen=True, kw_only=True)
class Config(Learning, Drawing, Separating):
    """Options of gensep.train_separator."""


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.mixtures.kinds import open_mixtures
    from gensep.representation.magnitude import Spectra
    from gensep.training.loop import train
    from gensep.training.separator_task import SeparatorTask

    settings, family = c.settings(), SEPARATORS[c.network]
    spectra, wanted = Spectra(**settings["spectra"]), tuple(settings["sources"])
    examples = open_mixtures(c, spectra, wanted, family.frames, scored=family.scored)
    train(c, SeparatorTask(c, examples, settings))


if __name__ == "__main__":
    run(main)
