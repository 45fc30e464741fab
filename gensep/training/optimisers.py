"""Optimisers with a choice of rules and of decays of their learning rate."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import optax

    from gensep.training.options import Learning
    from gensep.training.updates import Factors

Rule = Callable[[], "optax.GradientTransformation"]  # of a learning rate of 1


def _scaled(name: str, **settings: float) -> Rule:
    def rule() -> "optax.GradientTransformation":
        import optax

        return getattr(optax, name)(**settings)

    return rule


# name -> direction of an update, which is then multiplied by the negative learning rate
OPTIMISERS: dict[str, Rule] = {
    "adam": _scaled("scale_by_adam"),
    "adamax": _scaled("scale_by_adamax"),
    "adadelta": _scaled("scale_by_adadelta", rho=0.95, eps=1e-6),
    "rmsprop": _scaled("scale_by_rms", decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "sgd": _scaled("identity"),
}


class Decay(NamedTuple):
    """How the learning rate falls."""

    end: float | None  # share of the peak that a cosine ends at; None: constant
    plateau: bool = False  # a factor more at every plateau of the validation score


DECAYS: dict[str, Decay] = {
    "cosine": Decay(0.01),
    "constant": Decay(None),
    "plateau": Decay(None, plateau=True),
}


def choose_optimiser(c: "Learning", factors: "Factors") -> "optax.GradientTransformation":
    """Return the optimiser that the options ask for, with warm-up and clipped gradient norm.

    The direction is multiplied by `factors` of the model, where there are any, and then by a
    number that `on_plateau` lowers.
    """
    import optax

    end, warmup = DECAYS[c.decay].end, min(c.warmup, c.steps // 2)
    if end is None:
        rate = optax.linear_schedule(c.rate if warmup == 0 else 0.0, c.rate, max(1, warmup))
    else:
        rate = optax.warmup_cosine_decay_schedule(0.0, c.rate, warmup, c.steps, end * c.rate)

    def scale(change: "optax.Updates", model: object) -> "optax.Updates":
        own = factors(model)
        return change if own is None else jax.tree.map(jnp.multiply, change, own)

    return optax.chain(
        optax.clip_by_global_norm(c.clip),
        optax.add_decayed_weights(c.weight_decay),
        OPTIMISERS[c.optimiser](),
        optax.scale_by_learning_rate(rate),
        optax.stateless(scale),
        optax.inject_hyperparams(optax.scale)(step_size=1.0),
    )


def on_plateau(c: "Learning", state: "optax.OptState", stale: int) -> "optax.OptState":
    """Return the state of `choose_optimiser` after a validation, `stale` after the best one.

    With decay plateau the rate falls after `plateau` + 1 validations without progress, and again
    after every further `cooldown` + `plateau` + 1, as PyTorch's ReduceLROnPlateau has it.
    """
    import optax

    past, period = stale - c.plateau - 1, c.cooldown + c.plateau + 1
    if not DECAYS[c.decay].plateau or past < 0 or past % period:
        return state
    now = optax.tree.get(state, "step_size")
    return optax.tree.set(state, step_size=now * jnp.asarray(c.plateau_factor, now.dtype))
