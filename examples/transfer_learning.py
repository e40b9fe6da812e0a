"""A MobileNetV2 with a head of one's own, trained on small pictures, run over a large one.

    KERAS_BACKEND=jax python examples/transfer_learning.py [FOLDER]

Needs a backend that trains (JAX, PyTorch or TensorFlow), and scikit-image for its photos of brick, grass and gravel.

The usual recipe: a backbone without its top, frozen; global average pooling, dropout and a Dense layer, which are
trained. Nothing can be downloaded where this runs in the tests, so the backbone has random weights where yours would
have `weights="imagenet"`. To tell three kinds of ground apart random filters are good enough; for more they are not.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import fullyconv
from fullyconv import pretrained

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# Three photographs of 512 x 512 pixels. The upper halves are for training, the lower halves for the test.
NAMES = ("brick", "grass", "gravel")
photos = np.stack([pretrained.sample_image(name) for name in NAMES])
train, test = photos[:, :256], photos[:, 256:]


def crops(pictures, count):
    """Random windows of 96 x 96 pixels, turned at random, brighter or darker, and which photo each is of."""
    kinds = rng.integers(0, 3, count)
    found = []
    for kind in kinds:
        y, x = rng.integers(0, pictures.shape[1] - 95), rng.integers(0, pictures.shape[2] - 95)
        crop = np.rot90(pictures[kind, y : y + 96, x : x + 96], rng.integers(4))
        found.append(np.clip(crop * rng.uniform(0.7, 1.3), 0, 255))
    return np.stack(found).astype("float32"), kinds


backbone = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
features = keras.Sequential(
    [keras.Input((96, 96, 3)), layers.Rescaling(1 / 127.5, -1), backbone, layers.GlobalAveragePooling2D()]
)
windows, kinds = crops(train, 500)

# Random weights come without the averages that batch normalisation needs; one pass over some pictures makes them. A
# backbone with trained weights has its own: leave these lines out then.
for layer in backbone.layers:
    if isinstance(layer, layers.BatchNormalization):
        layer.momentum = 0.0
features(windows[:64], training=True)

# The backbone is frozen, so each picture's features are computed once, and the head is trained on them.
backbone.trainable = False
head = keras.Sequential([keras.Input((1280,)), layers.Dropout(0.2), layers.Dense(3, activation="softmax")], name="head")
head.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
head.fit(fullyconv.compile(features)(windows), kinds, batch_size=50, epochs=30, verbose=0)
model = keras.Sequential([keras.Input((96, 96, 3)), *features.layers, head], name="ground")

unseen, kinds = crops(test, 200)
classify = fullyconv.compile(model)
print(f"windows of the lower halves, not trained on: {(classify(unseen).argmax(-1) == kinds).mean():.1%} right")

# Backbone and head are models inside the model, and between them the map is pooled as a whole: all is converted.
fcn = fullyconv.convert(model)
pooling = next(step for step in fcn.plan.steps if step.source == "GlobalAveragePooling2D")
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} pixels, {fcn.exactness}; pooling: {pooling.result}")
difference = np.abs(fcn.predict(unseen)[:, 0, 0] - classify(unseen)).max()
print(f"at the window the largest difference from the classifier is {difference:.0e}")
assert difference < 1e-4

# MobileNetV2 pads: inside a larger picture a cell sees its neighbours, where the classifier on a window cut out sees
# zeros. A cell every 16 pixels is to be had by stride=16; the network's own is 32.
dense = fullyconv.convert(model, stride=16)

# A picture of all three, from the lower halves: brick on the left, grass above gravel on the right.
picture = np.zeros((384, 512, 3), "uint8")
picture[:, :256] = np.concatenate([test[0, :192, :256], test[0, 64:, 256:]])
picture[:192, 256:], picture[192:, 256:] = test[1, :192, :256], test[2, :192, :256]
truth = np.zeros(picture.shape[:2], int)
truth[:192, 256:], truth[192:, 256:] = 1, 2

drawn = fullyconv.heatmap(dense, picture, classes=range(3), preprocess="none", labels=NAMES)
drawn.save(folder / "transfer_learning.png")

# How often is a cell right? Counted where its whole window lies on one kind of ground.
right = []
for cell in np.ndindex(*drawn.map.shape[:2]):
    (top, bottom), (left, right_edge) = dense.grid.cell_to_box(cell)
    below = truth[top:bottom, left:right_edge]
    if (below == below[0, 0]).all():
        right.append(drawn.map[cell].argmax() == below[0, 0])
print(f"{np.mean(right):.1%} of the {len(right)} cells over one kind of ground are right")
assert np.mean(right) > 0.8
print(f"wrote {folder / 'transfer_learning.png'}")
