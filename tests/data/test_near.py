"""Nearly equal pictures and texts: what counts as near, what does not, and that the search is linear."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from danlu.data.near_images import LUMINANCE, grey_thumbnails, near_image_pairs
from danlu.data.near_texts import near_text_pairs
from danlu.data.outliers import unusual_images, unusual_texts


def natural_pictures(number: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """(number, 3, size, size) uint8 clouds: noise whose power falls with the square of the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    spectrum = 1 / np.maximum(frequency, 1 / size)
    waves = np.fft.fft2(rng.normal(size=(number, 3, size, size))) * spectrum
    clouds = np.fft.ifft2(waves).real
    clouds /= clouds.std((2, 3), keepdims=True)
    return np.clip(clouds * 50 + 128, 0, 255).astype(np.uint8)


def saved_again(picture: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out)).transpose(2, 0, 1)


def brighter(picture: np.ndarray) -> np.ndarray:
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(picture.transpose(1, 2, 0))).enhance(1.1)).transpose(
        2, 0, 1
    )


def smaller_and_back(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture.transpose(1, 2, 0))
    return np.asarray(image.resize((24, 24)).resize((32, 32))).transpose(2, 0, 1)


CHANGES = {
    "saved again at quality 75": lambda picture: saved_again(picture, 75),
    "saved again at quality 40": lambda picture: saved_again(picture, 40),
    "brighter": brighter,
    "smaller and back": smaller_and_back,
    "grey": lambda picture: np.repeat(np.tensordot(LUMINANCE, picture, 1)[None].astype(np.uint8), 3, axis=0),
}


@pytest.mark.parametrize("number", [40, 400, 3000])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_found_and_no_others(change: str, number: int) -> None:
    pictures = natural_pictures(number)
    planted = np.stack([CHANGES[change](picture) for picture in pictures[:10]])
    pairs = near_image_pairs(grey_thumbnails(np.concatenate([pictures, planted]))).tolist()
    assert pairs == [[i, number + i] for i in range(10)]


def test_pictures_of_one_layout_are_not_near_for_that() -> None:
    rng = np.random.default_rng(0)
    outline = np.zeros((28, 28))
    outline[4:24, 9:19] = 180
    pictures = np.clip(outline + (outline > 0) * rng.normal(0, 25, (2000, 28, 28)), 0, 255).astype(np.uint8)[:, None]
    assert not len(near_image_pairs(grey_thumbnails(pictures)))


def test_many_copies_of_one_picture_are_tied_together() -> None:
    pictures = natural_pictures(200)
    copies = np.stack([saved_again(pictures[0], quality) for quality in range(60, 90)])
    pairs = near_image_pairs(grey_thumbnails(np.concatenate([pictures, copies])))
    assert set(pairs.reshape(-1).tolist()) == {0, *range(200, 230)}


def test_blank_pictures_are_near_to_nothing_and_are_unusual() -> None:
    pictures = natural_pictures(100)
    pictures[[3, 9]] = 250
    thumbnails = grey_thumbnails(pictures)
    assert not len(near_image_pairs(thumbnails))
    assert unusual_images(thumbnails)[:2] == [
        (3, "blank: every part has a brightness of 250"),
        (9, "blank: every part has a brightness of 250"),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_pictures_are_no_trouble(number: int) -> None:
    assert near_image_pairs(grey_thumbnails(natural_pictures(number))).shape == (0, 2)


def test_thumbnail_is_the_mean_of_areas() -> None:
    pictures = np.zeros((1, 1, 32, 32), np.uint8)
    pictures[0, 0, :2, :2] = [[10, 20], [30, 40]]
    thumbnail = grey_thumbnails(pictures)[0].reshape(16, 16)
    assert thumbnail[0, 0] == 25
    assert thumbnail.sum() == 25


def test_picture_far_darker_than_the_others_is_told_with_what_is_usual() -> None:
    thumbnails = grey_thumbnails(natural_pictures(500))
    thumbnails[7] = thumbnails[7] * 0.1 + 1
    (index, reason), *_ = unusual_images(thumbnails)
    assert index == 7
    assert reason.startswith("brightness 14 (95 % lie from")


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("很好吃！", "很好吃～～", True),
        ("ＧＯＯＤ food", "good food", True),
        ("送餐太慢了，等了一个半小时才到", "送餐太慢了,等了一个半小时才到!!", True),
        (
            "这家店的牛肉面非常好吃，下次还会再来的，推荐给所有住在附近的朋友们",
            "这家店的牛肉面非常好吃，下次还会再来的，推荐给所有住附近的朋友们",
            True,
        ),
        ("不好吃", "好吃", False),
        ("很好吃，下次再来", "不好吃，下次不来", False),
        ("the food was cold and the rider was rude to us", "the food was warm and the rider was kind to us", False),
        ("？？", "！！", False),
    ],
)
def test_texts_are_near_by_their_letters(one: str, other: str, near: bool) -> None:
    texts = [one, "完全不同的另外一句话，和上面没有任何关系", other]
    assert near_text_pairs(texts).tolist() == ([[0, 2]] if near else [])


def test_hardly_any_texts_are_no_trouble() -> None:
    assert near_text_pairs([]).shape == near_text_pairs(["好"]).shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("！！！", "no letter or digit"),
        ("好好好好好好好好好好好好好好好好好好好好好好", "1 different signs in 22"),
        ("Nothing in this sentence is Chinese at all", "mostly Latin letters, as 1.0% of the texts"),
        ("".join(map(chr, range(0x4E00, 0x5E00))), "length in signs 4,096 (95 % lie from 21 to 22)"),
    ],
)
def test_unusual_text_is_told_with_its_reason(text: str, reason: str) -> None:
    usual = [f"第{i}家的菜味道还可以，送餐{'快' if i % 3 else '慢'}得让人没有话说" for i in range(99)]
    (index, told), *rest = unusual_texts([*usual, text])
    assert (index, rest) == (99, [])
    assert told.startswith(reason)


def seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


def test_time_of_the_search_grows_as_the_number_of_examples() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(128, 40, (4000, 256)).astype(np.float32)
    large = rng.normal(128, 40, (16_000, 256)).astype(np.float32)
    few = min(seconds(lambda: near_image_pairs(small)) for _ in range(3))
    many = min(seconds(lambda: near_image_pairs(large)) for _ in range(2))
    assert many < 10 * few + 0.5  # 16 times would be the square


def test_rows_of_a_table_with_one_text_many_times_stay_linear() -> None:
    texts = ["很好吃，下次还会再来，推荐给大家"] * 20_000
    assert len(near_text_pairs(texts)) == 19_999
