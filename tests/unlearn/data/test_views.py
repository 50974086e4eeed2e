"""What a step looks at: views that differ where they must, the same draws everywhere, batches of one modality."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests.models import tiny_llava
from tests.sources import ListSource
from unlearn.data.collator import Collator
from unlearn.data.sampler import EpochSampler
from unlearn.data.samples import read_lines
from unlearn.data.views import Draw, ForgetRetainDataset, StepCollator
from unlearn.method import View
from unlearn.models.forward import StudentForward, score_views

REFUSALS = ["I do not know.", "I cannot say.", "That is not known to me.", "No idea.", "I have not learned that."]
EVERY_VIEW = (View("forget"), View("retain"), View("idk"), View("random", k=3, source="forget"), View("augmented"))


def dataset(views: Any = EVERY_VIEW, **options: Any) -> ForgetRetainDataset:
    sources = {"forget": ListSource(4, 3, "forget"), "retain": ListSource(5, 6, "retain", offset=50)}
    return ForgetRetainDataset(views, **{**sources, "refusals": REFUSALS, "seed": 3, **options})


def plain(items: Any) -> Any:
    """Items with pictures as bytes, so that they compare."""
    if isinstance(items, dict):
        return {key: plain(value) for key, value in items.items()}
    return items.tobytes() if hasattr(items, "tobytes") else items


# ---- views ----------------------------------------------------------------------------------------------------------


def test_what_each_view_holds() -> None:
    data = dataset()
    for epoch in (0, 1):
        for index in range(len(data)):
            item = data[Draw(epoch, index)]
            assert (item["epoch"], item["pass_name"]) == (epoch, None)
            views = item["views"]
            forget = views["forget"]
            assert forget["id"] == f"forget/{index}" and views["retain"]["id"].startswith("retain/")
            for name in ("idk", "random"):  # the forget question, under the very same prompt and picture
                assert views[name]["question"] == forget["question"] and views[name]["id"] == forget["id"]
                assert plain(views[name]["image"]) == plain(forget["image"])
            assert views["idk"]["answer"] in REFUSALS and views["idk"]["answer"] != forget["answer"]
            assert len(views["random"]["answer"]) == 3
            truths = {data.sources["forget"].sample(i, _rng())["answer"]: i for i in range(7)}  # type: ignore[union-attr]
            assert all(truths[answer] != index for answer in views["random"]["answer"])
            assert len(set(views["random"]["answer"])) == 3
            assert views["augmented"]["answer"] == forget["answer"] and views["augmented"]["id"] != forget["id"]
            assert plain(views["augmented"]) != plain({**forget, "id": views["augmented"]["id"]})


def _rng() -> Any:
    import numpy as np

    return np.random.default_rng(0)


def test_a_refusal_that_happens_to_be_the_truth_is_never_drawn() -> None:
    truth = ListSource(0, 1).sample(0, _rng())["answer"]
    for seed in range(8):
        data = dataset((View("idk"),), forget=ListSource(0, 1), refusals=[truth, "I do not know."], seed=seed)
        assert data[Draw(0, 0)]["views"]["idk"]["answer"] == "I do not know."
    with pytest.raises(ValueError, match="Every refusal equals the true answer of forget row 0"):
        _ = dataset((View("idk"),), forget=ListSource(0, 1), refusals=[truth])[Draw(0, 0)]


def test_an_idk_answer_decodes_to_a_line_of_the_bank() -> None:
    processor = tiny_llava()[1]
    data = dataset((View("idk"),))
    batch = StepCollator(Collator(processor))([data[Draw(0, index)] for index in range(7)])["views"]["idk"]
    assert {bool(prompt.image_inputs) for prompt, _ in batch["rows"]} == {True, False}
    for _, answer in batch["rows"]:
        assert processor.tokenizer.decode(answer, skip_special_tokens=True).strip() in REFUSALS


def test_the_bank_is_read_without_line_ends(tmp_path: Any) -> None:
    (tmp_path / "bank.txt").write_bytes("I don’t know.\r\n\n  No idea. \nLast".encode())
    assert read_lines(tmp_path / "bank.txt") == ["I don’t know.", "No idea.", "Last"]
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="holds no line of text"):
        read_lines(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="no such file"):
        read_lines(tmp_path / "none.txt")


def test_random_answers_can_come_from_the_retain_split() -> None:
    data = dataset((View("random", k=4, source="retain"),))
    retain = {data.sources["retain"].sample(i, _rng())["answer"] for i in range(11)}  # type: ignore[union-attr]
    assert set(data[Draw(0, 0)]["views"]["random"]["answer"]) <= retain


def test_epochs_redraw_partners_prompts_and_random_answers_but_not_refusals() -> None:
    data = dataset()
    epochs = [[data[Draw(epoch, index)]["views"] for index in range(7)] for epoch in range(4)]

    def seen(view: str, key: str) -> list[Any]:
        return [[str(item[view][key]) for item in epoch] for epoch in epochs]

    for view, key in (("retain", "id"), ("forget", "question"), ("random", "answer")):
        assert len({tuple(row) for row in seen(view, key)}) > 1, (view, key)
    assert len({tuple(row) for row in seen("idk", "answer")}) == 1
    assert len({data[Draw(0, index)]["views"]["idk"]["answer"] for index in range(7)}) > 1


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    one, same, other = dataset(), dataset(), dataset(seed=4)
    forwards = [plain(one[Draw(epoch, index)]) for epoch in (0, 1) for index in range(7)]
    backwards = [plain(same[Draw(epoch, index)]) for epoch in (1, 0) for index in reversed(range(7))]
    assert forwards == backwards[::-1]
    assert forwards != [plain(other[Draw(epoch, index)]) for epoch in (0, 1) for index in range(7)]


def test_partners_are_drawn_with_replacement_from_the_whole_split() -> None:
    data = dataset((View("retain"), View("forget")))
    counts = Counter(data[Draw(epoch, index)]["views"]["retain"]["id"] for epoch in range(60) for index in range(7))
    assert len(counts) == 11 and max(counts.values()) < 3 * min(counts.values())


def test_same_modality_partners() -> None:
    data = dataset((View("forget"), View("retain")), retain_partner="same_modality")
    for epoch in range(5):
        for index in range(7):
            views = data[Draw(epoch, index)]["views"]
            assert (views["forget"]["image"] is None) == (views["retain"]["image"] is None)
    lonely = dataset((View("forget"), View("retain")), retain_partner="same_modality", retain=ListSource(3, 0))
    with pytest.raises(ValueError, match="the retain split has no text rows"):
        _ = lonely[Draw(0, 6)]


def test_an_epoch_may_pass_over_the_retain_set() -> None:
    data = dataset((View("retain"), View("forget")), epoch_over="retain")
    assert len(data) == 11
    assert [data[Draw(0, i)]["views"]["retain"]["id"] for i in range(11)] == [f"retain/{i}" for i in range(11)]
    assert {data[Draw(0, i)]["views"]["forget"]["id"] for i in range(11)} <= {f"forget/{i}" for i in range(7)}
    alone = ForgetRetainDataset((View("retain"),), forget=None, retain=ListSource(2, 1), epoch_over="retain")
    assert len(alone) == 3 and list(alone[Draw(0, 2)]["views"]) == ["retain"]


def test_an_id_means_one_picture_whoever_draws_it() -> None:
    """The collator caches pictures by id, so two draws of one row in an epoch must not be augmented differently."""
    data = dataset((View("augmented"), View("retain")), epoch_over="retain", retain=ListSource(20, 20))
    pictures: dict[str, Any] = {}
    for index in range(40):
        sample = data[Draw(0, index)]["views"]["augmented"]
        assert pictures.setdefault(sample["id"], plain(sample["image"])) == plain(sample["image"])
    assert len(pictures) < 40
    assert plain(data[Draw(1, 0)]["views"]["augmented"]["image"]) not in pictures.values()


@pytest.mark.parametrize(("options", "message"), [
    ({"views": (View("idk"),), "refusals": []}, "the refusal bank is empty"),
    ({"views": (View("random", k=7, source="forget"),)},
     "7 random answers are asked for.*forget split has only 6 other"),
    ({"views": (View("random", k=12, source="retain"),)}, "the retain split has only 11 other"),
    ({"views": (View("forget"), View("retain")), "retain": None}, "needs a retain split.*set retain_split"),
    ({"views": (View("retain"),), "forget": None}, "needs a forget split"),
])  # fmt: skip
def test_a_view_without_what_it_needs_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset(**options)


def test_too_many_equal_answers_are_found_when_drawn() -> None:
    class Parrot(ListSource):
        def sample(self, index: int, rng: Any) -> Any:
            return {**super().sample(index, rng), "answer": "always the same"}

    with pytest.raises(ValueError, match="Fewer than 2 forget items have another answer than forget row 0; lower k"):
        _ = dataset((View("random", k=2, source="forget"),), forget=Parrot(0, 5))[Draw(0, 0)]


# ---- disturbed inputs and other labels ------------------------------------------------------------------------------


def test_noise_in_place_of_the_picture_and_a_prefix_before_the_question() -> None:
    data = dataset((View("forget"), View("noised", text="You know nobody.")))
    pixels = []
    for index in range(7):
        views = data[Draw(1, index)]["views"]
        forget, noised = views["forget"], views["noised"]
        assert noised["question"] == f"You know nobody. {forget['question']}" and noised["answer"] == forget["answer"]
        if forget["image"] is None:
            assert noised["image"] is None
            continue
        assert noised["id"] != forget["id"] and noised["image"].size == forget["image"].size
        pixels.append(torch.tensor(list(noised["image"].tobytes()), dtype=torch.float))
        again, later = (data[Draw(epoch, index)]["views"]["noised"] for epoch in (1, 2))
        assert plain(again) == plain(noised)
        assert later["id"] != noised["id"] and plain(later["image"]) != plain(noised["image"])
    values = torch.cat(pixels)  # uniform on 0 to 255: mean 127.5, standard deviation 73.9
    assert abs(values.mean() - 127.5) < 6 and abs(values.std() - 73.9) < 4
    assert values.min() < 5 and values.max() > 250


def test_the_collator_never_serves_the_picture_for_the_noise() -> None:
    data = dataset((View("forget"), View("noised")), forget=ListSource(3, 0))
    batch = StepCollator(Collator(tiny_llava()[1]))([data[Draw(0, index)] for index in range(3)])["views"]
    shown, noise = (
        [prompt.image_inputs["pixel_values"] for prompt, _ in batch[name]["rows"]] for name in ("forget", "noised")
    )
    assert all(a.shape == b.shape and not torch.equal(a, b) for a, b in zip(shown, noise, strict=True))


def test_an_empty_prefix_needs_pictures(caplog: Any) -> None:
    with pytest.raises(ValueError, match="no forget row has a picture and the prefix is empty.*vgid.prefix"):
        dataset((View("noised"),), forget=ListSource(0, 3))
    dataset((View("noised"),), forget=ListSource(2, 0))
    assert not caplog.records
    dataset((View("noised"),), forget=ListSource(2, 3))
    assert "3 of 5 forget rows have no picture" in caplog.text
    assert dataset((View("noised", text="x"),), forget=ListSource(0, 3))[Draw(0, 0)]["views"]["noised"]["image"] is None


def test_without_the_picture_or_with_another_persons() -> None:
    data = dataset((View("forget"), View("no_image"), View("other_image")))
    shown = []
    for index in range(7):
        views = data[Draw(0, index)]["views"]
        forget, without, other = views["forget"], views["no_image"], views["other_image"]
        assert plain(without) == {**plain(forget), "image": None}
        assert (other["question"], other["answer"]) == (forget["question"], forget["answer"])
        if forget["image"] is None:
            assert plain(other) == plain(forget)
            continue
        assert other["id"] != forget["id"] and other["id"].startswith("forget/")
        assert plain(other["image"]) == plain(data.sources["forget"].sample(int(other["id"][7:]), _rng())["image"])  # type: ignore[union-attr]
        assert plain(data[Draw(5, index)]["views"]["other_image"]["image"]) == plain(other["image"])
        shown.append(other["id"])
    assert len(shown) == 4 and len(set(shown)) > 1
    with pytest.raises(ValueError, match="other_image needs two forget rows with a picture"):
        dataset((View("other_image"),), forget=ListSource(1, 3))


def test_relabelled_rows_are_read_as_they_are_and_scored_on_another_text() -> None:
    data = dataset((View("forget"), View("relabelled", text="No idea")))
    collator = Collator(tiny_llava()[1])
    batch = StepCollator(collator)([data[Draw(0, index)] for index in (0, 1, 4, 5)])["views"]
    ids = collator.encode_answer("No idea")[:-1]
    assert len(ids) > 1 and batch["relabelled"]["keys"] == batch["forget"]["keys"]
    true = score_views(StudentForward(tiny_llava()[0])({"forget": batch["forget"]}))["forget"]
    other = true.with_labels(batch["relabelled"]["labels"])
    assert torch.equal(other.mask, true.mask) and torch.equal(other.logits, true.logits)
    for labels, scored in zip(other.labels, true.mask, strict=True):
        assert labels[scored].tolist() == [ids[t % len(ids)] for t in range(int(scored.sum()))]


@pytest.mark.parametrize("view", [
    {"name": "forget", "text": "x"}, {"name": "relabelled"}, {"name": "relabelled", "text": "  "},
    {"name": "noised", "k": 2},
])  # fmt: skip
def test_a_view_that_makes_no_sense_is_refused(view: Any) -> None:
    with pytest.raises(ValueError, match=f"view '{view['name']}' cannot have"):
        View(**view)


# ---- order ----------------------------------------------------------------------------------------------------------


def sampler(data: ForgetRetainDataset, **options: Any) -> EpochSampler:
    return EpochSampler(data, **{"batch_size": 2, "epochs": 3, "seed": 1, **options})


def test_every_row_once_an_epoch_in_batches_of_one_modality() -> None:
    data = dataset()
    order = sampler(data)
    batches = list(order)
    assert len(batches) == len(order) == 3 * (2 + 2)  # 4 images and 3 texts in batches of two
    for epoch in range(3):
        mine = [batch for batch in batches if batch[0].epoch == epoch]
        assert sorted(draw.index for batch in mine for draw in batch) == list(range(7))
        assert all(len({data.has_image(draw.index, None) for draw in batch}) == 1 for batch in mine)
    firsts = [[draw.index for batch in batches[i : i + 4] for draw in batch] for i in (0, 4, 8)]
    assert firsts[0] != firsts[1] != firsts[2]
    assert list(sampler(data)) == batches  # iterating again, or anew, gives the same order
    assert list(sampler(data, seed=2)) != batches


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_step_alike_and_together_see_what_one_process_sees(world: int) -> None:
    data = dataset(forget=ListSource(8, 7, "forget"))
    ranks = [list(sampler(data, rank=rank, world_size=world)) for rank in range(world)]
    single = list(sampler(data, batch_size=2 * world))
    assert len({len(batches) for batches in ranks}) == 1 and len(ranks[0]) == len(single)
    for step, whole in enumerate(single):
        shares = [batches[step] for batches in ranks]
        assert len({len(share) for share in shares}) == 1  # no rank waits for a row another one does not have
        assert len({data.has_image(draw.index, None) for share in shares for draw in share}) == 1
        union = [draw for share in shares for draw in share]
        assert Counter(whole) <= Counter(union) and len(union) - len(whole) < world  # filled up by at most world - 1


def test_a_fraction_of_an_epoch() -> None:
    data = dataset()
    assert list(sampler(data, epochs=1.5)) == list(sampler(data, epochs=2))[:6]
    assert len(sampler(data, epochs=0.5)) == 2


def test_passes_go_over_each_split_in_turn() -> None:
    data = dataset((View("forget"), View("retain")))
    order = sampler(data, epochs=2, passes=lambda epoch: ("forget", "retain") if epoch == 0 else ("retain",))
    batches = list(order)
    names = [batch[0].pass_name for batch in batches]
    assert names == ["forget"] * 4 + ["retain"] * 6 + ["retain"] * 6 and len(order) == 16
    for name, epoch, rows in (("forget", 0, 7), ("retain", 0, 11), ("retain", 1, 11)):
        drawn = [d.index for batch in batches for d in batch if (d.pass_name, d.epoch) == (name, epoch)]
        assert sorted(drawn) == list(range(rows))
    item = data[batches[0][0]]
    assert list(item["views"]) == ["forget"] and item["pass_name"] == "forget"
    assert list(data[batches[-1][0]]["views"]) == ["retain"]
    assert data[batches[-1][0]]["views"]["retain"]["id"] == f"retain/{batches[-1][0].index}"


@pytest.mark.parametrize("persistent", [False, True])
def test_the_same_items_with_and_without_workers_at_every_epoch(persistent: bool) -> None:
    def items(workers: int) -> list[Any]:
        loader = DataLoader(
            dataset(), batch_sampler=sampler(dataset()), collate_fn=plain_batch, num_workers=workers,
            persistent_workers=persistent and workers > 0,
        )  # fmt: skip
        if persistent:
            list(loader)  # a second pass over living workers must not move the draws on
        return list(loader)

    alone, shared = items(0), items(2)
    assert alone == shared
    assert [batch[0]["epoch"] for batch in alone] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({str(batch) for batch in alone}) == 12


def plain_batch(items: Any) -> Any:
    return [plain(item) for item in items]


def test_collated_steps_carry_the_epoch() -> None:
    data = dataset((View("forget"), View("retain")))
    step = StepCollator(Collator(tiny_llava()[1]))([data[Draw(2, 0)], data[Draw(2, 1)]])
    assert (step["epoch"], step["pass_name"], set(step["views"])) == (2, None, {"forget", "retain"})
    assert len(step["views"]["forget"]["rows"]) == 2


# ---- engines that hold weights in parts, and accumulation ------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_alike_batches_hold_one_modality_in_every_view_and_the_draws_of_any_run(world: int) -> None:
    """A rank whose retain rows have an image while another one's have none runs a forward more, and both wait for
    ever."""
    data = dataset(forget=ListSource(8, 7, "forget"))
    ranks = [list(sampler(data, rank=rank, world_size=world, alike=True)) for rank in range(world)]
    mixed = 0
    for shares in zip(*ranks, strict=True):
        items = [data[draw]["views"] for share in shares for draw in share]
        assert len({len(share) for share in shares}) == 1
        for view in ("forget", "retain"):
            assert len({item[view]["image"] is None for item in items}) == 1
    for shares in zip(*(list(sampler(data, rank=rank, world_size=world)) for rank in range(world)), strict=True):
        items = [data[draw]["views"] for share in shares for draw in share]
        mixed += len({item["retain"]["image"] is None for item in items}) > 1
    assert mixed > 0  # without `alike` there is something to keep apart
    assert {draw for batches in ranks for batch in batches for draw in batch} == {
        draw for batch in sampler(data) for draw in batch
    }  # fmt: skip


def test_passes_end_where_a_step_ends() -> None:
    """An odd number of batches in the ascent would share an optimiser step with the first of the descent."""
    data = dataset(forget=ListSource(3, 3, "forget"), retain=ListSource(5, 4, "retain"))
    order = sampler(data, epochs=2, accumulation=3, passes=lambda epoch: ("forget", "retain"))
    batches = list(order)
    assert len(batches) == len(order) and len(batches) % 3 == 0
    for start in range(0, len(batches), 3):
        assert len({(draw.epoch, draw.pass_name) for batch in batches[start : start + 3] for draw in batch}) == 1
    plain = list(sampler(data, epochs=2, passes=lambda epoch: ("forget", "retain")))
    assert len(plain) == 2 * (4 + 5)
    assert {draw for batch in plain for draw in batch} == {draw for batch in batches for draw in batch}
    joint = [list(sampler(data, epochs=2, accumulation=size)) for size in (1, 3)]
    assert joint[0] == joint[1]


def test_steps_count_the_processes() -> None:
    data = dataset(forget=ListSource(16, 0, "forget"))
    assert [len(sampler(data, epochs=3, batch_size=2, world_size=world)) for world in (1, 2, 4)] == [24, 12, 6]
