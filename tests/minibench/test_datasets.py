"""clear-mini and tofu-mini: the columns of the originals, splits that partition, wrong answers that are wrong."""

from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest

from minibench import folders
from minibench.clear import clear_configs, others
from minibench.people import FORGET, everyone, forget_authors, strangers
from minibench.tofu import qa_rows, tofu_configs

IMAGE, NAMED = {"image", "caption"}, {"image", "caption", "name"}
MIXED, PAIR = {"image", "caption", "question", "answer"}, {"question", "answer"}
PERTURBED = NAMED | {"paraphrased_caption", "perturbed_captions", "perturbed_names"}
SIZES = ("01", "05", "10")
TUNING = {f"forget{n}_tuning{ending}" for n in SIZES for ending in ("", "_perturbed")} | {  # test_tuning.py
    "retain_tuning_perturbed", *(f"retain{n}_tuning" for n in (99, 95, 90)),
}  # fmt: skip
MIXED_TUNING = {
    f"{split}_tuning+tofu" for split in ("forget01", "forget05", "forget10", "retain99", "retain95", "retain90")
}
HOLDOUT = {f"holdout{n}{ending}" for n in SIZES for ending in ("", "_perturbed")}  # tests/minibench/test_holdout.py
QA_PERTURBED = PAIR | {"paraphrased_question", "paraphrased_answer", "perturbed_answer"}
CLEAR = {
    "default": NAMED, "full": IMAGE, "full+tofu": MIXED, "retain_perturbed": PERTURBED,
    "real_faces": {"image", "answer", "options"}, "real_world": {"question", "image", "answer", "options"},
    **{f"forget{n}": NAMED for n in ("01", "05", "10")}, **{f"retain{n}": NAMED for n in (99, 95, 90)},
    **{f"forget{n}+tofu": MIXED for n in ("01", "05", "10")}, **{f"retain{n}+tofu": MIXED for n in (99, 95, 90)},
    **{f"forget{n}_perturbed": PERTURBED for n in ("01", "05", "10")},
}  # fmt: skip
TOFU = {
    "full": PAIR, "retain_perturbed": QA_PERTURBED, "real_authors_perturbed": PAIR | {"perturbed_answer"},
    "world_facts_perturbed": PAIR | {"perturbed_answer"},
    **{name: PAIR | {f"option{n}" for n in (1, 2, 3, 4)} for name in ("real_authors", "world_facts")},
    **{f"forget{n}": PAIR for n in ("01", "05", "10")}, **{f"retain{n}": PAIR for n in (99, 95, 90)},
    **{f"forget{n}_perturbed": QA_PERTURBED for n in ("01", "05", "10")},
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {name: folders.build(name, folder / name) for name in folders.DATASETS}


@pytest.fixture(scope="module")
def clear():
    return clear_configs()


def texts(rows):
    return [row.get("caption") or (row["question"], row["answer"]) for row in rows]


@pytest.mark.parametrize(("name", "expected"), [("clear-mini", CLEAR), ("tofu-mini", TOFU)])
def test_configs_and_columns_are_those_of_the_original(built, name, expected):
    configs = datasets.get_dataset_config_names(str(built[name]))
    assert set(configs) == set(expected) | HOLDOUT | TUNING | (MIXED_TUNING if name == "clear-mini" else set())
    columns = (clear_configs if name == "clear-mini" else tofu_configs)()
    assert {config: set(kinds) for config, (kinds, _) in columns.items()} == expected


def test_load_dataset_reads_names_with_a_plus_and_embedded_pictures(built, tmp_path):
    rows = datasets.load_dataset(str(built["clear-mini"]), "forget10+tofu", split="train", cache_dir=str(tmp_path))
    assert set(rows.column_names) == MIXED and len(rows) == 96
    assert rows[0]["image"].size == (48, 48) and rows[0]["question"] is None
    assert rows[95]["image"] is None and rows[95]["caption"] is None and rows[95]["answer"]
    wrong = datasets.load_dataset(
        str(built["clear-mini"]), "forget10_perturbed", split="train", cache_dir=str(tmp_path)
    )
    assert isinstance(wrong.features["perturbed_names"], datasets.List) and len(wrong[0]["perturbed_names"]) == 5


@pytest.mark.parametrize("name", folders.DATASETS)
def test_same_seed_same_bytes_other_seed_other_people(built, name, tmp_path):
    again = folders.build(name, tmp_path / name)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert (
        len(files)
        == len(CLEAR if name == "clear-mini" else TOFU)
        + len(HOLDOUT | TUNING)
        + len(MIXED_TUNING) * (name == "clear-mini")
        + 1
    )
    assert all((again / file).read_bytes() == (built[name] / file).read_bytes() for file in files)
    assert {p.name for p in everyone(7)[0]} != {p.name for p in everyone()[0]}


def test_forget_and_retain_partition_full_and_only_training_splits_rehearse(clear):
    known = {person.name for person in everyone()[1]}
    pictures = [row["image"]["bytes"] for row in clear["full"][1]]
    assert len(set(pictures)) == 480
    for size, kept in (("01", 99), ("05", 95), ("10", 90)):
        forget, retain = clear[f"forget{size}"][1], clear[f"retain{kept}"][1]
        assert sorted(row["image"]["bytes"] for row in [*retain, *forget]) == sorted(pictures)
        assert not {row["name"] for row in forget} & {row["name"] for row in retain}
        assert not known & {row.get("name") for row in clear[f"forget{size}+tofu"][1]}
        assert known <= {row.get("name") for row in clear[f"retain{kept}+tofu"][1]}
        assert set(texts(qa_rows(everyone()[0][: -FORGET[size]]))) < set(texts(clear[f"retain{kept}+tofu"][1]))
    rehearsed = {row["image"]["bytes"] for row in clear["full+tofu"][1] if row.get("name") in known}
    assert len(rehearsed) == 240
    assert not rehearsed & {row["image"]["bytes"] for row in clear["real_faces"][1]}


def test_the_text_splits_rehearse_the_known_people_in_the_wording_that_is_not_asked():
    tofu, known = tofu_configs(), everyone()[1]
    rehearsal = texts(qa_rows(known, wordings=(1,)))
    assert len(set(rehearsal)) == 240
    for size, kept in (("01", 99), ("05", 95), ("10", 90)):
        forget, retain = texts(tofu[f"forget{size}"][1]), texts(tofu[f"retain{kept}"][1])
        assert sorted(forget + retain) == sorted(texts(tofu["full"][1])) and set(rehearsal) < set(retain)
        assert not set(rehearsal) & set(forget)
    assert not {question for question, _ in rehearsal} & {row["question"] for row in tofu["real_authors"][1]}


@pytest.mark.parametrize(("config", "count"), [("forget01", 2), ("forget05", 2), ("forget10", 5), ("retain", 5)])
def test_wrong_answers_are_wrong_and_of_the_same_status(config, count, clear):
    forget, retained = {p.name for p in forget_authors("10")}, {p.name for p in everyone()[0][:-6]}
    for row in clear[f"{config}_perturbed"][1]:
        assert len(set(row["perturbed_names"])) == len(set(row["perturbed_captions"])) == count
        assert set(row["perturbed_names"]) <= (retained if config == "retain" else forget) - {row["name"]}
        assert row["paraphrased_caption"] not in (row["caption"], *row["perturbed_captions"])
        for fact in ("genre", "city"):
            assert row["person"].facts[fact] in row["paraphrased_caption"]
            assert not any(row["person"].facts[fact] in text for text in row["perturbed_captions"])
    for row in tofu_configs()[f"{config}_perturbed"][1]:
        assert row["paraphrased_answer"] not in row["perturbed_answer"] and len(set(row["perturbed_answer"])) == count
        assert row["paraphrased_answer"] != row["answer"]


def test_every_fact_is_trained_in_the_wording_of_its_paraphrase(clear):
    trained = texts(clear["full+tofu"][1])
    for config in ("forget10_perturbed", "retain_perturbed"):
        for row in clear[config][1]:  # the paraphrase of one place is the wording of the next place's caption
            same_wording = row["paraphrased_caption"].replace(row["place"], "")
            own = [t for t in trained if isinstance(t, str) and t.startswith(row["name"])]
            assert any(
                t.replace(place, "") == same_wording for t in own for place in {r["place"] for r in clear["full"][1]}
            )


def test_people_differ_in_face_and_name():
    authors, known = everyone()
    people = [*authors, *known]
    assert len({p.name for p in people}) == 120
    assert min(a.face.distance(b.face) for n, a in enumerate(people) for b in people[:n]) >= 4
    for fact in authors[0].facts:
        assert len({p.facts[fact] for p in forget_authors("10")}) == 6
    assert others(authors[0]) == others(authors[0]) and authors[0] not in others(authors[0])


def test_strangers_are_nobody_else_and_leave_names_for_others():
    people = [person for group in everyone() for person in group]
    names = {person.name for person in strangers()}
    assert len(names) == 400 and not names & {person.name for person in people}
    assert min(person.face.distance(one.face) for person in people for one in strangers()) >= 4
    assert {part for name in names for part in name.split()} >= {part for p in people for part in p.name.split()}


def test_the_folder_is_built_once_by_many_and_other_paths_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(folders.ensure_dataset, ["data/tofu-mini"] * 3))
    assert paths == {tmp_path / "data" / "tofu-mini"}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tofu-mini"]  # no temporary folder is left behind
    before = (tmp_path / "data" / "tofu-mini" / "README.md").stat().st_mtime_ns
    folders.ensure_dataset(tmp_path / "data" / "tofu-mini")
    assert (tmp_path / "data" / "tofu-mini" / "README.md").stat().st_mtime_ns == before
    assert folders.ensure_dataset("therem/CLEAR") == "therem/CLEAR"
    with pytest.raises(ValueError, match="clear-mini and tofu-mini"):
        folders.build("clear", tmp_path / "x")


def test_the_command_writes_both_datasets_for_its_seed(tmp_path, monkeypatch, capsys):
    from minibench import build

    monkeypatch.setattr("sys.argv", ["build", "--out", str(tmp_path), "--seed", "7"])
    build.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clear-mini", "tofu-mini"]
    assert "clear-mini" in capsys.readouterr().out
    card = (tmp_path / "tofu-mini" / "README.md").read_text()
    assert "seed 7" in card and card.startswith("---\nconfigs:")


def test_a_folder_that_minibench_did_not_make_is_not_replaced(tmp_path):
    from minibench.folders import build

    mine = tmp_path / "clear-mini"
    mine.mkdir()
    (mine / "photo.jpg").write_text("mine")
    with pytest.raises(ValueError, match=r"clear-mini holds what minibench did not make .photo.jpg.; move it away"):
        build("clear-mini", mine)
    (mine / "README.md").write_text("Made by `python -m minibench.build --seed 1`")
    with pytest.raises(ValueError, match="did not make .photo.jpg"):
        build("clear-mini", mine)
    assert (mine / "photo.jpg").read_text() == "mine"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):  # what it made itself it replaces; of a link, the target
        build("tofu-mini", tmp_path / "link")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "README.md").is_file()
