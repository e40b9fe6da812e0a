"""VGG16's head in both forms, beside the classifier's own, on one backend: the table of design/heads.md.

    KERAS_BACKEND=jax python benchmarks/heads.py [--rounds 7] [--sizes 7 16 32]

The head reads a map of `size` x `size` positions with 512 channels, which one convolution and a pooling make of the
image in place of VGG16's trunk, through Keras's own `predict`. Prints a Markdown table: milliseconds of each form,
which take turns, and per round how many times longer the convolution takes than the Dense layers, as median (least to
most).
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np
from keras import layers

import fullyconv


def main() -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds, after one that is not counted (default 7)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[7, 16, 32], help="sizes of the map (default 7 16 32)")
    options = parser.parse_args()
    model = head()
    forms = {form: fullyconv.convert(model, head=form).model for form in ("convolution", "dense")}
    print("| backend | map | classifier | convolution | Dense | convolution / Dense |\n|---|---|---|---|---|---|")
    for size in options.sizes:
        timed = forms if size > 7 else {"classifier": model, **forms}
        print(row(size, measured(timed, size, options.rounds)), flush=True)


def head() -> keras.Model:
    """The last pooling and the three Dense layers of VGG16, behind one convolution, with random weights."""
    keras.utils.set_random_seed(0)
    stack = [keras.Input((224, 224, 3)), layers.Conv2D(512, 16, strides=16), layers.MaxPooling2D(2), layers.Flatten()]
    return keras.Sequential([*stack, layers.Dense(4096, "relu"), layers.Dense(4096, "relu"), layers.Dense(1000)])


def measured(models: dict[str, keras.Model], size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, in turns."""
    x = np.random.default_rng(size).normal(size=(1, 32 * size, 32 * size, 3)).astype("float32")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(x, verbose=0)
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[1:] for name, taken in seconds.items()}


def row(size: int, seconds: dict[str, list[float]]) -> str:
    """One line of the table."""
    names = ("classifier", "convolution", "dense")
    cells = [f"{1000 * statistics.median(seconds[n]):.0f} ms" if n in seconds else "" for n in names]
    ratios = sorted(a / b for a, b in zip(seconds["convolution"], seconds["dense"], strict=True))
    spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    return f"| {' | '.join([keras.backend.backend(), f'{size} x {size}', *cells, spread])} |"


if __name__ == "__main__":
    main()
