"""VGG16 as a fully convolutional network: 224 x 224 pixels give 1000 scores, 512 x 512 give a map of 10 x 10 x 1000.

    python examples/vgg16.py [FOLDER]

The question this package answers: VGG16 ends in Flatten and three Dense layers, which pin its input to 224 x 224. How
does it become a network for images of any size, with the weights it has?

The weights here are random, because nothing is downloaded: what the network says means nothing, how the two networks
agree does not depend on it. With yours, `weights="imagenet"` is the only change.
"""

import sys
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

import fullyconv
from fullyconv import pretrained

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
folder.mkdir(parents=True, exist_ok=True)

# The classifier, straight from Keras.
keras.utils.set_random_seed(0)
model = keras.applications.VGG16(weights=None)
print(f"{model.name}: {model.input_shape} -> {model.output_shape}, {model.count_params():,} weights")

# What would each layer become? A plan answers in a moment and builds nothing.
plan = fullyconv.plan(model)
for step in plan.steps:
    if step.source != step.result.split()[0]:
        print(f"  {step.name}: {step.source} -> {step.result}")

# The conversion. The first Dense becomes a convolution of 7 x 7, the others convolutions of 1 x 1.
start = time.perf_counter()
fcn = fullyconv.convert(plan)
print(f"converted in {time.perf_counter() - start:.1f} s: {fcn.model.input_shape} -> {fcn.model.output_shape}")
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} pixels, {fcn.exactness}")

# At 224 x 224 there is one cell, and it is the classifier's answer.
photo = Image.open(pretrained.sample_path("chelsea")).convert("RGB").resize((512, 512))
pixels = keras.applications.vgg16.preprocess_input(np.asarray(photo, "float32")[None])
window = pixels[:, :224, :224]
classify = fullyconv.compile(model)
ours, theirs = fcn.predict(window), classify(window)
difference = np.abs(ours[:, 0, 0] - theirs).max() / theirs.max()
print(f"at the window: {ours.shape}, largest difference from the classifier {difference:.1e} of its largest output")
assert ours.shape == (1, 1, 1, 1000)
assert difference < 1e-5

# At 512 x 512 there are 10 x 10 of them.
start = time.perf_counter()
cells = fcn.predict(pixels)
print(f"512 x 512 pixels -> {cells.shape[1:]} in {time.perf_counter() - start:.1f} s, the first time included")
assert cells.shape == (1, 10, 10, 1000)

# The windows of all cells lie inside the image; the last one ends where the image ends.
print(f"the window of cell (9, 9): {fcn.grid.cell_to_box((9, 9))}")

# A picture of the geometry: the centre of each cell's window, and the windows of the first and the last cell.
draw = ImageDraw.Draw(photo)
for cell in np.ndindex(10, 10):
    (top, bottom), (left, right) = fcn.grid.cell_to_box(cell)
    x, y = (left + right) / 2, (top + bottom) / 2
    if cell in ((0, 0), (9, 9)):
        draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=3)
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill="#ffd34d", outline="black")
photo.save(folder / "vgg16.png")
print(f"wrote {folder / 'vgg16.png'}")
