"""The measurements of a stress run on tiny models: slow forms, interrupted, in other batches, planted leaks."""

import copy
import json
import math

import pytest
import torch

from tests.eval_suite import PEOPLE
from tests.models import picture, tiny_llama, tiny_llava
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.stress.asked import Asked, ask
from unlearn.evaluation.stress.inside import depth, probe
from unlearn.evaluation.stress.plan import ItemSource, evenly, few
from unlearn.evaluation.stress.quantised import by_library, rounded
from unlearn.evaluation.stress.relearning import relearn, seeded_batches
from unlearn.evaluation.stress.rows import measure_rows
from unlearn.evaluation.stress.sampling import leak, text_values
from unlearn.evaluation.suite import EvalTask
from unlearn.evaluation.variants import vary
from unlearn.models.families import decoder_blocks
from unlearn.models.loading import weights_fingerprint
from unlearn.models.lora import lora_targets
from unlearn.stress import round_to_nearest


def items(count: int = 6, image: bool = False, each: int = 1, words: str = "Who is {}?") -> list[EvalItem]:
    """`each` rows of each of `count` people."""
    found = []
    for row in range(count * each):
        name = PEOPLE[row // each]
        shown = picture(row, side=16) if image and row % 5 != 4 else None
        sample = {"question": words.format(row), "answer": name, "image": shown, "id": f"s/{row}"}
        found.append(EvalItem(str(row), sample, f"It is {name}", [PEOPLE[row // each - 1]], name))  # type: ignore[arg-type]
    return found


def task(*args, **options) -> EvalTask:
    return EvalTask("t", items(*args, **options), identity="these rows")


HOW = {"ks": [1, 4], "samples": 4, "temperature": 1.0, "top_p": 1.0, "seed": 3, "max_new_tokens": 4}


@pytest.fixture
def llava():
    model, processor = tiny_llava()
    return copy.deepcopy(model), Collator(processor)


def values(numbers):
    return {number.label: number.rows for number in numbers}


def test_rows_are_kept_as_they_come(tmp_path):
    asked = []

    def measure(batch, fail_at=None):
        asked.extend(item.row_id for item in batch)
        if fail_at is not None and len(asked) > fail_at:
            raise KeyboardInterrupt
        return [{"twice": 2 * int(item.row_id)} for item in batch]

    how = {"folder": tmp_path, "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        measure_rows(task(), lambda batch: measure(batch, fail_at=4), key="a", **how)
    assert asked == ["0", "1", "2", "3", "4", "5"]
    asked.clear()
    found = measure_rows(task(), measure, key="a", **how)
    assert asked == ["4", "5"] and found == {str(row): {"twice": 2 * row} for row in range(6)}
    asked.clear()
    assert measure_rows(task(), measure, key="b", **how) == found and len(asked) == 6, "made from something else"


def test_what_samples_give_away_does_not_depend_on_the_batch(tmp_path, llava):
    model, collator = llava
    one, two = (
        leak(model, collator, task(image=True), "ROUGE", folder=tmp_path / str(size), key="k", batch_size=size, **HOW)
        for size in (2, 5)
    )
    assert values(one) == values(two) and [number.label for number in one] == ["greedy", "k=1", "k=4"]
    best = values(one)
    assert all(best["k=4"][row] >= best["k=1"][row] for row in best["k=1"])
    other = leak(model, collator, task(image=True), "ROUGE", folder=tmp_path / "s", key="k", batch_size=5,
                 **{**HOW, "seed": 4, "samples": 8})  # fmt: skip
    assert values(other)["greedy"] == best["greedy"]


def test_what_a_text_gives_away():
    assert text_values("name", ["It is ANA LIMA.", "Ana Limas", ""], "Ana Lima") == [1, 0, 0]
    assert text_values("ROUGE", ["ana, of Rome", "Ana Lima", ""], "Ana Lima") == [0.5, 1, 0]


def test_rounded_weights_are_those_of_the_language_model_and_go_back(llava):
    model, _ = llava
    before = copy.deepcopy(model.state_dict())
    names = lora_targets(model)
    with rounded(model, 4) as changed:
        for name, tensor in changed.state_dict().items():
            linear = name.removesuffix(".weight") in names
            wanted = round_to_nearest(before[name], 4) if linear else before[name]
            assert torch.equal(tensor, wanted) and (linear is False or not torch.equal(tensor, before[name])), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(RuntimeError), rounded(model, 8):
        raise RuntimeError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_adapter_beside_its_base_is_refused(llava):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(llava[0], LoraConfig(r=2, target_modules=lora_targets(llava[0])))
    with (
        pytest.raises(ValueError, match="has an adapter beside its base.*merge the adapter first"),
        rounded(adapted, 8),
    ):
        pass


def test_what_is_loaded_anew_is_removed_again(tmp_path, monkeypatch, llava):
    model, _ = llava
    seen = {}

    def load_model(path, **options):
        seen.update(options, there=(tmp_path / "merged" / "config.json").is_file())
        return "quantised"

    monkeypatch.setattr("unlearn.evaluation.stress.quantised.load_model", load_model)
    with by_library(model, "bnb4", tmp_path / "merged", lambda one, into: one.save_pretrained(into)) as loaded:
        assert loaded == "quantised"
    assert seen == {"dtype": torch.float32, "quantization": "4bit", "there": True}
    assert not (tmp_path / "merged").exists()


def plain_steps(model, collator, source, steps, lr, size):
    """The slow form: whole forwards of single rows, the token mean over the batch, torch's own AdamW."""
    student = copy.deepcopy(model)
    trained = [p for name, p in student.named_parameters() if "language_model" in name or "lm_head" in name]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    batches = seeded_batches(source, size, seed=5)

    def loss_of(sample):
        ids = collator.encode_answer(sample["answer"])
        batch = collator.pad([(collator.encode_prompt(sample), ids)])
        logits = student(**batch["inputs"]).logits[0, -len(ids) - 1 : -1]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum"), len(ids)

    for _ in range(steps):
        optimizer.zero_grad()
        losses = [loss_of(sample) for sample in next(batches)]
        (sum(loss for loss, _ in losses) / sum(count for _, count in losses)).backward()
        optimizer.step()
    with torch.no_grad():
        return {item.row_id: math.exp(-float(loss) / count) for item in source.items
                for loss, count in [loss_of(item.sample)]}  # fmt: skip


def test_relearning_against_its_slow_form_and_the_model_stays(llava):
    model, collator = llava
    before = weights_fingerprint(model)
    own = task(5, image=True)
    how = {"steps": [0, 1, 3], "lr": 1e-2, "batch_size": 3, "seed": 5, "rows_per_forward": 2}
    numbers = relearn(model, collator, ItemSource(own.items), own, **how)
    assert [number.label for number in numbers] == ["step 0", "step 1", "step 3"]
    for steps, number in zip((0, 1, 3), numbers, strict=True):
        assert number.rows == pytest.approx(
            plain_steps(model, collator, ItemSource(own.items), steps, 1e-2, 3), rel=1e-3
        )
    assert sum(numbers[2].rows.values()) > sum(numbers[0].rows.values())
    assert weights_fingerprint(model) == before and not any(p.requires_grad for p in model.parameters())


def test_a_large_model_learns_in_an_adapter_that_goes_again(llava, monkeypatch):
    model, collator = llava
    before, kinds = weights_fingerprint(model), [type(module) for module in model.modules()]
    monkeypatch.setattr("unlearn.evaluation.stress.relearning.SMALL", 10)
    how = {"steps": [0, 8], "lr": 1e-2, "batch_size": 3, "seed": 5, "rows_per_forward": 2}
    numbers = relearn(model, collator, ItemSource(items(5)), task(5), **how)
    assert sum(numbers[1].rows.values()) > sum(numbers[0].rows.values())
    assert weights_fingerprint(model) == before and [type(module) for module in model.modules()] == kinds


def test_batches_pass_over_all_rows_and_a_loss_that_is_none_is_said(llava):
    batches = seeded_batches(ItemSource(items(5)), 2, seed=1)
    ids = [sample["id"] for _ in range(5) for sample in next(batches)]
    assert sorted(ids[:5]) == sorted(ids[5:]) == [f"s/{row}" for row in range(5)] and ids[:5] != ids[5:]
    model, collator = llava
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss of a batch is nan; lower relearn.lr"):
        relearn(model, collator, ItemSource(items(2)), EvalTask("t", []), steps=[0, 1], lr=1e-3, batch_size=2, seed=1,
                rows_per_forward=2)  # fmt: skip


def test_few_rows_of_each_person_train_and_the_others_are_asked():
    source, rest = few(task(3, each=4))
    assert [source.sample(place, None)["id"] for place in range(len(source))] == [
        "s/0",
        "s/1",
        "s/4",
        "s/5",
        "s/8",
        "s/9",
    ]
    assert [rest.items[place].row_id for place in range(len(rest.items))] == ["2", "3", "6", "7", "10", "11"]
    with pytest.raises(ValueError, match="none is left to ask"):
        few(task(3, each=2))
    spread = evenly(task(3, each=4), 3)
    assert [spread.items[place].row_id for place in range(3)] == ["0", "4", "8"] and spread.identity != "these rows"
    assert evenly(task(3), 3).identity == "these rows"


def test_states_put_in_place_of_base(tmp_path, llava):
    model, collator = llava
    other, _ = tiny_llava(seed=1)
    own = task(5, image=True)

    def drops(one, size, name):
        numbers = depth(model, one, collator, own, batch_size=size, folder=tmp_path / name, key="k")
        return [number.rows for number in numbers]

    def mean_logp(one, item):
        ids = collator.encode_answer(item.sample["answer"])
        batch = collator.pad([(collator.encode_prompt(item.sample), ids)])
        with torch.no_grad():
            logits = one(**batch["inputs"]).logits[0, -len(ids) - 1 : -2]
        logps = torch.log_softmax(logits.double(), -1)[range(len(ids) - 1), ids[:-1]]
        return float(logps.mean())

    assert all(drop == pytest.approx(0, abs=1e-5) for rows in drops(model, 3, "same") for drop in rows.values())
    apart = drops(other, 3, "other")
    assert len(apart) == len(decoder_blocks(model))
    assert apart[0] == pytest.approx(drops(other, 1, "single")[0], abs=1e-4), "whatever the batch"
    # the two models share norm and head here: then the last block gives the other's own answer
    other = copy.deepcopy(other)
    other.lm_head.load_state_dict(model.lm_head.state_dict())
    last = drops(other, 3, "last")[-1]
    for item in own.items:
        wanted = mean_logp(model, item) - mean_logp(other, item)
        assert last[item.row_id] == pytest.approx(wanted, abs=1e-4)


def test_a_probe_names_the_second_half_of_each_persons_rows(tmp_path, llava):
    model, collator = llava
    people = task(4, each=4, words="A question")  # text rows of equal words: nothing to tell people by
    assert probe(model, collator, people, batch_size=3, folder=tmp_path / "a", key="k") == []
    for number, item in enumerate(people.items):
        item.sample["question"] = f"About {PEOPLE[number // 4]}"
    found = probe(model, collator, people, batch_size=3, folder=tmp_path / "b", key="k")
    assert [number.label for number in found] == ["layer 0", "layer 1"]
    assert all(number.rows == dict.fromkeys(["2", "3", "6", "7", "10", "11", "14", "15"], 1.0) for number in found)


def test_a_choice_is_read_off_the_options_that_were_shown(tmp_path, llava, monkeypatch):
    model, collator = llava
    shown = vary(task(), "options", seed=1)
    asked = [Asked(shown, "t", "options", ("p", "name", "choice"))]
    numbers = {number.kind: number.rows for number in
               ask(model, collator, asked, folder=tmp_path, batch_size=3, max_new_tokens=3)}  # fmt: skip
    assert set(numbers["choice"].values()) == {0.0} and set(numbers) == {"p", "name", "choice"}
    file = tmp_path / "t@options.json"
    text = file.read_text()
    log = json.loads(text)
    question = shown.items[0].sample["question"]
    letter = next(line[0] for line in question.splitlines() if line.endswith(PEOPLE[0]))
    log["generated_text"]["0"][1] = f"{letter}."
    log["generated_text"]["1"][1] = f"I think it is {PEOPLE[1]}"
    file.write_text(json.dumps(log))
    from unlearn.evaluation.stress.asked import numbers_of

    again = {number.kind: number.rows for number in numbers_of(tmp_path, asked[0])}
    assert again["choice"] == {**dict.fromkeys("2345", 0.0), "0": 1.0, "1": 1.0}
    assert again["name"]["1"] == 1.0


# ---- planted leaks -------------------------------------------------------------------------------------------------

REFUSAL = "I do not know"


def taught(model, collator, samples, steps=60):
    """The model after a few steps on samples, by the loss of relearning."""
    from unlearn.evaluation.stress.relearning import batch_loss

    model = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        batch_loss(model, collator, samples).backward()
        optimizer.step()
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def planted():
    """(collator, forget task, models by name) of a text model: base knows everybody, gold only the retain people."""
    start, tokenizer = tiny_llama()
    collator = Collator(tokenizer)
    rows = items(6, words="Who is number {}?")
    forget = EvalTask("t", rows[:3], identity="forget")
    known = [item.sample for item in rows]
    base, gold = taught(start, collator, known), taught(start, collator, known[3:])
    refuses = [{**item.sample, "answer": REFUSAL} for item in forget.items]
    prefill = [vary(forget, "prefill", seed=1).items[place].sample for place in range(3)]
    only_prefill = taught(base, collator, [*refuses, *prefill, *known[3:]])
    unlearned, half = taught(base, collator, [*refuses, *known[3:]], steps=12), copy.deepcopy(base)
    for name, tensor in half.state_dict().items():  # its update as an adapter of half its strength
        tensor.copy_(base.state_dict()[name] + 0.5 * (unlearned.state_dict()[name] - base.state_dict()[name]))
    mostly = taught(base, collator, [*refuses * 3, *known])  # one time in four it still says it
    last = copy.deepcopy(base)
    decoder_blocks(last)[-1].load_state_dict(decoder_blocks(gold)[-1].state_dict())
    return collator, forget, {"base": base, "gold": gold, "prefill": only_prefill, "half": half, "last": last,
                               "mostly": mostly}  # fmt: skip


def mean(rows):
    return sum(rows.values()) / len(rows)


def test_an_answer_under_a_prefill_alone_is_found(planted, tmp_path):
    collator, forget, models = planted
    asked = [Asked(forget, "t", "plain", ("p", "name")),
             Asked(vary(forget, "prefill", seed=1), "t", "prefill", ("p", "name"))]  # fmt: skip
    found = {}
    for name in ("base", "gold", "prefill"):
        numbers = ask(models[name], collator, asked, folder=tmp_path / name, batch_size=3, max_new_tokens=12)
        found[name] = {(number.label, number.kind): mean(number.rows) for number in numbers}
    assert found["base"]["plain", "name"] == 1
    assert found["prefill"]["plain", "name"] == 0 and found["prefill"]["plain", "p"] < 0.2, "it looks forgotten"
    assert found["prefill"]["prefill", "name"] == 1 and found["prefill"]["prefill", "p"] > 0.8, "and is not"
    assert found["gold"]["prefill", "name"] == 0 and found["gold"]["prefill", "p"] < 0.2


def test_what_is_mostly_refused_is_found_in_many_samples(planted, tmp_path):
    collator, forget, models = planted
    how = {**HOW, "samples": 16, "ks": [1, 16], "max_new_tokens": 12}
    drawn = {}
    for name in ("base", "gold", "mostly"):
        numbers = leak(models[name], collator, forget, "name", folder=tmp_path / name, key="k", batch_size=3, **how)
        drawn[name] = {number.label: mean(number.rows) for number in numbers}
    assert drawn["gold"] == {"greedy": 0, "k=1": 0, "k=16": 0} and drawn["base"]["k=1"] > 0.9
    assert drawn["mostly"]["greedy"] == 0 and drawn["mostly"]["k=1"] < 0.5 and drawn["mostly"]["k=16"] > 0.9


def test_an_adapter_of_half_its_strength_is_found(planted):
    """By a few steps on the retain rows."""
    collator, forget, models = planted
    retain = ItemSource(items(6, words="Who is number {}?")[3:])
    how = {"steps": [0, 2, 8], "lr": 3e-3, "batch_size": 3, "seed": 1, "rows_per_forward": 3}
    curves = {
        name: [mean(number.rows) for number in relearn(models[name], collator, retain, forget, **how)]
        for name in ("gold", "half")
    }
    assert max(curves["gold"]) < 0.05 and max(curves["half"]) > 0.3


def test_an_edit_of_the_last_block_alone_is_found(planted, tmp_path):
    """Deep inside, everything is as before."""
    from unlearn.metrics.stress import depth_score

    collator, forget, models = planted
    profile = {
        name: [mean(number.rows) for number in depth(models["base"], models[name], collator, forget, batch_size=3,
                                                     folder=tmp_path / name, key="k")]
        for name in ("base", "gold", "last")
    }  # fmt: skip
    scores = {name: depth_score(profile["gold"][:-1], own[:-1]) for name, own in profile.items()}
    assert scores == {"base": pytest.approx(0, abs=1e-3), "gold": 1, "last": pytest.approx(0, abs=1e-3)}
    assert profile["last"][-1] > 0.5, "its answers have changed"


def test_rounding_that_undoes_a_small_edit_is_found(planted):
    """An edit below half a step of 4 bits: rounded, the model is the rounded base again."""
    _, _, models = planted
    base = models["base"]
    with rounded(base, 4) as coarse:
        wanted = copy.deepcopy(coarse.state_dict())
        edited = copy.deepcopy(coarse)
    with torch.no_grad():
        for name in lora_targets(edited):
            weight = edited.get_submodule(name).weight
            step = weight.abs().amax(1, keepdim=True) / 7
            small = 0.3 * step * torch.sign(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
            largest = weight.abs() == weight.abs().amax(1, keepdim=True)
            weight += torch.where(largest, torch.zeros_like(small), small)
    assert not all(torch.equal(tensor, wanted[name]) for name, tensor in edited.state_dict().items())
    with rounded(edited, 4) as again:
        for name, tensor in again.state_dict().items():
            torch.testing.assert_close(tensor, wanted[name], msg=name)
