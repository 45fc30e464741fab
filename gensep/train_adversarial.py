"""Train a separator on few songs with stems, many mixtures and many solo recordings.

Critics, one per source, tell solo recordings from the separator's estimates on mixtures whose
sources nobody has; the separator learns from the songs and from the critics (Stoller, Ewert and
Dixon 2018). PARTITION says which recordings serve for what; gensep.partition makes it from folders.
--init goes on from a separator that gensep.train_separator trained on the same partition.
"""

from dataclasses import dataclass
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Fraction, Range, choices
from gensep.mixtures.options import Excerpts, Unpairing
from gensep.runtime.errors import UserError, run
from gensep.separators.networks import SEPARATORS
from gensep.separators.options import Separating
from gensep.training.options import Adversarial


@dataclass(frozen=True, kw_only=True)
class Config(Adversarial, Unpairing, Excerpts, Separating):
    """Options of gensep.train_adversarial."""

    partition: str
    """File of paired songs and unpaired recordings, see gensep.partition."""
    network: Annotated[str, choices("gensep.separators.networks:SEPARATORS")] = "unet"
    seconds: Annotated[float, Range(0.01)] = 5.0
    mix_songs: Fraction = 0.0
    gain_low: Annotated[float, Range(0)] = 1.0
    gain_high: Annotated[float, Range(0)] = 1.0
    swap: Fraction = 0.0

    def __post_init__(self) -> None:
        for group in (Adversarial, Unpairing, Excerpts):
            group.__post_init__(self)


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates of the separator."""
    c = config.parse(Config, argv)
    from gensep.mixtures.kinds import Request, open_paired
    from gensep.mixtures.unpaired import open_unpaired
    from gensep.partitions.partition import read_partition
    from gensep.representation.magnitude import Spectra
    from gensep.training.adversarial_task import AdversarialTask
    from gensep.training.loop import train

    partition = read_partition(c.partition)
    settings = c.settings(partition.sources)
    spectra, sources = Spectra(**settings["spectra"]), tuple(settings["sources"])
    if window := SEPARATORS[c.network].frames:
        raise UserError(f"{c.network} sees {window} frames only; take unet or mel_mask")
    if c.beta and set(sources) != set(partition.sources):
        every = " ".join(partition.sources)
        raise UserError(f"estimates add up to the mixture: give --sources {every}, or --beta 0")
    request = Request(spectra, sources, None)
    samples = request.samples(c)
    if (frames := spectra.frames(samples)) < c.critic_frames:
        raise UserError(
            f"critics see {c.critic_frames} frames, but {c.seconds} s have {frames}; "
            "take more --seconds or fewer --critic_frames"
        )
    examples = open_paired(c, request, partition)
    unpaired = open_unpaired(partition, sources, samples, request.target, c, c.critic_steps)
    train(c, AdversarialTask(c, examples, unpaired, settings))


if __name__ == "__main__":
    run(main)
