"""How far the map of a network that pads is from the classifier on windows cut out, on real photos.

Prints the table of the README: for each trained network and photo, the share of the windows for which both name the
same class, the same among windows of which the classifier is sure, and the median and the mean of the largest
difference of a probability. Takes a minute.
"""

import numpy as np

import fullyconv
from fullyconv import pretrained
from fullyconv.preprocessing import preprocess

PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket")
NETWORKS = {
    "EfficientNet-Lite0": (pretrained.efficientnet_lite0, pretrained.LITE0_PREPROCESS, 3),
    "mini-XCEPTION": (pretrained.emotion_model, pretrained.EMOTION_PREPROCESS, 1),
}


def main() -> None:
    """Print the table."""
    print("| network | photo | windows | same class | where sure | difference: median | mean |")
    print("|---|---|---|---|---|---|---|")
    for name, (build, mode, channels) in NETWORKS.items():
        model = build()
        fcn = fullyconv.convert(model)
        found = [(photo, *compare(model, fcn, photo, mode, channels)) for photo in PHOTOS]
        every = [np.concatenate(parts) for parts in zip(*(row[1:] for row in found), strict=True)]
        for photo, same, sure, difference in [*found, ("all", *every)]:
            shares = f"{same.mean():.0%} | {same[sure].sum()} of {sure.sum()}"
            print(
                f"| {name} | {photo} | {len(same)} | {shares} | {np.median(difference):.2f} | {difference.mean():.2f} |"
            )


def compare(model, fcn, photo: str, mode, channels: int) -> tuple[np.ndarray, ...]:  # noqa: ANN001
    """For each window, whether both name the same class, whether the classifier is sure, and the largest difference."""
    image = preprocess(pretrained.sample_image(photo, channels), mode)
    cut = fullyconv.reference(model, image, fcn.grid.stride)
    rows, columns = cut.shape[:2]
    whole = fcn.predict(image[None])[0, :rows, :columns].reshape(cut.shape)
    same = whole.argmax(-1) == cut.argmax(-1)
    return same.ravel(), cut.max(-1).ravel() > 0.5, np.abs(whole - cut).max(-1).ravel()


if __name__ == "__main__":
    main()
