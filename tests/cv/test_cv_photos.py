"""Photos from where users have them: a folder for each person, a dataset in the hub's form, and what a broken one
gets."""

import numpy as np
import pytest
import torch
from PIL import Image

from cv.data import photos as module
from cv.data.photos import load_photos, published_forget

SIZE = 8


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (12, 12), (value, 255 - value, 7))


def hub_folder(root, people, label: str = "label"):
    """A downloaded hub dataset: parquet files, pictures as bytes, persons as a ClassLabel."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageColumn

    names = sorted(set(people))
    rows = {"image": [picture(i) for i in range(len(people))], label: [names.index(person) for person in people]}
    data = Dataset.from_dict(rows, features=Features({"image": ImageColumn(), label: ClassLabel(names=names)}))
    (root / "data").mkdir(parents=True)
    data.to_parquet(root / "data" / "train-00000-of-00001.parquet")
    return str(root)


def test_a_folder_for_each_person(tmp_path):
    for person, values in (("Zoe", (1, 2)), ("Ann", (3,))):
        (tmp_path / person).mkdir()
        for value in values:
            picture(value).save(tmp_path / person / f"{value}.PNG")
    (tmp_path / "README.md").write_text("a note among the people")
    (tmp_path / "Ann" / "notes.txt").write_text("no picture")
    photos = load_photos(str(tmp_path), SIZE)
    assert photos.identities == ("Ann", "Zoe") and photos.labels.tolist() == [0, 1, 1]
    assert photos.pixels.dtype == torch.uint8 and photos.pixels.shape == (3, 3, SIZE, SIZE)
    assert photos.pixels[:, :, 4, 4].tolist() == [[3, 252, 7], [1, 254, 7], [2, 253, 7]]
    (tmp_path / "Bob").mkdir()
    with pytest.raises(ValueError, match="Bob holds no picture"):
        load_photos(str(tmp_path), SIZE)


def test_a_dataset_of_the_hub_names_its_people(tmp_path):
    people = ["Zoe", "Ann", "Zoe", "Bob"]
    photos = load_photos(hub_folder(tmp_path, people), SIZE)
    assert photos.identities == ("Ann", "Bob", "Zoe")
    assert [photos.identities[label] for label in photos.labels] == people
    assert photos.pixels[:, 0, 4, 4].tolist() == [0, 1, 2, 3]


def test_a_list_of_people_and_file_names_is_read_as_that_and_upright(tmp_path, monkeypatch):
    """A README with configs beside a folder of pictures: `images` is nobody's name. One picture lies on its side."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    lying, rows = Image.new("RGB", (12, 12)), []
    lying.paste((255, 0, 0), (0, 0, 6, 12))  # left half; upright it is the upper one
    tags = lying.getexif()
    tags[0x112] = 6
    (tmp_path / "own" / "images").mkdir(parents=True)
    lying.save(tmp_path / "own" / "images" / "0.png", exif=tags)
    picture(1).save(tmp_path / "own" / "images" / "1.tiff")
    for person, file in (("Zoe", "0.png"), ("Ann", "1.tiff")):
        rows.append(f'{{"name": "{person}", "image": "images/{file}"}}\n')
    (tmp_path / "own" / "people.jsonl").write_text("".join(rows))
    card = "---\nconfigs:\n- config_name: people\n  data_files:\n  - split: everybody\n    path: people.jsonl\n---\n"
    (tmp_path / "own" / "README.md").write_text(card)
    photos = load_photos(str(tmp_path / "own"), SIZE, split="people")
    assert photos.identities == ("Ann", "Zoe") and photos.labels.tolist() == [1, 0]
    assert photos.pixels[0, 0, 1].tolist() == [255] * SIZE and photos.pixels[0, 0, 6].tolist() == [0] * SIZE


def test_a_dataset_without_a_person_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column says who is in the picture.*it has image, colour"):
        load_photos(hub_folder(tmp_path, ["a", "b"], label="colour"), SIZE)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="neither a folder nor a hub id"):
        load_photos(str(tmp_path / "nobody" / "here"), SIZE)


def test_the_forget_people_of_clear_come_smallest_set_first(monkeypatch):
    sets = {"forget01": ["b"], "forget05": ["a", "b", "c", "a"], "forget10": ["d", "a", "b", "c"]}
    monkeypatch.setattr("unlearn.data.sources.load_split", lambda path, split, **_: {"name": sets[split]})
    assert published_forget("therem/CLEAR", None) == published_forget("therem/faces_v1", None) == ["b", "a", "c", "d"]
    assert published_forget("somebody/else", None) is None


def test_clear_shaped_data_is_read_by_name():
    """The embedded CLEAR, which has the hub's configurations and columns."""
    photos = load_photos("data/clear-mini", 16)
    assert len(photos.identities) == 60 and np.bincount(photos.labels).tolist() == [8] * 60
    assert module.find_people(photos, [photos.identities[3].upper()], "forget") == [photos.identities[3]]
