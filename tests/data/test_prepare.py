"""From data to three parts: what is left out is counted and named, and statistics come from train alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danlu.base.errors import DataError
from danlu.base.settings import DataSettings
from danlu.data.prepare import PreparedData, prepare
from danlu.inputs.images import ImageRecipe
from danlu.inputs.texts import TextRecipe
from pictures import write_pictures, write_reviews

TABLE = Path("r.csv")


def reviews(*extra: str, **settings: object) -> PreparedData:
    write_reviews(TABLE)
    with open(TABLE, "a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in extra)
    return prepare(TABLE, DataSettings(**settings))  # type: ignore[arg-type]


def test_every_example_is_in_exactly_one_part(tmp_path: Path) -> None:
    for data in (write_pictures(tmp_path / "照片"), write_reviews(TABLE)):
        prepared = prepare(data, DataSettings())
        places = np.concatenate([part.indices for part in prepared.parts.values()])
        assert sorted(places.tolist()) == list(range(len(prepared.examples)))
        for name, part in prepared.parts.items():
            assert len(part.inputs) == len(part.labels) == len(part)
            assert part.labels.tolist() == prepared.examples.labels[part.indices].tolist()
            assert {prepared.manifest[i].part for i in part.indices} == {name}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["1,"], "1 of 61 examples in `r.csv` cannot be read: `line 62` (has an empty text)"),
        (["1,\u200b\u202e"], "`line 62` (holds nothing but blanks or invisible characters)"),
        (["1"], "`line 62` (has 1 cells, the header has 2)"),
        (
            ["1,", ",好", "1", "0,\u200b", "1,a,b"],
            "5 of 65 examples in `r.csv` cannot be read: `line 62` (has an empty text), "
            "`line 63` (has an empty label), `line 64` (has 1 cells, the header has 2) and 2 more",
        ),
    ],
    ids=["empty", "invisible", "ragged", "many"],
)
def test_unreadable_texts_stop_the_run_or_are_left_out_and_counted(rows: list[str], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        reviews(*rows)
    assert expected in caught.value.message
    assert "leave them out with `data.unreadable=skip`" in str(caught.value)
    prepared = reviews(*rows, unreadable="skip")
    assert len(prepared.examples) == 60
    assert len(prepared.examples.problems) == len(rows)
    assert any(note.startswith("left out: ") and expected in note for note in prepared.notes)


def test_unreadable_images_stop_the_run_or_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "photos")
    cut = root / "blue" / "003.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    png = root / "green" / "cut.png"
    Image.new("RGB", (16, 16), (40, 200, 60)).save(png)
    png.write_bytes(png.read_bytes()[:60])
    expected = "cannot be read: `blue/003.jpg` (ends after 300 bytes), `green/cut.png` ("
    with pytest.raises(DataError, match="2 of 37 examples") as caught:
        prepare(root, DataSettings())
    assert expected in caught.value.message
    prepared = prepare(root, DataSettings(unreadable="skip"))
    assert len(prepared.examples) == 35
    assert {problem.key for problem in prepared.examples.problems} == {"blue/003.jpg", "green/cut.png"}
    assert any(expected in note for note in prepared.notes)


def test_data_without_a_readable_example_is_refused(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "photos")
    for path in root.glob("*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 36 examples in `.*photos` can be read, first: `.*` \(is empty"):
        prepare(root, DataSettings(unreadable="skip"))


def test_image_statistics_come_from_the_train_part_alone(tmp_path: Path) -> None:
    for part, level in (("train", 40), ("val", 200), ("test", 220)):
        for index, name in enumerate(("a", "b")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            pixels = np.full((8, 8), level + index * 20, np.uint8)
            Image.fromarray(pixels).save(folder / "1.png")
    recipe = prepare(tmp_path / "photos", DataSettings()).recipe
    assert isinstance(recipe, ImageRecipe)
    assert recipe.mean == pytest.approx((50 / 255,), abs=1e-6)
    assert recipe.std == pytest.approx((10 / 255,), abs=1e-6)


def test_image_size_and_colour_come_from_the_train_part_alone(tmp_path: Path) -> None:
    for part, size, mode in (("train", 12, "L"), ("test", 40, "RGB"), ("val", 30, "RGB")):
        for name in ("a", "b"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            Image.effect_noise((size, size), 50).convert(mode).save(folder / "1.png")
    recipe = prepare(tmp_path / "photos", DataSettings()).recipe
    assert isinstance(recipe, ImageRecipe)
    assert recipe.shape == (1, 12, 12)


def test_reviews_that_were_written_twice_are_in_one_part() -> None:
    rng = np.random.default_rng(0)
    signs = [chr(0x4E00 + number) for number in range(3000)]
    rows = [f"{i % 2},{''.join(rng.choice(signs, 20))}，{''.join(rng.choice(signs, 20))}" for i in range(40)]
    prepared = reviews(*rows, *(row.replace("，", "!") for row in rows))
    part_of = {row.key: row.part for row in prepared.manifest}
    keys = list(part_of)[-80:]
    assert [part_of[key] for key in keys[:40]] == [part_of[key] for key in keys[40:]]
    assert prepared.near_pairs is not None and len(prepared.near_pairs) >= 40


def test_vocabulary_comes_from_the_train_part_alone() -> None:
    rows = [f"{'好坏'[i % 2]}{i},{i % 2},train" for i in range(8)] + ["鑫,0,test", "鑫,1,validation"]
    TABLE.write_text("text,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    recipe = prepare(TABLE, DataSettings(min_count=1)).recipe
    assert isinstance(recipe, TextRecipe)
    assert recipe.encode(["鑫"]).tolist() == [[1]]
    assert recipe.encode(["好"]).tolist() != [[1]]


def test_texts_longer_than_the_limit_are_cut_and_counted() -> None:
    prepared = reviews("1," + "好" * 90, max_length=40)
    assert "1 text is longer than 40 tokens; what is beyond is cut" in prepared.notes
    assert max(len(row) for part in prepared.parts.values() for row in part.inputs) <= 40


def test_values_chosen_from_the_data_come_with_their_reason(tmp_path: Path) -> None:
    pictures = prepare(write_pictures(tmp_path / "photos"), DataSettings())
    assert pictures.choices["data.image_size"] == (16, "the images have 16 × 16 pixels")
    assert pictures.choices["data.color"] == ("rgb", "images have colour")
    assert reviews().choices["data.tokens"][0] == "characters"
