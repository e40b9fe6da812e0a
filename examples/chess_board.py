"""Reading a chess board in one pass: a classifier of single squares becomes a reader of whole boards.

    python examples/chess_board.py [FOLDER]

The network was trained by others to name what stands on one square of 50 x 50 pixels (the package board-to-fen, MIT).
It has no padding anywhere, so its fully convolutional form is exact: every cell is the classifier's answer for the
square cut out, up to rounding.

Needs:  pip install --no-deps board-to-fen==0.1.1
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import fullyconv
from fullyconv import pretrained

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
folder.mkdir(parents=True, exist_ok=True)

# The classifier, a board of 400 x 400 pixels, and what really stands on its 64 squares.
model = pretrained.chess_model()
board, truth = pretrained.chess_board()
names = pretrained.CHESS_LABELS

# The squares are 50 pixels apart. The network's own stride is 4, and 50 is no multiple of it: some squares fall between
# two cells. A stride of 2 gives a cell at every square.
fcn = fullyconv.convert(model, stride=2)
print(f"window {fcn.grid.window}, a cell every {fcn.grid.stride} pixels, {fcn.exactness}")

# One pass over the board. The cells every 25 steps of 2 pixels are the squares.
cells = fcn.predict(board[None].astype("float32"))[0]
squares = cells[::25, ::25]
print(f"{cells.shape[0]} x {cells.shape[1]} cells, of which {squares.shape[0]} x {squares.shape[1]} are the squares")

# The same by cutting the squares out, as the classifier was meant to be used.
cut = fullyconv.reference(model, board.astype("float32"), stride=50)
print(f"largest difference from the squares cut out: {np.abs(squares - cut).max():.1e}")
assert np.abs(squares - cut).max() < 1e-4

read = [names[i] for i in squares.argmax(-1).ravel()]
right = sum(a == b for a, b in zip(read, truth, strict=True))
for row in np.reshape(read, (8, 8)):
    print("  " + " ".join("." if piece == "empty" else piece for piece in row))
print(f"{right} of 64 squares are right")
assert right == 64

# The board beside what was read, in the pieces' letters.
picture = Image.new("RGB", (820, 400), "white")
picture.paste(Image.fromarray(board), (0, 0))
draw, font = ImageDraw.Draw(picture), ImageFont.load_default(30)
for i, piece in enumerate(read):
    x, y = 420 + i % 8 * 50, i // 8 * 50
    draw.rectangle((x, y, x + 49, y + 49), fill="#e8e6e1" if (i % 8 + i // 8) % 2 == 0 else "#bdb8ad")
    if piece != "empty":
        draw.text((x + 25, y + 25), piece, "white" if piece.isupper() else "black", font, "mm", stroke_width=1,
                  stroke_fill="black" if piece.isupper() else "white")  # fmt: skip
picture.save(folder / "chess_board.png")
print(f"wrote {folder / 'chess_board.png'}")

# A warning. Between the squares the windows show halves of pieces, which the network has never been trained on, and it
# answers all the same: it is sure of black queens in many places, and there is none. A map tells you what a classifier
# says everywhere. Whether it knows what it is talking about there depends on what it was trained on.
drawn = fullyconv.heatmap(fcn, board, classes="q", preprocess="none", labels=names)
sure = (drawn.map[..., names.index("q")] > 0.9).sum()
print(f"{sure} of {drawn.map[..., 0].size} windows are black queens to the network, more than 0.9 sure; none really is")
drawn.save(folder / "chess_queens.png")
print(f"wrote {folder / 'chess_queens.png'}")
