"""A classifier of small volumes, run through a large one: finding balls and boxes in three dimensions.

    KERAS_BACKEND=jax python examples/volume_3d.py [FOLDER]

Needs a backend that trains (JAX, PyTorch or TensorFlow) and matplotlib. A 3-D network was trained to say whether
16 x 16 x 16 voxels show a ball, a box or only noise. Its fully convolutional form reads a scan of 64 x 96 x 96 voxels.
The volumes are made up; with real scans only the loading would change.
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

NAMES = ("ball", "box", "nothing")


def solid(kind, centre):
    """A ball or a box in 16 x 16 x 16 voxels: 1 inside, 0 outside. The two are about as large."""
    radius = rng.uniform(5, 7)
    z, y, x = np.abs(np.indices((16, 16, 16)) - np.reshape(centre, (3, 1, 1, 1)))
    return z**2 + y**2 + x**2 < radius**2 if kind == 0 else np.maximum(np.maximum(z, y), x) < radius * 0.8


def sample(kind):
    """What the network learns from: a solid within a voxel of the middle; for "nothing", none, or one far off it."""
    if kind < 2:
        return solid(kind, 7.5 + rng.uniform(-1, 1, 3))
    away = rng.uniform(5, 14) * rng.choice((-1, 1)) * np.eye(3)[rng.integers(3)]
    return solid(rng.integers(2), 7.5 + away + rng.uniform(-4, 4, 3))


kinds = rng.integers(0, 3, 900)
volumes = np.stack([sample(kind) for kind in kinds])
volumes = (volumes + rng.normal(0, 0.4, volumes.shape))[..., None].astype("float32")
model = keras.Sequential(
    [
        keras.Input((16, 16, 16, 1)),
        layers.Conv3D(8, 4, strides=2, activation="relu"),
        layers.Conv3D(16, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(3, activation="softmax"),
    ],
    name="solids",
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(volumes[:700], kinds[:700], batch_size=32, epochs=5, verbose=0,
                    validation_data=(volumes[700:], kinds[700:]))  # fmt: skip
print(f"volumes the network has not seen: {history.history['val_accuracy'][-1]:.1%} right")

fcn = fullyconv.convert(model)
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} voxels, {fcn.exactness}")
print(f"the first Dense became: {next(s.result for s in fcn.plan.steps if s.source == 'Dense')}")

# A scan with six balls and six boxes, none touching another, in noise.
scan = np.zeros((64, 96, 96), "float32")
fields = rng.permutation([(z, y, x) for z in (0, 32) for y in (0, 32, 64) for x in (0, 32, 64)])[:12]
placed = []
for i, field in enumerate(fields):
    corner = tuple(int(n) for n in field + rng.integers(0, 8, 3) * 2)
    scan[tuple(slice(c, c + 16) for c in corner)] = solid(i % 2, (7.5, 7.5, 7.5))
    placed.append((i % 2, corner))
scan = (scan + rng.normal(0, 0.4, scan.shape))[..., None].astype("float32")

# One pass, and the classifier on some of the windows for comparison.
cells = fcn.predict(scan[None])[0]
part = scan[:20, :20]
cut = fullyconv.reference(model, part, stride=fcn.grid.stride)
close = np.abs(cells[:3, :3] - cut).max()
print(f"{cells[..., 0].size} cells; largest difference from {cut[..., 0].size} windows cut out {close:.0e}")
assert close < 1e-4

# The answer in each solid's own window.
named = [int(cells[tuple(c // 2 for c in corner)].argmax()) for _, corner in placed]
right = sum(a == b for a, (b, _) in zip(named, placed, strict=True))
print(f"{right} of {len(placed)} solids are named right in their own windows")
assert right >= 10

# Slices through the middle of four solids, and the two probabilities of the cells whose windows are centred there.
figure, axes = plt.subplots(3, 4, figsize=(10, 7.4), layout="constrained")
for column, (kind, corner) in enumerate(placed[:4]):
    z = corner[0] + 8
    axes[0, column].set_title(f"slice {z}, through a {NAMES[kind]}")
    for row, panel in enumerate(axes[:, column]):
        panel.imshow(scan[z, :, :, 0], cmap="gray")
        if row > 0:
            heat = panel.imshow(cells[corner[0] // 2, :, :, row - 1], cmap="inferno", vmin=0, vmax=1, alpha=0.75,
                                extent=(7, 89, 89, 7), interpolation="nearest")  # fmt: skip
        panel.set(xlim=(-0.5, 95.5), ylim=(95.5, -0.5), xticks=[], yticks=[])
        panel.add_patch(plt.Rectangle(corner[:0:-1], 16, 16, fill=False, edgecolor="white"))
for row, name in zip(axes, ("scan", *NAMES), strict=False):
    row[0].set_ylabel(name)
figure.colorbar(heat, ax=axes[1:], label="probability", shrink=0.6)
figure.savefig(folder / "volume_3d.png", dpi=80)
print(f"wrote {folder / 'volume_3d.png'}")
