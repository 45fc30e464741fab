"""Options that all flows are trained with; a command adds those of its architecture."""

from dataclasses import dataclass

from gensep.config import option
from gensep.training_config import TrainingConfig


@dataclass(frozen=True)
class FlowConfig(TrainingConfig):
    """Options of `gensep.train_glow`, `gensep.train_realnvp` and `gensep.train_flowpp`."""

    layout: str = option("bands", "of windows: bands (as channels) or image")
    squeeze: int = option(2, "places, down and across, that every level makes one of")
    schedule: str = option(
        "uniform",
        "noise levels in training: uniform in ln sigma, lognormal, "
        "or none (plain data, a flow that knows no noise)",
    )
    plain: float = option(0.0, "share of examples without noise, where there are levels")
    denoising: float = option(
        1.0,
        "weight of the denoising loss beside the likelihood: updates "
        "cost three times as much, scores become far better; plain data has "
        "none",
    )
    embedding: int = option(64, "numbers that tell the flow its noise level")
    logit: float = option(0.0, "margin of the logit map of images; 0 for none")
    dequantise: str = option("uniform", "noise between integers: uniform or variational")
    warmup: int = option(500, "updates of linear warm-up")

    def __post_init__(self):
        super().__post_init__()
        self.positive("embedding", "squeeze")
        for name, known in (
            ("layout", ("bands", "image")),
            ("schedule", ("uniform", "lognormal", "none")),
            ("dequantise", ("uniform", "variational")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'"
                )
        if not 0 <= self.plain <= 1 or not 0 <= self.logit < 0.5:
            raise ValueError(
                f"expected 0 <= plain <= 1 and 0 <= logit < 0.5, not {self.plain} and {self.logit}"
            )
        if self.denoising < 0:
            raise ValueError(f"denoising must be 0 or more, not {self.denoising}")
        if self.schedule != "none" and (self.logit or self.dequantise != "uniform"):
            raise ValueError(
                "logit and variational dequantisation are for plain data: give "
                "--schedule none, or leave them out"
            )
