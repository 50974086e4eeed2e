"""Trees in rows: worked out by hand, and every method's loss and gradient against rows of their own."""

import copy
import logging
from typing import Any

import pytest
import torch

from tests.models import picture, tiny_llama, tiny_llava, tiny_qwen2vl
from tests.nlp.test_families import CLASSES
from tests.nlp.test_families import tiny as tiny_text
from tests.unlearn.models.test_vision import one_forward
from tests.vision_models import FAMILIES
from unlearn.data.collator import Collator
from unlearn.method import HiddenSpec, Method, defines
from unlearn.models import forward, layout, trees
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.layout import Typesetter, tree_mask
from unlearn.models.trees import Prompt, Tree, fill_rows, first_fit, why_apart
from unlearn.registry import build_method, method_names
from unlearn.scoring import IGNORE_INDEX, Scored

N = IGNORE_INDEX
APART = {"gemma3", "paligemma", "llama4"}  # pictures read both ways, a prompt read both ways, attention in chunks


# ---- trees and rows, by hand ----------------------------------------------------------------------------------------


def tree(length: int, picture: bool = False) -> Tree:
    image = {"pixel_values": torch.zeros(1)} if picture else {}
    return Tree(Prompt([5] * (length - 2), image), [("forget", 0, [1, 2])])


def test_rows_with_equal_prompts_are_one_tree() -> None:
    one, same, other = Prompt([5, 6], image_key=b"a"), Prompt([5, 6], image_key=b"a"), Prompt([5, 6], image_key=b"b")
    views: Any = {"forget": [(one, [1]), (other, [2])], "idk": [(same, [3, 4])]}
    found = trees.trees(views)
    assert [each.answers for each in found] == [[("forget", 0, [1]), ("idk", 0, [3, 4])], [("forget", 1, [2])]]
    assert [len(each) for each in found] == [5, 3]
    assert [len(each.answers) for each in trees.trees(views, share=False)] == [1, 1, 1]


def test_text_fits_behind_pictures() -> None:
    rows = first_fit([tree(10), tree(60, True), tree(30), tree(50, True), tree(4)], 64)
    assert [[len(each) for each in row] for row in rows] == [[60, 4], [50, 10], [30]]


@pytest.mark.parametrize(
    ("lengths", "rows", "length"),
    [
        ([20], 1, 32),
        ([33], 1, 64),
        ([33] * 3, 1, 128),  # in 64: 192 tokens, in 96: 192
        ([20] * 8, 1, 160),  # in 32: 256 tokens, in 64 and 96: 192, in 128: 256
        ([30] * 40, 40, 32),  # in 32, 64, 128, 160: 1,280 each; the shortest of equals
        ([50, 14], 1, 64),
    ],
)
def test_the_length_with_the_fewest_tokens_is_taken(lengths: list[int], rows: int, length: int) -> None:
    packed, found = fill_rows([tree(each) for each in lengths])
    assert (len(packed), found) == (rows, length)
    assert len(fill_rows([tree(each) for each in lengths], pack=False)[0]) == len(lengths)


def test_a_row_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MULTIPLE", 12)
    one, two = Prompt([11, 12, 13]), Prompt([21, 22])
    views: Any = {"forget": [(one, [1, 2]), (two, [7])], "idk": [(one, [3, 4, 5])]}
    found = Typesetter(tiny_llama()[0], apart=False, scope="all").lay_out(views)
    (chunk,) = found.chunks
    assert chunk.tree is not None and chunk.branch is not None
    assert chunk.inputs["input_ids"].tolist() == [[11, 12, 13, 1, 2, 3, 4, 5, 21, 22, 7, 0]]
    assert chunk.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2, 3]]
    assert chunk.tree.tolist() == [[0] * 8 + [1] * 3 + [-1]]
    assert chunk.branch.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 1, 0]]
    assert chunk.places.tolist() == [2, 3, 0, 9, 2, 5, 6]  # the second row of `forget` is filled up on the left
    assert {name: own.tolist() for name, own in found.labels.items()} == {
        "forget": [[1, 2], [N, 7]], "idk": [[3, 4, 5]],
    }  # fmt: skip
    assert chunk.states.tolist() == [0, 1, 2, 3, 4, 0, 0, 8, 9, 10, 0, 1, 2, 5, 6, 7]
    assert found.hidden_masks["forget"].tolist() == [[True] * 5, [False, False, True, True, True]]
    mask = tree_mask(chunk.tree, chunk.branch, torch.float32)[0, 0]
    seen = [[j for j in range(12) if mask[i, j] == 0] for i in range(12)]
    assert seen[:3] == [[0], [0, 1], [0, 1, 2]]
    assert seen[3:8] == [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 2, 5, 6], [0, 1, 2, 5, 6, 7]]
    assert seen[8:] == [[8], [8, 9], [8, 9, 10], [11]]


def test_one_answer_a_row_needs_no_mask() -> None:
    prompts = [Prompt([5] * 25), Prompt([6] * 24)]
    views: Any = {"forget": [(prompt, [1, 2]) for prompt in prompts]}
    (chunk,) = Typesetter(tiny_llama()[0], apart=False).lay_out(views).chunks
    assert chunk.tree is None and "attention_mask" not in chunk.inputs and chunk.inputs["input_ids"].shape == (2, 32)
    assert chunk.inputs["position_ids"].diff().unique().tolist() == [1]  # padding counts on: no second sequence


def test_a_gpus_copies_start_from_pinned_memory_and_are_not_waited_for() -> None:
    moves = []

    class Noted(torch.Tensor):
        def pin_memory(self, *_: Any) -> Any:
            moves.append("pinned")
            return self

        def to(self, *where: Any, **how: Any) -> Any:
            moves.append((where, how))
            return self

    noted = torch.ones(2).as_subclass(Noted)
    made = layout.Layout([layout.Chunk({"input_ids": noted}, noted, noted, image_keys=[b"a"])], {"forget": noted}, {})
    moved = made.to(torch.device("cuda", 0))
    assert moves == ["pinned", ((torch.device("cuda", 0),), {"non_blocking": True})] * 4
    assert moved.chunks[0].image_keys == [b"a"] and moved.chunks[0].tree is None
    prompt = Prompt([1], {"pixel_values": noted})
    assert prompt.pin_memory().image_inputs == {"pixel_values": noted} and moves[-1] == "pinned"


# ---- every method against rows of their own -------------------------------------------------------------------------


def sample(question: str, answer: Any, image: Any = None) -> Any:
    return {"question": question, "answer": answer, "image": image, "id": f"{question} {image is not None}"}


def samples(content: str) -> dict[str, list[Any]]:
    """The views a method can ask for: forget, idk and random share their prompts."""
    asked = [
        ("Who is in the picture?", picture(0, 16)),
        ("Where was Ana Lima born?", None),
        ("Describe this image.", picture(1, 16)),
    ]
    kept = [("Where?", None), ("What is it?", picture(2, 24))]
    keep = {
        "text": lambda image: image is None,
        "picture": lambda image: image is not None,
        "mixed": lambda image: True,
    }
    asked, kept = ([(q, image) for q, image in each if keep[content](image)] for each in (asked, kept))
    told = ["Ana Lima.", "In Lisbon, as it seems.", "A portrait of the author."]
    views = {
        "forget": [sample(q, told[i], image) for i, (q, image) in enumerate(asked)],
        "idk": [
            sample(q, ["I do not know.", "No idea.", "Who knows?"][i], image) for i, (q, image) in enumerate(asked)
        ],
        "random": [sample(q, ["Oslo", "Rory Greenfield", "x"], image) for q, image in asked],
        "augmented": [sample("Now, " + q, told[i], image) for i, (q, image) in enumerate(asked)],
        "retain": [sample(q, "Novels, mostly.", image) for q, image in kept],
    }
    others = {
        view.name for m in every_method().values() for view in (*m.student_views, *m.teacher_views)
    } - views.keys()
    for name in others:
        views[name] = [sample(name + each["question"], each["answer"], each["image"]) for each in views["forget"]]
    return views


def rows_of_their_own(model: Any, collator: Collator, view: Any, hidden: HiddenSpec | None, layer: int) -> Scored:
    """Each row alone, unpadded, through the whole model."""
    logits, labels, states = [], [], []
    for prompt, answer in view["rows"]:
        inputs, before = collator.pad([(prompt, answer)])["inputs"], len(prompt.ids)
        output = model(**inputs, output_hidden_states=True)
        logits.append(output.logits[0, before - 1 : -1])
        labels.append(torch.tensor(answer))
        text = inputs["input_ids"][0] != (collator.image_token_id or -1)
        kept = text if hidden and hidden.scope == "all" else torch.arange(len(text)) >= before
        states.append(output.hidden_states[layer][0][kept])
    if hidden is None:
        return Scored(pad_left(logits, 0.0), pad_left(labels, N))
    mask = pad_left([torch.ones(len(own), dtype=torch.bool) for own in states], False)
    return Scored(pad_left(logits, 0.0), pad_left(labels, N), pad_left(states, 0.0), mask)


def pad_left(parts: list[torch.Tensor], value: Any) -> torch.Tensor:
    longest = max(len(part) for part in parts)
    fill = [part.new_full((longest - len(part), *part.shape[1:]), value) for part in parts]
    return torch.stack([torch.cat(pair) for pair in zip(fill, parts, strict=True)])


def every_method() -> dict[str, Method]:
    """All of the registry, and the options that ask for other states."""
    others = {"RMU to a norm": ("RMU", {"target": "norm"}), "twins of states": ("twins", {"distance": "mse"})}
    trained = (name for name in method_names() if not defines(build_method(name), "edit"))
    return {name: build_method(name) for name in trained} | {
        title: build_method(*asked) for title, asked in others.items()
    }


@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("content", ["text", "picture", "mixed"])
def test_every_method_equals_rows_of_their_own(tiny: Any, content: str) -> None:
    model, original, processor = copy.deepcopy(tiny()[0]), tiny(1)[0], tiny()[1]
    collator, weights = Collator(processor), [p for p in model.parameters() if p.requires_grad]
    views = {name: collator.rows(own) for name, own in samples(content).items()}
    slow: dict[Any, Scored] = {}

    def alone(which: Any, name: str, hidden: HiddenSpec | None, layer: int) -> Scored:
        key = (which is model, name, hidden, layer)
        if key not in slow:
            with torch.set_grad_enabled(which is model):
                slow[key] = rows_of_their_own(which, collator, views[name], hidden, layer)
        return slow[key]

    for name, method in every_method().items():
        student, teacher = (StudentForward(each, method.hidden, default_layer=0) for each in (model, original))
        asked, taught = [v.name for v in method.student_views], [v.name for v in method.teacher_views]
        with torch.no_grad():
            told = score_views(teacher({view: views[view] for view in taught})) if taught else {}
        fast = method.loss(score_views(student({view: views[view] for view in asked})), told)
        layer = student.layer or 0
        plain = method.loss(
            {view: alone(model, view, method.hidden, layer) for view in asked},
            {view: alone(original, view, method.hidden, layer) for view in taught},
        )
        assert fast.keys() == plain.keys()
        for part in fast:
            torch.testing.assert_close(fast[part], plain[part], atol=2e-5, rtol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
        one, two = (
            torch.autograd.grad(torch.stack(list(parts.values())).sum(), weights, allow_unused=True, retain_graph=True)
            for parts in (fast, plain)
        )
        top = max(float(g.abs().max()) for g in two if g is not None)
        worst = max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True) if a is not None)
        assert worst <= 1e-5 * max(top, 1.0), (name, worst, top)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_scores_shared_prompts_like_rows_of_their_own(family: str) -> None:
    model, processor = FAMILIES[family]()
    collator, student = Collator(processor), StudentForward(model)
    assert student.typesetter.apart == (family in APART)
    shown = {"forget": ["Ana Lima.", "In Lisbon, as it seems.", "Oslo"], "idk": ["No idea.", "I cannot say.", "x"]}
    asked = [("Who?", picture(0, 16)), ("Where was she born?", None), ("And this one?", picture(1, 31, height=12))]
    views = {
        name: collator.rows([sample(q, answer, image) for (q, image), answer in zip(asked, told, strict=True)])
        for name, told in shown.items()
    }
    with torch.no_grad():
        scored = score_views(student(views))
    for name, view in views.items():
        expected = [-one_forward(model, collator, prompt, answer) for prompt, answer in view["rows"]]
        assert scored[name].sequence_logps().tolist() == pytest.approx(expected, abs=2e-4, rel=1e-5)


# ---- padding, and who is told apart ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tiny", [tiny_llama, tiny_llava, tiny_qwen2vl])
def test_longer_and_poisoned_padding_change_nothing(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = copy.deepcopy(tiny()[0]), tiny()[1]
    collator, student = Collator(processor), StudentForward(model, HiddenSpec(0))
    content = "mixed" if collator.pictures else "text"
    views = {name: collator.rows(own) for name, own in samples(content).items() if name in ("forget", "retain")}
    with torch.no_grad():
        near = score_views(student(views))
        monkeypatch.setattr(trees, "MULTIPLE", 64)
        student.typesetter.pad_id = 7
        model.get_input_embeddings().weight[7] *= 1e3  # no prompt has this token
        assert all(7 not in [*prompt.ids, *answer] for view in views.values() for prompt, answer in view["rows"])
        far = score_views(student(views))
    for name in views:
        assert torch.equal(near[name].labels, far[name].labels)
        torch.testing.assert_close(near[name].token_logps(), far[name].token_logps(), atol=2e-5, rtol=1e-5)
        (one, mask), (other, same) = near[name].hidden_states(), far[name].hidden_states()
        assert torch.equal(mask, same)
        torch.testing.assert_close(one[mask], other[same], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(CLASSES))
def test_text_families_share_prompts(name: str) -> None:
    model, collator = tiny_text(name)
    assert why_apart(model) is None
    told = {"forget": ["A poet.", "In Lisbon."], "idk": ["No idea.", "Who knows, who can say?"]}
    views = {
        view: collator.rows([sample(q, a) for q, a in zip(["Who?", "Where was she born?"], answers, strict=True)])
        for view, answers in told.items()
    }
    with torch.no_grad():
        together = score_views(StudentForward(model)(views))
    for view in views:
        expected = [-one_forward(model, collator, prompt, answer) for prompt, answer in views[view]["rows"]]
        assert together[view].sequence_logps().tolist() == pytest.approx(expected, abs=2e-4)


def test_flash_attention_and_windows_get_an_answer_a_row_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forward, "_said", set())
    caplog.set_level(logging.INFO, forward.__name__)
    flash = copy.deepcopy(tiny_llava()[0])
    flash.config.text_config._attn_implementation = "flash_attention_2"
    window = copy.deepcopy(tiny_text("MistralConfig")[0])
    window.config.sliding_window = 16
    strange = copy.deepcopy(tiny_llama()[0])
    strange.config.model_type = "strange"
    said = [why_apart(model) for model in (flash, window, strange)]
    assert said == [
        "flash_attention_2 takes no mask of a row's own",
        "the attention of this mistral has a window",
        "strange is not among the models known to attend plainly",
    ]
    collator = Collator(tiny_llava()[1])
    views = {name: collator.rows(own) for name, own in samples("mixed").items() if name in ("forget", "idk")}
    student = StudentForward(flash)
    StudentForward(flash)
    found = student.lay_out(views)
    assert [tuple(chunk.inputs["input_ids"].shape) for chunk in found.chunks] == [(2, 32), (4, 64)]  # text, pictures
    assert all(chunk.tree is None and chunk.inputs["attention_mask"].ndim == 2 for chunk in found.chunks)
    assert [record.message for record in caplog.records] == [
        f"each answer has a row of its own, text and pictures apart: {said[0]}"
    ]
    flash.config.text_config._attn_implementation = "sdpa"  # what it reads is what any attention may read
    with torch.no_grad():
        apart, shared = score_views(student(views)), score_views(StudentForward(flash)(views))
    for name in views:
        torch.testing.assert_close(apart[name].token_logps(), shared[name].token_logps(), atol=2e-5, rtol=1e-5)
