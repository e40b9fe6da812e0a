"""What is supported, and what is not: two tables, and nothing else.

`RULES` maps a class of layer or operation to the rule that says what it becomes (see rule.py). `REFUSED` maps a class
to the reason why it has none, and the remedy. A class that is in neither is refused too.
"""

from __future__ import annotations

from keras import layers

from fullyconv import _keras
from fullyconv.rules.channels import flip, get_item, stack, take
from fullyconv.rules.conv import convolution, cropping, pad_operation, padding, upsampling
from fullyconv.rules.dense import dense, einsum_dense
from fullyconv.rules.flatten import flatten, rearranged, reshape, squeeze
from fullyconv.rules.merge import concatenate, concatenate_operation, dot, elementwise_merge, merge
from fullyconv.rules.normalization import (
    batch_normalization,
    group_normalization,
    layer_normalization,
    normalization,
    spectral_normalization,
    unit_normalization,
)
from fullyconv.rules.places import OfPlaces, no_places, places_or, split
from fullyconv.rules.pointwise import (
    activation,
    along_channels,
    as_tensor,
    dropout,
    elementwise,
    prelu,
    rescaling,
    softmax,
)
from fullyconv.rules.pool import adaptive, average_pooling, global_average, global_max, max_pooling, reduction
from fullyconv.rules.rule import Rule, dropped, kept

_nn, _numpy, _core = _keras.nn_operations, _keras.numpy_operations, _keras.core_operations

RULES: dict[type, Rule] = {
    # convolutions
    layers.Conv1D: convolution,
    layers.Conv2D: convolution,
    layers.Conv3D: convolution,
    layers.DepthwiseConv1D: convolution,
    layers.DepthwiseConv2D: convolution,
    layers.SeparableConv1D: convolution,
    layers.SeparableConv2D: convolution,
    # poolings
    layers.AveragePooling1D: average_pooling,
    layers.AveragePooling2D: average_pooling,
    layers.AveragePooling3D: average_pooling,
    layers.MaxPooling1D: max_pooling,
    layers.MaxPooling2D: max_pooling,
    layers.MaxPooling3D: max_pooling,
    layers.GlobalAveragePooling1D: global_average,
    layers.GlobalAveragePooling2D: global_average,
    layers.GlobalAveragePooling3D: global_average,
    layers.GlobalMaxPooling1D: global_max,
    layers.GlobalMaxPooling2D: global_max,
    layers.GlobalMaxPooling3D: global_max,
    layers.AdaptiveAveragePooling1D: adaptive("Average"),
    layers.AdaptiveAveragePooling2D: adaptive("Average"),
    layers.AdaptiveAveragePooling3D: adaptive("Average"),
    layers.AdaptiveMaxPooling1D: adaptive("Max"),
    layers.AdaptiveMaxPooling2D: adaptive("Max"),
    layers.AdaptiveMaxPooling3D: adaptive("Max"),
    # padding, cropping, upsampling
    layers.ZeroPadding1D: padding,
    layers.ZeroPadding2D: padding,
    layers.ZeroPadding3D: padding,
    layers.Cropping1D: cropping,
    layers.Cropping2D: cropping,
    layers.Cropping3D: cropping,
    layers.UpSampling1D: upsampling,
    layers.UpSampling2D: upsampling,
    layers.UpSampling3D: upsampling,
    # rearrangements
    layers.Flatten: flatten,
    layers.Permute: rearranged,
    layers.Reshape: reshape,
    # dense
    layers.Dense: dense,
    layers.EinsumDense: einsum_dense,
    # activations
    layers.Activation: activation,
    layers.ELU: kept,
    layers.LeakyReLU: kept,
    layers.PReLU: prelu,
    layers.ReLU: kept,
    layers.Softmax: softmax,
    # normalisations
    layers.BatchNormalization: batch_normalization,
    layers.GroupNormalization: group_normalization,
    layers.LayerNormalization: layer_normalization,
    layers.Normalization: normalization,
    layers.RMSNormalization: layer_normalization,
    layers.SpectralNormalization: spectral_normalization,
    layers.UnitNormalization: unit_normalization,
    # dropout, noise, regularisation
    layers.ActivityRegularization: kept,
    layers.AlphaDropout: dropout,
    layers.Dropout: dropout,
    layers.GaussianDropout: dropout,
    layers.GaussianNoise: dropout,
    layers.SpatialDropout1D: dropout,
    layers.SpatialDropout2D: dropout,
    layers.SpatialDropout3D: dropout,
    # merges
    layers.Add: merge,
    layers.Average: merge,
    layers.Concatenate: concatenate,
    layers.Dot: dot,
    layers.Maximum: merge,
    layers.Minimum: merge,
    layers.Multiply: merge,
    layers.Subtract: merge,
    # preprocessing
    layers.Identity: kept,
    layers.Rescaling: rescaling,
    # random augmentation: the identity at inference
    layers.AugMix: dropped,
    layers.CutMix: dropped,
    layers.MixUp: dropped,
    layers.RandAugment: dropped,
    layers.RandomBrightness: dropped,
    layers.RandomColorDegeneration: dropped,
    layers.RandomColorJitter: dropped,
    layers.RandomContrast: dropped,
    layers.RandomElasticTransform: dropped,
    layers.RandomErasing: dropped,
    layers.RandomFlip: dropped,
    layers.RandomGaussianBlur: dropped,
    layers.RandomGrayscale: dropped,
    layers.RandomHue: dropped,
    layers.RandomInvert: dropped,
    layers.RandomPerspective: dropped,
    layers.RandomPosterization: dropped,
    layers.RandomRotation: dropped,
    layers.RandomSaturation: dropped,
    layers.RandomSharpness: dropped,
    layers.RandomShear: dropped,
    layers.RandomTranslation: dropped,
    layers.RandomZoom: dropped,
    # custom layers of keras.applications
    _keras.CustomScaleLayer: merge,
    _keras.LayerScale: kept,
    _keras.StochasticDepth: kept,
    # operations: arithmetic
    _numpy.Add: places_or(elementwise_merge),
    _numpy.Divide: elementwise_merge,
    _numpy.Maximum: places_or(elementwise_merge),
    _numpy.Minimum: places_or(elementwise_merge),
    _numpy.Multiply: places_or(elementwise_merge),
    _numpy.Power: elementwise_merge,
    _numpy.Subtract: places_or(elementwise_merge),
    _numpy.TrueDivide: elementwise_merge,
    _numpy.Abs: elementwise,
    _numpy.Absolute: elementwise,
    _numpy.Clip: elementwise,
    _numpy.Exp: elementwise,
    _numpy.Log: elementwise,
    _numpy.Log1p: elementwise,
    _numpy.Negative: elementwise,
    _numpy.OnesLike: places_or(elementwise),
    _numpy.Reciprocal: elementwise,
    _numpy.Sqrt: elementwise,
    _numpy.Square: elementwise,
    _numpy.Tanh: elementwise,
    _numpy.ZerosLike: elementwise,
    _core.Cast: elementwise,
    _core.ConvertToTensor: as_tensor,
    # operations: activations
    _nn.Celu: elementwise,
    _nn.Elu: elementwise,
    _nn.Gelu: elementwise,
    _nn.HardShrink: elementwise,
    _nn.HardSigmoid: elementwise,
    _nn.HardSilu: elementwise,
    _nn.HardTanh: elementwise,
    _nn.LeakyRelu: elementwise,
    _nn.LogSigmoid: elementwise,
    _nn.Relu: elementwise,
    _nn.Relu6: elementwise,
    _nn.Selu: elementwise,
    _nn.Sigmoid: elementwise,
    _nn.Silu: elementwise,
    _nn.SoftShrink: elementwise,
    _nn.Softplus: elementwise,
    _nn.Softsign: elementwise,
    _nn.SparsePlus: elementwise,
    _nn.SparseSigmoid: elementwise,
    _nn.Squareplus: elementwise,
    _nn.TanhShrink: elementwise,
    _nn.Threshold: elementwise,
    _nn.Glu: along_channels,
    _nn.LogSoftmax: along_channels,
    _nn.Softmax: along_channels,
    _nn.Sparsemax: along_channels,
    # operations: reductions, rearrangements, merges
    _numpy.Amax: places_or(reduction("Max")),
    _numpy.Concatenate: concatenate_operation,
    _numpy.Cumsum: places_or(no_places),
    _numpy.Mod: places_or(no_places),
    _numpy.ExpandDims: squeeze,
    _numpy.Flip: flip,
    _numpy.FloorDivide: places_or(no_places),
    _numpy.GetItem: get_item,
    _numpy.Max: reduction("Max"),
    _numpy.Mean: reduction("Average"),
    _numpy.Moveaxis: rearranged,
    _numpy.Pad: pad_operation,
    _numpy.Reshape: reshape,
    _numpy.Split: split,
    _numpy.Squeeze: squeeze,
    _numpy.Stack: stack,
    _numpy.Swapaxes: rearranged,
    _numpy.Take: OfPlaces(take),
    _numpy.Transpose: rearranged,
}

_SEQUENCE = ("reads positions one after the other", "convert the part before it with `until`")
_ATTENTION = ("mixes every position with every other", "convert the part before it with `until`")
_UPSAMPLES = ("makes a map larger, which no part of a classifier does", "convert the part before it with `until`")
_TEXT = ("reads words or categories, not an image", "convert the image branch alone with `until`")
_OPAQUE = ("holds code that cannot be read as layers", "write what it does with Keras layers or `keras.ops`")
_BASE = ("is a base class without a meaning of its own", "give its class a rule: rules={TheClass: rule}")
_SPECTROGRAM = ("turns a wave into an image of a fixed size", "compute the spectrogram first, and convert what follows")
PINS = (
    "pins the size of the image",
    "drop it with skip={name}, and bring images to the scale that it made",
)
_EXAMPLE_WIDE = ("measures the whole image", "apply it to the image first, and convert what follows")

REFUSED: dict[type, tuple[str, str]] = {
    layers.AdditiveAttention: _ATTENTION,
    layers.Attention: _ATTENTION,
    layers.GroupQueryAttention: _ATTENTION,
    layers.MultiHeadAttention: _ATTENTION,
    layers.Bidirectional: _SEQUENCE,
    layers.ConvLSTM1D: _SEQUENCE,
    layers.ConvLSTM2D: _SEQUENCE,
    layers.ConvLSTM3D: _SEQUENCE,
    layers.GRU: _SEQUENCE,
    layers.GRUCell: _SEQUENCE,
    layers.LSTM: _SEQUENCE,
    layers.LSTMCell: _SEQUENCE,
    layers.Masking: _SEQUENCE,
    layers.RNN: _SEQUENCE,
    layers.SimpleRNN: _SEQUENCE,
    layers.SimpleRNNCell: _SEQUENCE,
    layers.StackedRNNCells: _SEQUENCE,
    layers.TimeDistributed: (
        "applies its layer to each step of one axis, not to a map",
        "apply the layer itself: a Dense layer takes maps, and works along the channels",
    ),
    layers.RepeatVector: ("repeats a vector a fixed number of times", "convert the part before it with `until`"),
    layers.Conv1DTranspose: _UPSAMPLES,
    layers.Conv2DTranspose: _UPSAMPLES,
    layers.Conv3DTranspose: _UPSAMPLES,
    layers.CategoryEncoding: _TEXT,
    layers.Discretization: _TEXT,
    layers.Embedding: _TEXT,
    layers.HashedCrossing: _TEXT,
    layers.Hashing: _TEXT,
    layers.IntegerLookup: _TEXT,
    layers.ReversibleEmbedding: _TEXT,
    layers.StringLookup: _TEXT,
    layers.TextVectorization: _TEXT,
    layers.FlaxLayer: _OPAQUE,
    layers.JaxLayer: _OPAQUE,
    layers.Lambda: _OPAQUE,
    layers.TFSMLayer: _OPAQUE,
    layers.TorchModuleWrapper: _OPAQUE,
    layers.Pipeline: _OPAQUE,
    layers.Layer: _BASE,
    layers.Wrapper: _BASE,
    layers.MelSpectrogram: _SPECTROGRAM,
    layers.STFTSpectrogram: _SPECTROGRAM,
    layers.CenterCrop: PINS,
    layers.RandomCrop: PINS,
    layers.Resizing: PINS,
    layers.AutoContrast: _EXAMPLE_WIDE,
    layers.ContrastLimitedAdaptiveHistogramEqualization: _EXAMPLE_WIDE,
    layers.Equalization: _EXAMPLE_WIDE,
    layers.MaxNumBoundingBoxes: ("works on bounding boxes, not on an image", "leave it out of the model"),
    layers.Solarization: _EXAMPLE_WIDE,
    layers.InputLayer: _BASE,
}
