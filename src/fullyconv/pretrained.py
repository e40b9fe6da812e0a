"""Trained networks and pictures that come as ordinary Python packages: those of `fullyconv.demo.pretrained`."""

from fullyconv.demo.pretrained import (
    CHESS_LABELS,
    CHESS_PREPROCESS,
    EMOTION_PREPROCESS,
    EMOTIONS,
    LITE0_PREPROCESS,
    chess_board,
    chess_model,
    efficientnet_lite0,
    emotion_model,
    fen_squares,
    imagenet_labels,
    sample_image,
    sample_path,
)

__all__ = [
    "CHESS_LABELS",
    "CHESS_PREPROCESS",
    "EMOTIONS",
    "EMOTION_PREPROCESS",
    "LITE0_PREPROCESS",
    "chess_board",
    "chess_model",
    "efficientnet_lite0",
    "emotion_model",
    "fen_squares",
    "imagenet_labels",
    "sample_image",
    "sample_path",
]
