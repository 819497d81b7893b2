"""Tables of texts or image names: encodings, separators, columns, labels, and every row accounted for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from danlu.base.errors import ConfigError, DataError
from danlu.base.settings import DataSettings
from danlu.sources import table
from danlu.sources.examples import Examples
from danlu.sources.recognize import read_examples, recognize

FILE = Path("表.csv")


def read(content: str | bytes, name: str | Path = FILE, **settings: object) -> Examples:
    Path(name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return table.read(name, DataSettings(**settings))  # type: ignore[arg-type]


def refusal(content: str | bytes, name: str | Path = FILE, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        read(content, name, **settings)
    return str(caught.value)


def json_lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def told(examples: Examples) -> dict[str, str]:
    return {problem.key: problem.reason for problem in examples.problems}


GOOD = "text,label\n好吃,1\n难吃,0\n"


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (GOOD.encode(), ()),
        (b"\xef\xbb\xbf" + GOOD.encode(), ()),
        (GOOD.replace("\n", "\r\n").encode(), ()),
        (GOOD.replace("\n", "\r").encode(), ()),
        (("\n\r\n" + GOOD).encode(), ()),
        ((GOOD + "\n\n").encode(), ()),
        (GOOD.encode("utf-16"), ("text encoding UTF-16, from its byte order mark",)),
        (b"\xfe\xff" + GOOD.encode("utf-16-be"), ("text encoding UTF-16, from its byte order mark",)),
        (GOOD.encode("gb18030"), ("text encoding GB18030: the bytes are not UTF-8 and are valid GB18030",)),
        (GOOD.replace(",", ";").encode(), ("columns are separated by `;`, seen in the header",)),
        (GOOD.replace(",", "\t").encode(), ("columns are separated by tab, seen in the header",)),
        (GOOD.replace(",", "|").encode(), ("columns are separated by `|`, seen in the header",)),
        (GOOD.replace("text", " Text ").replace("label", "LABEL").encode(), ()),
        ('"text","label"\n"好吃","1"\n"难吃","0"\n'.encode(), ()),
    ],
    ids=[
        "utf-8", "bom", "crlf", "cr", "blank-lines-on-top", "blank-lines-below", "utf-16-le", "utf-16-be", "gb18030",
        "semicolon", "tab", "bar", "blanks-and-capitals-in-the-header", "quoted",
    ],
)  # fmt: skip
def test_same_table_in_every_dress_gives_the_same_examples(content: bytes, notes: tuple[str, ...]) -> None:
    examples = read(content)
    assert list(examples.items) == ["好吃", "难吃"]
    assert examples.classes == ("0", "1")
    assert examples.labels.tolist() == [1, 0]
    assert examples.notes == notes
    assert examples.problems == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "`表.csv` is empty"),
        (b" \r\n\n", "`表.csv` is empty"),
        (b"\xef\xbb\xbf", "`表.csv` is empty"),
        (b"\xff\xfe", "`表.csv` is empty"),
        ("text,label\n", "`表.csv` holds no labelled example\n\nhint: a classifier needs at least two classes"),
        ("text,label\na,x\nb,x\n", "`表.csv` has one class only: `x`\n\nhint: a classifier needs at least two classes"),
        ("a,b\n1,2\n", "no label and no text column recognised in `表.csv`; its columns: `a`, `b`\n\nhint: name them: "
         "`data.label_column=…` `data.text_column=…` (or `data.image_column=…`)"),
        ("text,mark\n1,2\n", "no label column recognised in `表.csv`; its columns: `text`, `mark`\n\n"
         "hint: name them: `data.label_column=…`"),
        ("words,label\n1,2\n", "no text column recognised in `表.csv`; its columns: `words`, `label`\n\n"
         "hint: name them: `data.text_column=…` (or `data.image_column=…`)"),
        ("text,label,text\n1,2,3\n", "`表.csv` has the column `text` more than once"),
        ('text,label\na,x\nb,"y\n', "`表.csv`, line 3: a quote is opened and never closed"),
        ('text,label\n"a"b,x\n', "`表.csv`, line 2: ',' expected after '\"'"),
        ('"text,label\n', "`表.csv`, line 1: unexpected end of data"),
        ("text,label\na,x\nb\0,y\n", "`表.csv` holds a NUL character at line 3"),
        (GOOD.encode("utf-16-le"), "`表.csv` holds a NUL character at line 1"),
        ("text,label\n" + "x" * ((16 << 20) + 1) + ",a\n", "`表.csv`, line 2: field larger than"),
        (b"text,label\na,x\n\xff\xff,y\n", "`表.csv` is neither UTF-8 nor GB18030, first at line 3\n\n"
         "hint: name it with `data.encoding=…`"),
        (GOOD.encode("utf-16") + b"\0", "`表.csv` is not utf-16, first at line"),
        ("text,label\n,x\na,\n", "none of the 2 rows of `表.csv` can be used, first: line 2 has an empty text"),
    ],
    ids=[
        "empty", "blanks", "bom-only", "utf-16-bom-only", "no-rows", "one-class", "no-known-column", "no-label-column",
        "no-text-column", "double-column", "unclosed-quote", "text-behind-a-quote", "unclosed-quote-in-the-header",
        "nul", "utf-16-without-bom", "huge-field", "unknown-encoding", "utf-16-cut-off", "no-usable-row",
    ],
)  # fmt: skip
def test_table_that_cannot_be_used_says_why_and_where(content: str | bytes, expected: str) -> None:
    assert refusal(content).startswith(expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a", "has 1 cells, the header has 2"),
        ("a,b,c", "has 3 cells, the header has 2"),
        ("a,", "has an empty label"),
        ("a,  ", "has an empty label"),
        (",x", "has an empty text"),
        ("  ,x", "has an empty text"),
    ],
)
def test_row_that_cannot_be_used_is_a_problem_with_its_line(row: str, expected: str) -> None:
    examples = read(f'text,label\na,x\n"two\nlines",y\n\n{row}\nb,x\n')
    assert told(examples) == {"line 6": expected}
    assert examples.keys == ("line 2", "line 3", "line 7")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"text": "a", "label"', "is not JSON (Expecting ':' delimiter: line 1 column 22 (char 21))"),
        ('["a", "x"]', "is a list, expected an object"),
        ("7", "is a int, expected an object"),
        ("[" * 5000, "is not JSON ("),
        ({"text": "a"}, "has no usable label (null)"),
        ({"text": "a", "label": None}, "has no usable label (null)"),
        ({"text": "a", "label": 0.5}, "has no usable label (0.5)"),
        ('{"text": "a", "label": NaN}', "has no usable label (NaN)"),
        ({"text": "a", "label": ["x"]}, 'has no usable label (["x"])'),
        ({"label": "x"}, "has no text but nothing"),
        ({"text": None, "label": "x"}, "has no text but nothing"),
        ({"text": 7, "label": "x"}, "has no text but int"),
        ({"text": ["a"], "label": "x"}, "has no text but list"),
        ('{"text": "a", "label": "x", "label": "y"}', "has the key 'label' more than once"),
        ('{"text": "a", "label": "\\ud800"}', "has a label with a broken character ('\\ud800')"),
    ],
    ids=[
        "malformed", "list", "number", "too-deep", "no-label", "null-label", "fraction", "nan", "label-list", "no-text",
        "null-text", "number-for-text", "list-for-text", "double-key", "lone-surrogate",
    ],
)  # fmt: skip
def test_json_line_that_cannot_be_used_is_a_problem_with_its_line(row: object, expected: str) -> None:
    examples = read(json_lines({"text": "a", "label": "x"}, row, {"text": "b", "label": "y"}), "a.jsonl")
    assert list(told(examples)) == ["line 2"]
    assert told(examples)["line 2"].startswith(expected)
    assert examples.keys == ("line 1", "line 3")


def test_json_text_may_hold_line_separators_and_half_characters() -> None:
    rows = json_lines('{"text": "a\u2028b\x85c", "label": true}', '{"text": "\\ud800", "label": false}')
    examples = read(rows, "a.jsonl")
    assert list(examples.items) == ["a\u2028b\x85c", "\ud800"]
    assert examples.classes == ("false", "true")


def test_labels_are_texts_and_keep_their_spelling() -> None:
    examples = read("text,label\na,NA\nb,007\nc,7\nd,null\ne,None\nf,nan\n")
    assert sorted(examples.classes) == sorted(("7", "007", "NA", "None", "nan", "null"))
    assert [examples.classes[i] for i in examples.labels] == ["NA", "007", "7", "null", "None", "nan"]


def test_blanks_around_labels_are_cut_and_counted() -> None:
    examples = read("text,label\na,cat \nb,cat\nc, dog\n")
    assert examples.classes == ("cat", "dog")
    assert examples.notes == ("2 labels had blanks around them, which were cut",)


def test_labels_that_differ_only_in_case_stay_apart_and_are_told() -> None:
    examples = read("text,label\na,Cat\nb,cat\n")
    assert examples.classes == ("Cat", "cat")
    assert examples.notes == ("classes `Cat` and `cat` differ only in case and stay apart",)


def test_numbered_classes_stand_in_the_order_of_their_numbers() -> None:
    assert read("text,label\na,10\nb,9\nc,2\n").classes == ("2", "9", "10")


def test_ten_thousand_classes_are_read() -> None:
    examples = read("text,label\n" + "".join(f"t{i},c{i}\n" for i in range(10_000)))
    assert len(examples.classes) == 10_000


def test_part_column_states_the_parts_and_another_word_is_a_problem() -> None:
    examples = read("text,label,split\na,x,train\nb,y,Dev\nc,x,TEST\nd,y,holdout\ne,y,\n")
    assert examples.parts == ("train", "validation", "test")
    assert told(examples) == {
        "line 5": "is in part 'holdout', expected train, validation or test",
        "line 6": "is in part '', expected train, validation or test",
    }


def test_column_that_only_sounds_like_a_split_is_not_read_and_told() -> None:
    examples = read("text,label,part\na,x,engine\nb,y,wheel\n")
    assert examples.parts == ("", "")
    assert examples.notes == ("column `part` is not read: it never says train, validation or test",)


def test_group_column_is_read_and_an_empty_cell_is_no_group() -> None:
    rows = json_lines(*({"text": t, "label": t, "g": g} for t, g in (("a", "p1"), ("b", 1), ("c", None), ("d", " "))))
    assert read(rows, "a.jsonl", group_column="g").groups == ("p1", "1", "", "")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"text_column": "txt"}, "data.text_column   `表.csv` has no column 'txt'; nearest: 'text'"),
        ({"label_column": "标签"}, "data.label_column   `表.csv` has no column '标签'; known: 'label', 'text'"),
        ({"group_column": "g"}, "data.group_column   `表.csv` has no column 'g'; known: 'label', 'text'"),
        ({"delimiter": ""}, "data.delimiter is one character, not a quote, or `tab`; got ''"),
        ({"delimiter": "ab"}, "data.delimiter is one character, not a quote, or `tab`; got 'ab'"),
        ({"delimiter": '"'}, "data.delimiter is one character, not a quote, or `tab`; got '\"'"),
        ({"delimiter": "\n"}, "data.delimiter is one character, not a quote, or `tab`; got '\\n'"),
        ({"encoding": "utf-99"}, "no text encoding called 'utf-99'\n\nhint: `data.encoding=gb18030`, for example"),
        ({"encoding": "base64"}, "no text encoding called 'base64'\n\nhint: `data.encoding=gb18030`, for example"),
    ],
)
def test_setting_that_does_not_fit_the_table_is_a_configuration_error(settings: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(GOOD, **settings)
    assert expected in str(caught.value)


def test_all_missing_columns_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="2 problems in the settings"):
        read(GOOD, text_column="a", label_column="b")


@pytest.mark.parametrize("encoding", ["ascii", "gb18030", "punycode"])
def test_asked_encoding_that_does_not_fit_is_a_data_error(encoding: str) -> None:
    content = b"text,label\na,x\n\xe5\xa5\xff,y\n" if encoding != "punycode" else b"text,label-\xff,"
    assert refusal(content, encoding=encoding).startswith(f"`表.csv` is not {encoding}, first at line ")


def test_asked_encoding_separator_and_columns_are_used() -> None:
    content = "正文:内容|名\n好:吃|1\n坏:吃|0\n".encode("gb18030")
    examples = read(content, encoding="gb18030", delimiter="|", text_column="正文:内容", label_column="名")
    assert list(examples.items) == ["好:吃", "坏:吃"]
    assert examples.notes == ("read as gb18030, as asked",)


def test_chinese_column_names_are_recognised() -> None:
    examples = read("评论,情感\n好,正\n坏,负\n")
    assert examples.description == "table of 2 texts in 2 classes (columns `评论` and `情感`)"


def test_folder_or_missing_file_in_place_of_a_table_is_a_data_error() -> None:
    for place, expected in ((".", "Is a directory"), ("nowhere.csv", "No such file or directory")):
        with pytest.raises(DataError, match=re.escape(f"cannot read `{place}`: {expected}")):
            table.read(place, DataSettings(source="table"))


IMAGES = ("a.jpg", "子/b.jpg")


@pytest.fixture
def _images() -> None:
    for name in IMAGES:
        path = Path("data", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/etc/passwd", "names `/etc/passwd`, outside the image folder `data`"),
        ("C:\\x.jpg", "names `C:\\x.jpg`, outside the image folder `data`"),
        ("../secret.jpg", "names `../secret.jpg`, outside the image folder `data`"),
        ("子/../../s.jpg", "names `子/../../s.jpg`, outside the image folder `data`"),
        ("..\\secret.jpg", "names `..\\secret.jpg`, outside the image folder `data`"),
        ("gone.jpg", "names `gone.jpg`, which is not in `data`"),
        ("https://example.org/a.jpg", "names `https://example.org/a.jpg`, which is not in `data`"),
        ("子", "names `子`, which is not in `data`"),
        ("", "has no file name"),
        (" ", "has no file name"),
        ("x" * 300, f"names `{'x' * 300}`, which is not in `data`"),
    ],
)
def test_image_name_that_leads_nowhere_is_a_problem(name: str, expected: str) -> None:
    examples = read(f"image,label\na.jpg,x\n{name},y\n子\\b.jpg,y\n", Path("data/labels.csv"))
    assert told(examples) == {"line 3": expected}
    assert examples.keys == ("a.jpg", "子/b.jpg")
    assert [Path(item) for item in examples.items] == [Path("data/a.jpg"), Path("data/子/b.jpg")]


@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(
    "row", ['{"image": 7, "label": "x"}', '{"label": "x"}', '{"image": "\\ud800.jpg", "label": "x"}']
)
def test_image_name_that_is_no_text_is_a_problem(row: str) -> None:
    rows = json_lines({"image": "a.jpg", "label": "x"}, row, {"image": "子/b.jpg", "label": "y"})
    assert list(told(read(rows, "data/labels.jsonl"))) == ["line 2"]


@pytest.mark.usefixtures("_images")
def test_image_folder_can_be_another_one() -> None:
    examples = read("image,label\na.jpg,x\n子/b.jpg,y\n", "elsewhere.csv", image_folder="data")
    assert examples.keys == ("a.jpg", "子/b.jpg")
    assert examples.kind == "images"


@pytest.mark.usefixtures("_images")
def test_file_named_twice_counts_once_and_is_told() -> None:
    examples = read("image,label\na.jpg,x\n./a.jpg,x\n子/b.jpg,y\n", "data/labels.csv")
    assert examples.keys == ("a.jpg", "子/b.jpg")
    assert examples.notes == ("1 rows name a file named before and count once",)


@pytest.mark.usefixtures("_images")
def test_file_named_in_two_parts_is_told() -> None:
    content = "image,label,split\na.jpg,x,train\na.jpg,x,test\n子/b.jpg,y,train\n"
    examples = read(content, "data/labels.csv")
    assert examples.parts == ("train", "train")
    assert examples.notes == (
        "1 rows name a file named before and count once",
        "1 of them put it in another part; the first row decides",
    )


@pytest.mark.usefixtures("_images")
def test_file_with_two_labels_is_an_error_that_names_both() -> None:
    message = refusal("image,label\na.jpg,x\n子/b.jpg,y\na.jpg,y\n", "data/labels.csv")
    assert message == "`data/labels.csv` gives `a.jpg` two labels: `x` and `y`\n\nhint: remove the wrong row"


def test_texts_of_a_table_without_labels_can_be_read_for_prediction() -> None:
    FILE.write_text("id,text\n1,好\n2\n3,\n", encoding="utf-8")
    assert table.text_column_of(FILE, DataSettings()) == ["好", "", ""]
    FILE.write_text("id,words\n1,好\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no text column; its columns: `id`, `words`"):
        table.text_column_of(FILE, DataSettings())


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl", "a.ndjson"])
def test_table_is_recognised_by_its_ending(name: str) -> None:
    Path(name).write_text("x")
    assert recognize(name) == "table"


def test_table_with_another_ending_is_read_when_asked() -> None:
    Path("a.txt").write_text(GOOD, encoding="utf-8")
    with pytest.raises(DataError, match=r"`a\.txt` is of no kind danlu reads") as caught:
        read_examples("a.txt", DataSettings())
    assert "`data.source=table` reads a table with another ending" in str(caught.value)
    assert len(read_examples("a.txt", DataSettings(source="table"))) == 2
