"""A two-layer LSTM in both directions, read at each text's true ends, not at the padding."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.models.shapes import ModelOptions, TextShape


class Options(ModelOptions):
    embedding_size: int = Field(64, ge=1)
    hidden_size: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)


class BiLSTM(nn.Module):
    """Each layer's backward direction reads the text reversed within its own length.

    The reversal is an index gather, so the model exports at any batch size and length and needs no packing.
    """

    def __init__(self, vocabulary_size: int, num_classes: int, options: Options) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, options.embedding_size, padding_idx=0)
        sizes = [options.embedding_size] + [2 * options.hidden_size] * (options.layers - 1)
        self.forward_layers = nn.ModuleList(nn.LSTM(size, options.hidden_size, batch_first=True) for size in sizes)
        self.backward_layers = nn.ModuleList(nn.LSTM(size, options.hidden_size, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(2 * options.hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → (B, classes)."""
        lengths = (tokens != 0).sum(1, keepdim=True).clamp(min=1)  # (B, 1)
        places = torch.arange(tokens.shape[1], device=tokens.device)[None, :]
        mirror = torch.where(places < lengths, lengths - 1 - places, places)  # its own inverse
        states = self.embedding(tokens)
        for number, (ahead, back) in enumerate(zip(self.forward_layers, self.backward_layers, strict=True)):
            states = self.dropout(states) if number else states
            read_ahead, _ = ahead(states)
            read_back, _ = back(_gather(states, mirror))
            states = torch.cat([read_ahead, _gather(read_back, mirror)], 2)
        last, first = lengths - 1, torch.zeros_like(lengths)
        half = states.shape[2] // 2
        ends = torch.cat([_gather(states, last)[:, 0, :half], _gather(states, first)[:, 0, half:]], 1)
        scores: Tensor = self.head(self.dropout(ends))
        return scores


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """(B, L, F) states at (B, P) places → (B, P, F)."""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))


def build(example_shape: TextShape, num_classes: int, options: Options) -> nn.Module:
    return BiLSTM(example_shape.vocabulary_size, num_classes, options)
