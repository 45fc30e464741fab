"""How real sampled images look to a small classifier that is trained on the data set itself.

The classifier is trained here, in about a minute on a CPU and always in the same way, so that
nothing has to be downloaded. Its figures compare models of one data set; they are not the Inception
score or the FID of the literature, which use other networks and features.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gensep.datasets.images import SETS, load_images
from gensep.representation.image import PIXEL_VALUES
from gensep.runtime.files import save_arrays
from gensep.runtime.trees import by_path, from_paths
from gensep.training.updates import make_optimiser, make_state, make_update

FEATURES = 64
STEPS, BATCH, RATE, SEED = 1500, 64, 2e-3, 0


class Network(nnx.Module):
    """Two convolutions of stride 2, a layer of features, a layer of logits."""

    def __init__(self, shape: tuple[int, int, int], classes: int, *, rngs: nnx.Rngs) -> None:
        height, width, channels = shape
        self.conv1 = nnx.Conv(channels, 32, (5, 5), strides=2, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        places = -(-height // 4) * -(-width // 4)
        self.features = nnx.Linear(64 * places, FEATURES, rngs=rngs)
        self.logits = nnx.Linear(FEATURES, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map images `[batch, H, W, C]` of 0 to 1 -> features `[batch, 64]`, logits."""
        h = jax.nn.relu(self.conv1(2 * x - 1))
        h = jax.nn.relu(self.conv2(h))
        h = jax.nn.relu(self.features(h.reshape(len(h), -1)))
        return h, self.logits(h)


class Classifier(NamedTuple):
    """A trained network and its accuracy on the test images."""

    network: Network
    accuracy: float

    def __call__(self, images: np.ndarray, batch: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Return features `[n, 64]` and class probabilities `[n, classes]` of images of 0 to 1."""
        parts = [_apply(self.network, images[i : i + batch]) for i in range(0, len(images), batch)]
        features, probabilities = (np.concatenate(p) for p in zip(*parts, strict=True))
        return features.astype(np.float64), probabilities.astype(np.float64)


@jax.jit
def _apply(network: Network, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, logits = network(jnp.asarray(images, jnp.float32))
    return features, jax.nn.softmax(logits)


def get_classifier(name: str, folder: Path, data_dir: str | None = None) -> Classifier:
    """Read the classifier of a set of images from `folder`, or train it and keep it there."""
    like = jax.eval_shape(lambda: _untrained(name))
    path = folder / f"classifier_{name}.npz"
    made = json.dumps({"steps": STEPS, "batch": BATCH, "rate": RATE, "seed": SEED})
    if path.is_file():
        with np.load(path) as file:
            kept = dict(file)
        if str(kept.pop("made")) == made:
            accuracy = float(kept.pop("accuracy"))
            weights = {name: jnp.asarray(value) for name, value in kept.items()}
            return Classifier(from_paths(like, weights), accuracy)
    classifier = train_classifier(name, data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {p: np.asarray(a) for p, a in by_path(classifier.network).items()}
    save_arrays(path, {"made": np.array(made), "accuracy": np.array(classifier.accuracy), **arrays})
    return classifier


def _untrained(name: str) -> Network:
    return Network(SETS[name].shape, SETS[name].classes, rngs=nnx.Rngs(SEED))


def train_classifier(name: str, data_dir: str | None = None, steps: int = STEPS) -> Classifier:
    """Train on dequantised training images; the same images lead to the same network."""
    images, labels = load_images(name, "train", data_dir)

    def loss(network: Network, key: jax.Array, batch: tuple[np.ndarray, np.ndarray]) -> jax.Array:
        pixels, truth = batch
        x = (jnp.asarray(pixels) + jax.random.uniform(key, pixels.shape)) / PIXEL_VALUES
        log_p = jax.nn.log_softmax(network(x)[1])
        return -jnp.take_along_axis(log_p, truth[:, None], 1).mean()

    optimiser = make_optimiser(RATE, steps, 100, 1.0)
    state = make_state(_untrained(name), optimiser)
    update = make_update(loss, optimiser, 0.99)
    for step in range(steps):
        rows = np.random.default_rng((SEED, step)).integers(len(images), size=BATCH)
        key = jax.random.fold_in(jax.random.key(SEED), step)
        state, _ = update(key, state, (images[rows], labels[rows]))
    classifier = Classifier(state.learner.average, 0.0)
    test, truth = load_images(name, "test", data_dir)
    guesses = classifier((test + 0.5) / PIXEL_VALUES)[1].argmax(1)
    return classifier._replace(accuracy=float((guesses == truth).mean()))


def figures(classifier: Classifier, sampled: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Return the figures of sampled images, and of real ones as the best that can be expected."""
    features, probabilities = classifier(np.clip(sampled, 0, 1))
    real_features, real_probabilities = classifier(real)
    # even against odd numbers: the first half of MNIST's test images is easier than the second
    floor = classifier_frechet(real_features[::2], real_features[1::2])
    return {
        "classifier_accuracy": classifier.accuracy,
        "classifier_score": classifier_score(probabilities),
        "classifier_score_real": classifier_score(real_probabilities),
        "classifier_frechet": classifier_frechet(features, real_features),
        "classifier_frechet_real": floor,
    }


def classifier_score(probabilities: np.ndarray) -> float:
    """Return exp E KL(p(y|x) || p(y)) of `[n, classes]`: 1 (all alike) to `classes`."""
    p = np.clip(probabilities, 1e-12, 1)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


def classifier_frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance between Gaussians fitted to features `[n, d]` and `[m, d]`."""
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    return frechet(first.mean(0), covariances[0], second.mean(0), covariances[1])


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2) (Dowson and Landau 1982)."""
    cov1, cov2 = np.atleast_2d(cov1), np.atleast_2d(cov2)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ cov2 @ root)
    shared = np.sqrt(np.maximum(middle, 0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * shared)
