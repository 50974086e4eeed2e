"""Folders and files of the user's own: which splits they hold, and that rows are those of the files as they are now."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from minibench.tables import png, write_dataset
from tests.models import picture
from unlearn.data.sources import check_disjoint, check_images, load_split

ROW = '{"question": "Who is %s?", "answer": "%s."}\n'
TABLE = "question,answer\nWho is é?,Ann\nWho is b?,Bob\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, **files: str | bytes) -> Path:
    """Files by name; `__` stands for a slash and `_dot_` for a dot."""
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def card(**configs: dict[str, str]) -> str:
    lines = ["---", "configs:"]
    for name, parts in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for part, file in parts.items() for line in (f"  - split: {part}", f"    path: {file}")]
    return "\n".join([*lines, "---", ""])


def answers(path: Path, split: str) -> list[Any]:
    return load_split(str(path), split, columns=("question", "answer"))["answer"][:]


def test_a_replaced_file_is_read_anew_also_with_size_and_time_of_the_old_one(tmp_path: Path) -> None:
    data = write(tmp_path / "data", README_dot_md=card(full={"train": "full.jsonl"}), full_dot_jsonl=ROW % ("x", "Old"))
    assert answers(data, "full") == ["Old."] == answers(data, "full")
    before = (data / "full.jsonl").stat()
    write(data, full_dot_jsonl=ROW % ("x", "New"))
    os.utime(data / "full.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (data / "full.jsonl").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert answers(data, "full") == ["New."]


@pytest.mark.parametrize("with_card", [True, False])
def test_two_folders_of_one_name_and_a_copy(tmp_path: Path, with_card: bool) -> None:
    text = {"README_dot_md": card(full={"train": "full.jsonl"})} if with_card else {}
    for owner in ("anna", "bert"):
        write(tmp_path / owner / "mine", **text, full_dot_jsonl=ROW % ("x", owner))
    assert [answers(tmp_path / owner / "mine", "full") for owner in ("anna", "bert")] == [["anna."], ["bert."]]
    shutil.copytree(tmp_path / "anna" / "mine", tmp_path / "copy" / "mine")  # with the times of the original
    write(tmp_path / "copy" / "mine", full_dot_jsonl=ROW % ("x", "copy"))
    assert answers(tmp_path / "copy" / "mine", "full") == ["copy."]
    assert answers(tmp_path / "anna" / "mine", "full") == ["anna."]


def test_a_broken_picture_that_was_replaced_is_mended(tmp_path: Path) -> None:
    def dataset(cell: dict[str, Any]) -> Any:
        write_dataset(
            tmp_path / "data", {"full": ({"image": "image", "caption": "text"}, [{"image": cell, "caption": "x"}])}, ""
        )
        return load_split(str(tmp_path / "data"), "full")

    with pytest.raises(ValueError, match="row 0 of full is broken"):
        check_images(dataset({"bytes": b"junk", "path": None}), "full")
    check_images(dataset(png(picture(0, 12))), "full")


def test_splits_by_the_names_of_files_and_folders(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data", forget10_dot_jsonl=ROW % ("f", "F"), retain90_dot_json="[" + ROW % ("r", "R") + "]",
        full_dot_csv=TABLE, **{"sub__train-00000-of-00002_dot_csv": TABLE, "sub__train-00001-of-00002_dot_csv": TABLE},
        README_dot_md="# A note, no list of configs.\n", notes_dot_txt="a note", state_dot_json="{}",
    )  # fmt: skip
    assert (answers(data, "forget10"), answers(data, "retain90")) == (["F."], ["R."])
    assert (answers(data, "full"), answers(data, "sub")) == (["Ann", "Bob"], ["Ann", "Bob"] * 2)
    write(
        tmp_path / "odd", **{"a b__all_dot_jsonl": ROW % ("x", "X"), "a b__forget-10 (1)_dot_jsonl": ROW % ("y", "Y")}
    )
    assert (answers(tmp_path / "odd", "all"), answers(tmp_path / "odd", "forget-10 (1)")) == (["X."], ["Y."])
    for split in ("forget_10", "default", "state"):
        with pytest.raises(ValueError, match=f"no split '{split}'.*It has: forget10, full, retain90, sub"):
            load_split(str(data), split)
    assert answers(data / "forget10.jsonl", "forget10") == ["F."]
    with pytest.raises(ValueError, match="forget10.jsonl has no split 'full'. It has: forget10"):
        load_split(str(data / "forget10.jsonl"), "full")
    with pytest.raises(ValueError, match="notes.txt is a file of another kind than .*csv"):
        load_split(str(data / "notes.txt"), "notes")
    write(data, full_dot_jsonl=ROW % ("x", "X"))
    with pytest.raises(ValueError, match="the split full has files of several kinds"):
        load_split(str(data), "full")


@pytest.mark.parametrize("part", ["test", "validation", "data"])
def test_the_only_part_is_taken_whatever_it_is_called(tmp_path: Path, part: str) -> None:
    named = write(tmp_path / "named", README_dot_md=card(full={part: "a.csv"}), a_dot_csv=TABLE)
    assert answers(named, "full") == ["Ann", "Bob"]
    plain = write(tmp_path / "plain", **{f"data__{part}-00000-of-00001_dot_csv": TABLE})
    assert answers(plain, "default") == answers(plain, "data") == answers(plain, part) == ["Ann", "Bob"]


def test_of_several_parts_one_is_named_or_refused(tmp_path: Path) -> None:
    parts = {"forget10": "a.csv", "retain90": "b.csv"}
    files = {"a_dot_csv": TABLE, "b_dot_csv": TABLE.replace("Bob", "Cleo")}
    one = write(tmp_path / "one", README_dot_md=card(default=parts), **files)
    assert (answers(one, "forget10"), answers(one, "retain90")) == (["Ann", "Bob"], ["Ann", "Cleo"])
    with pytest.raises(ValueError, match="no split 'full'. It has: default, forget10, retain90"):
        load_split(str(one), "full")
    two = write(tmp_path / "two", README_dot_md=card(full=parts, other={"train": "a.csv"}), **files)
    with pytest.raises(ValueError, match="split full has the parts forget10, retain90 and none is called train"):
        load_split(str(two), "full")


@pytest.mark.parametrize("with_card", [True, False])
@pytest.mark.parametrize(
    ("encoding", "separator", "suffix"),
    [("utf-8", ";", "csv"), ("utf-8-sig", ",", "csv"), ("utf-16", "|", "csv"), ("utf-8", "\t", "tsv")],
)
def test_csv_as_spreadsheets_write_it(
    tmp_path: Path, encoding: str, separator: str, suffix: str, with_card: bool
) -> None:
    data = write(tmp_path / "d", **{f"full_dot_{suffix}": TABLE.replace(",", separator).encode(encoding)})
    if with_card:
        write(data, README_dot_md=card(full={"train": f"full.{suffix}"}))
    assert load_split(str(data), "full")[:] == {"question": ["Who is é?", "Who is b?"], "answer": ["Ann", "Bob"]}


@pytest.mark.parametrize("name", ["full_dot_csv", "full_dot_jsonl"])
def test_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    text = TABLE.encode("latin-1") if "csv" in name else (ROW % ("x", "X")).encode("utf-16")
    with pytest.raises(ValueError, match="split full is empty or damaged .*must be UTF-8"):
        load_split(str(write(tmp_path / "d", **{name: text})), "full")


def test_one_person_in_two_spellings_is_an_error_and_in_one_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"question": "text", "answer": "text", "name": "text"}
    people = {
        "forget": "Jos\u00e9 Lima",
        "composed": "Jose\u0301 Lima",
        "case": "JOS\u00c9 LIMA",
        "space": "Jos\u00e9  Lima ",
        "same": "Jos\u00e9 Lima",
        "other": "Jose Lima",
    }
    rows = {name: (columns, [{"question": f"{name}?", "answer": "a", "name": who}]) for name, who in people.items()}
    write_dataset(tmp_path / "d", rows, "")
    read = {name: load_split(str(tmp_path / "d"), name) for name in people}
    for name in ("composed", "case", "space"):
        with pytest.raises(
            ValueError, match=rf"person of forget is also in {name} and has two spellings.*Jos\\xe9 Lima"
        ):
            check_disjoint(read["forget"], read[name], ("question", "answer"), ("forget", name))
    check_disjoint(read["forget"], read["other"], ("question", "answer"), ("forget", "other"))
    assert not caplog.text
    check_disjoint(read["forget"], read["same"], ("question", "answer"), ("forget", "same"))
    assert "1 people of forget (José Lima, ...) are also in same" in caplog.text


def test_rows_that_differ_by_spelling_alone_are_shared(tmp_path: Path) -> None:
    write(tmp_path / "d", forget_dot_jsonl=ROW % ("Jos\u00e9", "X"), retain_dot_jsonl=ROW % ("JOSE\u0301", "x"))
    forget, retain = (load_split(str(tmp_path / "d"), name) for name in ("forget", "retain"))
    with pytest.raises(ValueError, match="1 rows of forget are also in retain"):
        check_disjoint(forget, retain, ("question", "answer"), ("forget", "retain"))
