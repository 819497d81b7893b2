"""Texts: one tokenizer, built from the training part, saved as JSON with the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from danlu.base.errors import ModelError, UnreadableItem

PAD, UNKNOWN = "<pad>", "<unk>"
CHARACTER_LIMIT = 100_000
_CONTROL = Regex(r"[\p{Cc}\p{Cf}&&[^\n\t\r]]")


class TextRecipe:
    """Everything that decides which token numbers a text becomes.

    `<pad>` is 0 and `<unk>` is 1. A text longer than `max_length` tokens is cut at its end.

    >>> recipe = TextRecipe.fit(["很快，好吃", "好吃"], tokens="characters", max_length=8, min_count=1)
    >>> recipe.encode(["好吃"]).shape
    (1, 2)
    """

    def __init__(self, tokenizer: Tokenizer, tokens: str, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.max_length = max_length

    @property
    def vocabulary_size(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        tokens: Literal["characters", "words"],
        max_length: int,
        vocabulary_size: int = 20_000,
        min_count: int = 2,
    ) -> TextRecipe:
        """A tokenizer with the most frequent tokens of `texts`, which must be the training part alone."""
        tokenizer = _tokenizer({PAD: 0, UNKNOWN: 1}, tokens)
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocabulary_size, min_frequency=min_count, special_tokens=[PAD, UNKNOWN], show_progress=False
        )
        tokenizer.train_from_iterator((clean_text(text) for text in texts), trainer)
        # A tokenizer without added tokens: a text that spells out `<pad>` must not become padding.
        return cls(_tokenizer(tokenizer.get_vocab(), tokens), tokens, max_length)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, not cut. A text of blanks alone raises `UnreadableItem`."""
        encoded = self.tokenizer.encode_batch_fast([clean_text(text) for text in texts], add_special_tokens=False)
        ids = [item.ids for item in encoded]
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise UnreadableItem("is empty" if not text else "holds nothing but blanks or invisible characters")
        return ids

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, longest) int64, cut to `max_length` and filled with `<pad>` at the end."""
        return pad_rows([row[: self.max_length] for row in self.token_ids(texts)])

    def to_json(self) -> dict[str, object]:
        return {
            "tokens": self.tokens,
            "max_length": self.max_length,
            "tokenizer": json.loads(self.tokenizer.to_str()),
        }

    @classmethod
    def from_json(cls, values: dict[str, object]) -> TextRecipe:
        """Raises `ModelError` for what is not as danlu writes it: a tokenizer of somebody else could do anything."""
        try:
            tokens, max_length, saved = values["tokens"], values["max_length"], values["tokenizer"]
            vocabulary = saved["model"]["vocab"]  # type: ignore[index]
            if tokens not in ("characters", "words") or type(max_length) is not int or max_length < 1:
                raise ValueError(f"tokens {tokens!r}, length {max_length!r}")
            if vocabulary[PAD] != 0 or vocabulary[UNKNOWN] != 1 or not _numbers_each(vocabulary):
                raise ValueError("its tokens are not numbered from 0 on")
            tokenizer = _tokenizer(vocabulary, str(tokens))
            if json.loads(tokenizer.to_str()) != saved:
                raise ValueError("it is not one of danlu's")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the saved tokenizer cannot be read: {error}") from error
        return cls(tokenizer, str(tokens), max_length)


def _tokenizer(vocabulary: dict[str, int], tokens: str) -> Tokenizer:
    """The one way in which danlu cuts texts, into `characters` or `words`."""
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(_CONTROL, ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    pattern = r"[\s\S]" if tokens == "characters" else r"\w+|[^\w\s]"
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = (
        cut if tokens == "characters" else pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), cut])
    )
    return tokenizer


def _numbers_each(vocabulary: dict[str, int]) -> bool:
    numbers = vocabulary.values()
    return all(type(number) is int for number in numbers) and set(numbers) == set(range(len(vocabulary)))


def pad_rows(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of unequal length as one (rows, longest) int64 array, 0 at the end."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    padded = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=np.int64)
    if not rows:
        return padded
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return padded


def groups_of_similar_length(padded: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of `pad_rows` sorted by length, `size` at a time: their places, and themselves without common padding.

    >>> [rows.tolist() for _, rows in groups_of_similar_length(pad_rows([[5], [6, 7, 8], [9]]), 2)]
    [[[5], [9]], [[6, 7, 8]]]
    """
    lengths = padded.shape[1] - (padded[:, ::-1] != 0).argmax(1)
    order = np.argsort(lengths, kind="stable")
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return [(places, padded[places, : lengths[places[-1]]]) for places in groups]


def clean_text(text: str) -> str:
    """The text as far as any tokenizer reads it: lone surrogates become U+FFFD, no more than 100,000 characters.

    Raises `UnreadableItem` when it is not a text.
    """
    if not isinstance(text, str):
        raise UnreadableItem(f"is not a text but {type(text).__name__}")
    return text[:CHARACTER_LIMIT].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def looks_chinese(texts: Sequence[str]) -> bool:
    """True when more than 3 in 10 letters are Chinese, Japanese or Korean signs, which blanks do not separate."""
    letters = [sign for text in texts[:2000] for sign in text[:200] if sign.isalpha()]
    signs = sum(1 for sign in letters if "\u3040" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af")
    return signs > 0.3 * max(1, len(letters))
