"""A bag of hashed n-grams of the tokens: embeddings added up, then a linear layer (after Joulin et al., 2017)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from danlu.models.shapes import ModelOptions, TextShape

MULTIPLIER, OFFSET, MODULUS = 1_000_003, 7_919, 2**31 - 1
SMALLEST_EMBEDDING, LARGEST_EMBEDDING = 10, 64


class Options(ModelOptions):
    """`embedding_size` left open is the number of classes, at least 10 and at most 64."""

    longest: int = Field(3, ge=1, le=8)
    buckets: int = Field(2**17, ge=2)
    embedding_size: int | None = Field(None, ge=1)
    gram_dropout: float = Field(0.5, ge=0, lt=1)
    dropout: float = Field(0.3, ge=0, lt=1)


class NGrams(nn.Module):
    """Single tokens have an embedding each; 2-grams and longer share `buckets` of them by a hash.

    The sum over the n-grams is divided by the root of their number, which keeps long texts from drowning out in
    their mean. The hash is integer arithmetic below 2⁵², so it is the same in every runtime.
    """

    def __init__(self, vocabulary_size: int, num_classes: int, options: Options) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.buckets = options.buckets
        self.longest = options.longest
        self.gram_dropout = options.gram_dropout
        size = options.embedding_size or max(SMALLEST_EMBEDDING, min(LARGEST_EMBEDDING, num_classes))
        self.embedding = nn.Embedding(vocabulary_size + options.buckets, size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.02)
        with torch.no_grad():
            self.embedding.weight[0].zero_()
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → (B, classes)."""
        grams = self.grams(tokens)
        if self.training and self.gram_dropout:
            grams = grams * (torch.rand(grams.shape, device=grams.device) >= self.gram_dropout)
        count = (grams != 0).sum(1, keepdim=True).clamp(min=1)
        if torch.compiler.is_exporting():  # ONNX has no embedding bag; the row of the padding is 0
            total = self.embedding(grams).sum(1)
        else:
            total = functional.embedding_bag(grams, self.embedding.weight, mode="sum", padding_idx=0)
        scores: Tensor = self.head(self.dropout(total / count.sqrt()))
        return scores

    def grams(self, tokens: Tensor) -> Tensor:
        """(B, L) → (B, all n-grams) rows of the embedding; 0 where a gram would reach into the padding."""
        found, value = [tokens], tokens
        for length in range(2, self.longest + 1):
            last = tokens[:, length - 1 :]
            value = (value[:, : last.shape[1]] * MULTIPLIER + last * OFFSET + length) % MODULUS
            found.append(torch.where(last != 0, self.vocabulary_size + value % self.buckets, 0))
        return torch.cat(found, 1)


def build(example_shape: TextShape, num_classes: int, options: Options) -> nn.Module:
    return NGrams(example_shape.vocabulary_size, num_classes, options)
