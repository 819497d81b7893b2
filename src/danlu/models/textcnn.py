"""Convolutions of several widths over time, the maximum of each over the text (Kim, 2014)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from danlu.models.shapes import ModelOptions, TextShape


class Options(ModelOptions):
    embedding_size: int = Field(128, ge=1)
    widths: list[Annotated[int, Field(ge=1)]] = [3, 4, 5]
    filters: int = Field(100, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)


class TextCNN(nn.Module):
    def __init__(self, vocabulary_size: int, num_classes: int, options: Options) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, options.embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()
        self.widths = options.widths
        self.convolutions = nn.ModuleList(
            nn.Conv1d(options.embedding_size, options.filters, width, padding=width - 1) for width in options.widths
        )
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(options.filters * len(options.widths), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → (B, classes). The padding around a text is 0, so longer batches change nothing."""
        signs = self.embedding(tokens).transpose(1, 2)  # (B, embedding, L)
        lengths = (tokens != 0).sum(1)
        features = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            found = functional.relu(convolution(signs))  # (B, filters, L + width - 1)
            places = torch.arange(found.shape[2], device=tokens.device)
            inside = places < (lengths + width - 1)[:, None]
            features.append((found * inside[:, None]).amax(2))
        scores: Tensor = self.head(self.dropout(torch.cat(features, 1)))
        return scores


def build(example_shape: TextShape, num_classes: int, options: Options) -> nn.Module:
    return TextCNN(example_shape.vocabulary_size, num_classes, options)
