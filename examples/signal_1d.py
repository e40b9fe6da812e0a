"""A classifier of short signals, run along a long recording.

    KERAS_BACKEND=jax python examples/signal_1d.py [FOLDER]

Needs a backend that trains (JAX, PyTorch or TensorFlow) and matplotlib. The rules that convert networks for pictures
convert those for signals: nothing in them knows how many axes there are. Here a 1-D network that was trained to name
the waveform in 128 samples (sine, square, sawtooth, or only noise) reads a recording of 4,000 samples and says where
each begins and ends.
"""

import sys
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from keras import layers

import fullyconv

mpl.use("agg")
import matplotlib.pyplot as plt

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

NAMES = ("sine", "square", "sawtooth", "noise")


def wave(kind, length):
    """A waveform of random pitch, phase and strength, in noise."""
    phase = np.arange(length) / rng.uniform(12, 40) + rng.uniform()
    clean = (np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1, 0 * phase)[kind]
    return rng.uniform(0.7, 1.3) * clean + rng.normal(0, 0.25, length)


# Train on windows of 128 samples. Convolutions without padding and a global average pooling: an exact network.
kinds = rng.integers(0, 4, 6000)
windows = np.stack([wave(kind, 128) for kind in kinds])[..., None]
model = keras.Sequential(
    [
        keras.Input((128, 1)),
        layers.Conv1D(16, 9, activation="relu"),
        layers.MaxPooling1D(2),
        layers.Conv1D(32, 9, activation="relu"),
        layers.MaxPooling1D(2),
        layers.Conv1D(32, 5, activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(4, activation="softmax"),
    ],
    name="waveforms",
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(windows[:5000], kinds[:5000], batch_size=64, epochs=6, verbose=0,
                    validation_data=(windows[5000:], kinds[5000:]))  # fmt: skip
print(f"windows the network has not seen: {history.history['val_accuracy'][-1]:.1%} right")

fcn = fullyconv.convert(model)
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} samples, {fcn.exactness}")
print(f"the global pooling became: {next(s.result for s in fcn.plan.steps if 'Global' in s.source)}")

# A recording with one waveform after the other, and what is where.
order, lengths = (3, 0, 3, 2, 1, 3, 0, 2), (400, 600, 300, 700, 600, 500, 500, 400)
recording = np.concatenate([wave(kind, n) for kind, n in zip(order, lengths, strict=True)])
truth = np.repeat(order, lengths)

# One pass. Each cell is the classifier's answer for the 128 samples of its window.
signal = recording[:, None].astype("float32")
cells = fcn.predict(signal[None])[0]
cut = fullyconv.reference(model, signal, stride=fcn.grid.stride)
print(f"{len(cells)} cells; largest difference from the windows cut out {np.abs(cells - cut).max():.0e}")
assert np.abs(cells - cut).max() < 1e-4

# A cell is right where it names what its window holds, for windows that hold one thing only.
boxes = [tuple(map(int, fcn.grid.cell_to_box((i,))[0])) for i in range(len(cells))]
pure = [i for i, (low, high) in enumerate(boxes) if len(set(truth[low:high])) == 1]
share = np.mean([cells[i].argmax() == truth[boxes[i][0]] for i in pure])
print(f"{share:.1%} of the {len(pure)} windows that hold a single waveform are named right")
assert share > 0.9

# The recording above, the four probabilities below, each at its window's centre.
centres = [(low + high) / 2 for low, high in boxes]
figure, (above, below) = plt.subplots(2, 1, figsize=(10, 4.2), sharex=True, layout="constrained")
above.plot(recording, color="#555", linewidth=0.6)
above.set(ylabel="recording", xlim=(0, len(recording)))
for start, kind in zip(np.cumsum((0, *lengths[:-1])), order, strict=True):
    above.axvline(start, color="#bbb", linewidth=0.8)
    above.text(start + 15, 2.05, NAMES[kind], va="bottom")
below.stackplot(centres, cells.T, labels=NAMES, colors=("#3b528b", "#c2410c", "#e8a33d", "#d9d9d9"))
below.set(ylabel="probability", xlabel="sample", ylim=(0, 1))
below.legend(loc="center right", framealpha=0.9)
figure.savefig(folder / "signal_1d.png", dpi=80)
print(f"wrote {folder / 'signal_1d.png'}")
