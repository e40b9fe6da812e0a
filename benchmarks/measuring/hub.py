"""The image classifiers and backbones of KerasHub, each built small and converted or refused. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras_hub import models

import fullyconv
import nets
from fullyconv.plan import reasons_in_words

IMAGE = (64, 64, 3)
LOCAL = {  # the convolutional stages of MobileNetV5, without its attention
    "stackwise_block_types": [["er"], ["uir", "uir"]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[24], [48, 48]],
    "stackwise_strides": [[2], [2, 1]],
    "stackwise_act_layers": [["relu"], ["relu", "relu"]],
    "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
    "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
    "stackwise_dw_kernel_sizes": [[0], [5, 5]],
    "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
    "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
    "stackwise_exp_kernel_sizes": [[3], [0, 0]],
    "stackwise_pw_kernel_sizes": [[1], [0, 0]],
    **{f"stackwise_{name}": [[0], [0, 0]] for name in ("num_heads", "key_dims", "value_dims", "kv_strides")},
    "stackwise_use_cpe": [[False], [False, False]],
}


def cspnet(kind: str) -> Any:
    """A CSPNet of one kind of stages."""
    return models.CSPNetBackbone(
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type=kind,
        block_ratio=[1.0 if kind == "dark" else 0.5],
        image_shape=IMAGE,
    )


def densenet() -> Any:
    """A DenseNet."""
    return models.DenseNetBackbone(stackwise_num_repeats=[2, 2, 2], growth_rate=8, image_shape=IMAGE)


def efficientnet(kind: str) -> Any:
    """EfficientNet's blocks with squeeze-and-excite (`"v1"`), fused ones, or those of EfficientNet-Lite (`"cba"`)."""
    return models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 5],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.25 if kind == "v1" else 0.0] * 2,
        stackwise_strides=[1, 2],
        stackwise_block_types=[kind] * 2,
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        num_features=64,
        input_shape=IMAGE,
    )


def hgnetv2() -> Any:
    """An HGNetV2."""
    return models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=IMAGE,
    )


def mobilenet() -> Any:
    """A MobileNet with squeeze-and-excite in its second stage."""
    return models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=48,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=48,
        squeeze_and_excite=0.5,
        image_shape=IMAGE,
    )


def mobilenetv5() -> Any:
    """The convolutional stages of a MobileNetV5."""
    return models.MobileNetV5Backbone(**LOCAL, use_msfa=False, image_shape=IMAGE)


def resnet(kind: str, before: bool = False) -> Any:
    """A ResNet of one kind of blocks, with activations before them or after; those of kind `vd` have a deep stem."""
    stem = [16, 16, 64] if kind.endswith("vd") else [64]
    return models.ResNetBackbone(
        input_conv_filters=stem,
        input_conv_kernel_sizes=[3] * 3 if len(stem) == 3 else [7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type=kind,
        use_pre_activation=before,
        image_shape=IMAGE,
    )


def deeplab() -> Any:
    """A DeepLabV3+ on a ResNet."""
    return models.DeepLabV3Backbone(
        image_encoder=resnet("bottleneck_block"),
        spatial_pyramid_pooling_key="P3",
        low_level_feature_key="P2",
        upsampling_size=2,
        dilation_rates=[2, 4],
        projection_filters=8,
        image_shape=IMAGE,
    )


def retinanet() -> Any:
    """A RetinaNet's feature pyramid on a ResNet."""
    return models.RetinaNetBackbone(
        image_encoder=resnet("bottleneck_block"), min_level=2, max_level=4, use_p5=False, image_shape=IMAGE
    )


def vgg() -> Any:
    """A VGG."""
    return models.VGGBackbone(stackwise_num_repeats=[1, 2, 2], stackwise_num_filters=[8, 16, 32], image_shape=IMAGE)


def xception() -> Any:
    """An Xception."""
    return models.XceptionBackbone(
        stackwise_conv_filters=[[16, 32], [32, 64], [64, 64]], stackwise_pooling=[True, True, False], image_shape=IMAGE
    )


def vit() -> Any:
    """A vision transformer."""
    return models.ViTBackbone(IMAGE, (16, 16), num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32)


def deit() -> Any:
    """A data-efficient vision transformer."""
    return models.DeiTBackbone(IMAGE, (16, 16), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32)


def dino(generation: int) -> Any:
    """A self-supervised vision transformer."""
    kind = {2: models.DINOV2Backbone, 3: models.DINOV3Backbone}[generation]
    return kind(16, num_layers=1, hidden_dim=32, num_heads=2, intermediate_dim=64, image_shape=IMAGE)


def mit() -> Any:
    """A mix transformer, the encoder of SegFormer."""
    return models.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.0,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[16, 32],
        image_shape=IMAGE,
    )


def swin() -> Any:
    """A shifted-window transformer."""
    return models.SwinTransformerBackbone(IMAGE, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_size=4)


def vitdet() -> Any:
    """A vision transformer for detection."""
    return models.ViTDetBackbone(
        hidden_size=16,
        num_layers=1,
        intermediate_dim=32,
        num_heads=2,
        global_attention_layer_indices=[0],
        image_shape=IMAGE,
        window_size=2,
        num_output_channels=16,
    )


BACKBONES: dict[str, Callable[[], Any]] = {
    **{f"CSPNet, {kind} stages": partial(cspnet, kind) for kind in ("dark", "csp", "cs3")},
    "DenseNet": densenet,
    **{f"EfficientNet, {kind} blocks": partial(efficientnet, kind) for kind in ("v1", "fused", "cba")},
    "HGNetV2": hgnetv2,
    "MobileNet": mobilenet,
    "MobileNetV5": mobilenetv5,
    **{f"ResNet, {kind}": partial(resnet, kind) for kind in ("basic_block", "bottleneck_block", "bottleneck_block_vd")},
    **{f"ResNet v2, {kind}": partial(resnet, kind, before=True) for kind in ("basic_block", "bottleneck_block")},
    "VGG": vgg,
    "Xception": xception,
    "DeepLabV3": deeplab,
    "RetinaNet": retinanet,
    "ViT": vit,
    "DeiT": deit,
    "DINOV2": partial(dino, 2),
    "DINOV3": partial(dino, 3),
    "MiT": mit,
    "SwinTransformer": swin,
    "ViTDet": vitdet,
}
BACKBONES_ONLY = ("DeepLabV3", "RetinaNet", "DINOV2", "DINOV3", "ViTDet")
NETWORKS = [
    f"{name} {kind}"
    for name in BACKBONES
    for kind in ("backbone", "classifier")
    if kind == "backbone" or name not in BACKBONES_ONLY
]


def build(name: str) -> Any:
    """A backbone, or the image classifier on it."""
    base, _, kind = name.rpartition(" ")
    keras.utils.set_random_seed(0)
    backbone = BACKBONES[base]()
    if kind == "backbone":
        return backbone
    family = base.split(",")[0].removesuffix(" v2")
    options = {"preprocessor": None} if family == "HGNetV2" else {}
    return getattr(models, f"{family}ImageClassifier")(backbone=backbone, num_classes=5, **options)


def measure(name: str) -> dict[str, Any]:
    """The row of one network: what it becomes and its error at the window, or why it is refused."""
    model = build(name)
    row = {"model": name, "window": IMAGE[0], "parameters": model.count_params()}
    try:
        fullyconv.plan(model)
    except fullyconv.FullyConvError as error:
        return row | {"refused": str(error)}
    fcn = fullyconv.convert(nets.prepare(model, count=2))
    pair = nets.inputs_for(model, 2, 500)
    want = keras.tree.flatten(fullyconv.compile(model)(pair))
    have = keras.tree.flatten(fcn.predict(pair))
    error = max(float(np.abs(a - b.reshape(a.shape)).max() / np.abs(a).max()) for a, b in zip(want, have, strict=True))
    grid = keras.tree.flatten(fcn.grids)[0]
    return row | {
        "stride": float(grid.stride[0]),
        "field": [float(end) for end in grid.receptive_field[0]],
        "exactness": grid.exactness,
        "cause": reasons_in_words(grid),
        "native_error": error,
    }
