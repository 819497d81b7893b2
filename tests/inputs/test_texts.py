"""From texts to token numbers: hostile signs, saved tokenizers, padding."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest

from danlu.base.errors import ModelError, UnreadableItem
from danlu.inputs.texts import CHARACTER_LIMIT, TextRecipe, clean_text, looks_chinese, pad_rows

TRAIN = ["很快，好吃", "好吃 不贵", "Very good food", "good service"]


def recipe(tokens: Literal["characters", "words"] = "characters", **options: int) -> TextRecipe:
    return TextRecipe.fit(TRAIN, tokens=tokens, **{"max_length": 16, "min_count": 1, **options})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("   ", "holds nothing but blanks or invisible characters"),
        ("\t\r\n\u3000", "holds nothing but blanks or invisible characters"),
        ("\0\x01\x7f", "holds nothing but blanks or invisible characters"),
        ("\u200b\u200d\ufeff\u202e", "holds nothing but blanks or invisible characters"),
        (None, "is not a text but NoneType"),
        (7, "is not a text but int"),
        (["好"], "is not a text but list"),
        (b"bytes", "is not a text but bytes"),
    ],
    ids=["empty", "blanks", "wide-blanks", "control", "zero-width-and-bidi", "null", "number", "list", "bytes"],
)
@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_text_without_a_sign_to_read_says_why(text: str, expected: str, tokens: Literal["characters", "words"]) -> None:
    with pytest.raises(UnreadableItem) as caught:
        recipe(tokens).encode(["好吃", text])
    assert caught.value.message == expected


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("好\0吃", "好吃"),
        ("好\u200b吃", "好吃"),
        ("\ufeff好吃", "好吃"),
        ("\u202e好吃\u202c", "好吃"),
        ("  好吃\r\n", "好吃"),
        ("ＧＯＯＤ", "good"),
        ("good \t\n food", "good food"),
    ],
    ids=["nul", "zero-width", "bom", "bidi", "outer-blanks", "full-width-capitals", "inner-blanks"],
)
@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_invisible_differences_give_the_same_tokens(
    hostile: str, plain: str, tokens: Literal["characters", "words"]
) -> None:
    assert np.array_equal(recipe(tokens).encode([hostile]), recipe(tokens).encode([plain]))


@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_only_unknown_signs_become_unknown_tokens(tokens: Literal["characters", "words"]) -> None:
    assert set(recipe(tokens).encode(["ЖЩЮ"]).reshape(-1).tolist()) == {1}


def test_lone_surrogates_are_read_as_one_unknown_sign() -> None:
    assert clean_text("a\ud800b") == "a\ufffdb"
    assert recipe().encode(["\udfff"]).tolist() == [[1]]


def test_pair_of_surrogates_is_the_character_it_spells() -> None:
    assert clean_text("\ud83d\ude00") == "😀"


def test_token_of_ten_megabytes_is_cut_and_read() -> None:
    assert len(clean_text("x" * 10_000_000)) == CHARACTER_LIMIT
    assert recipe("words").encode(["x" * 10_000_000]).tolist() == [[1]]
    assert recipe().encode(["x" * 10_000_000]).shape == (1, 16)


def test_text_that_spells_a_special_token_is_not_taken_for_it() -> None:
    for tokens in ("characters", "words"):
        assert 0 not in recipe(tokens).encode(["<pad>"])  # type: ignore[arg-type]


def test_long_text_is_cut_at_its_end_and_short_ones_are_padded() -> None:
    encoded = recipe(max_length=3).encode(["好吃不贵", "好"])
    assert encoded.shape == (2, 3)
    assert encoded.dtype == np.int64
    assert encoded[1, 1:].tolist() == [0, 0]
    assert encoded[0].tolist() == recipe(max_length=16).encode(["好吃不"])[0].tolist()


def test_no_text_gives_no_row() -> None:
    assert recipe().encode([]).shape[0] == 0
    assert pad_rows([]).shape[0] == 0


def test_words_are_words_and_characters_are_signs() -> None:
    assert recipe("words").encode(["good food"]).shape == (1, 2)
    assert recipe("characters").encode(["好吃"]).shape == (1, 2)


def test_rare_tokens_stay_unknown() -> None:
    assert 1 in recipe(min_count=2).encode(["很"])
    assert 1 not in recipe(min_count=2).encode(["好"])


def test_vocabulary_is_no_larger_than_asked() -> None:
    assert recipe(vocabulary_size=5).vocabulary_size <= 5


@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_recipe_survives_json(tokens: Literal["characters", "words"]) -> None:
    before = recipe(tokens)
    after = TextRecipe.from_json(json.loads(json.dumps(before.to_json())))
    texts = ["很快，好吃！", "Good 服务", "<pad> <unk>", "a\ud800"]
    assert (after.tokens, after.max_length) == (before.tokens, before.max_length)
    assert np.array_equal(after.encode(texts), before.encode(texts))


@pytest.mark.parametrize(
    "values",
    [{}, {"tokenizer": {}, "tokens": "words", "max_length": 3}, {**recipe().to_json(), "max_length": "many"}],
    ids=["empty", "no-tokenizer", "wrong-length"],
)
def test_damaged_tokenizer_is_a_model_error(values: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="the saved tokenizer cannot be read"):
        TextRecipe.from_json(values)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["很快，好吃", "good"], True), (["a very good meal", "好"], False), (["12 34", "!?"], False), ([], False)],
)
def test_chinese_is_recognised_by_its_letters(texts: list[str], expected: bool) -> None:
    assert looks_chinese(texts) is expected
