"""Architectures: one file each, with `build(example_shape, num_classes, options) -> nn.Module`."""

from __future__ import annotations

from danlu.base.registry import Member, Registry

MODELS = Registry(
    "model",
    {
        "mlp": Member(
            "danlu.models.mlp", "fully connected layers, 256 and 128 wide; small images of any size", ("images",)
        ),
        "simple_cnn": Member("danlu.models.simple_cnn", "three convolutions with pooling, 512 hidden", ("images",)),
        "digit_cnn": Member(
            "danlu.models.digit_cnn", "two convolutions without padding, for small grey signs", ("images",)
        ),
        "vgg_cnn": Member("danlu.models.vgg_cnn", "three blocks of two convolutions with batch norm", ("images",)),
        "fast_cnn": Member(
            "danlu.models.fast_cnn", "four convolutions, halved early; the most accuracy a second", ("images",)
        ),
        "ngrams": Member("danlu.models.ngrams", "hashed n-gram bag, the fast and strong text baseline", ("texts",)),
        "textcnn": Member("danlu.models.textcnn", "convolutions over time with max pooling", ("texts",)),
        "bilstm": Member("danlu.models.bilstm", "two-layer LSTM read in both directions", ("texts",)),
    },
)
