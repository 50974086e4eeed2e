"""Scores that are kept are the scores the teacher would give, and each is computed once."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import picture, tiny_llava, tiny_qwen2vl
from tests.training import make_trainer, micro_batches, trained_weights
from unlearn.data.collator import Collator, row_key
from unlearn.method import View
from unlearn.methods.sparsity import with_l1
from unlearn.registry import build_method, method_names
from unlearn.scoring import Scored
from unlearn.training.teacher_cache import TeacherCache


def counted(trainer: Any) -> list[list[bytes]]:
    """The keys of every batch that the teacher's forward is called on from now on."""
    calls: list[list[bytes]] = []
    plain = trainer.teacher.cache.forward

    def forward(views: Any, through: Any) -> Any:
        calls.append([key for rows in views.values() for key in rows["keys"]])
        return plain(views, through)

    trainer.teacher.cache.forward = forward
    return calls


@pytest.mark.parametrize(("name", "lora"), [("npo", 2), ("npo", 0), ("dpo", 2)])
@pytest.mark.parametrize("tiny", [tiny_llava, tiny_qwen2vl])
def test_training_with_kept_scores_ends_at_the_same_weights(tmp_path: Path, name: str, lora: int, tiny: Any) -> None:
    options: dict[str, Any] = {
        "tiny": tiny,
        "lora": lora,
        "num_epochs": 3,
        "init_noise": 0.1,
        "forget": (2, 4),
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "lr": 1e-3,
        "fixed_prompts": True,
    }
    kept = make_trainer(tmp_path / "kept", build_method(name), **options)
    calls, start = counted(kept), trained_weights(kept)
    kept.train()
    rows = [key for call in calls for key in call]
    assert len(rows) == len(set(rows)) == 6 * len(kept.method.teacher_views)  # each row once in three epochs
    asked = make_trainer(tmp_path / "asked", build_method(name), **options)
    asked.teacher.cache = None  # type: ignore[union-attr]
    asked.train()
    for weight, tensor in trained_weights(asked).items():
        torch.testing.assert_close(trained_weights(kept)[weight], tensor, atol=1e-6, rtol=1e-4, msg=weight)
    assert max(float((tensor - start[weight]).abs().max()) for weight, tensor in trained_weights(kept).items()) > 1e-4


def test_a_question_in_other_words_is_scored_anew(tmp_path: Path) -> None:
    """The request for a caption is drawn each epoch: a key that left it out would serve another question's score."""
    trainer = make_trainer(tmp_path, build_method("dpo"), num_epochs=4, forget=(4, 2))
    teacher, calls = trainer.teacher, counted(trainer)
    assert teacher is not None
    seen = 0
    for batch in micro_batches(trainer):
        views = {name: batch["views"][name] for name in ("idk", "forget")}
        kept, asked = teacher.score(views), teacher.forward(views)
        for name in views:
            torch.testing.assert_close(kept[name].sequence_logps(), asked[name].sequence_logps(), atol=1e-4, rtol=1e-5)
            assert torch.equal(kept[name].lengths(), asked[name].lengths())
        seen += 1
    assert 0 < len(calls) < seen and len({key for call in calls for key in call}) > 2 * 6


def test_a_key_holds_everything_the_model_reads() -> None:
    def key(question: str = "Who?", answer: str = "Bo", image: int | None = 1) -> bytes:
        collator = Collator(tiny_llava()[1])
        sample: Any = {
            "question": question,
            "answer": answer,
            "image": None if image is None else picture(image),
            "id": "x",
        }
        return collator.rows([sample])["keys"][0]

    keys = [key(), key(question="What?"), key(answer="Li"), key(image=2), key(image=None)]
    assert len(set(keys)) == 5 and key() == keys[0]
    prompt = Collator(tiny_llava()[1]).encode_prompt({"question": "Who?", "answer": "", "image": None, "id": "x"})
    longer = type(prompt)([*prompt.ids, 7])
    assert row_key(longer, [8]) != row_key(prompt, [7, 8])  # the same ids, another answer


def test_a_method_declares_what_it_reads_of_the_teacher() -> None:
    """The loss on kept scores is the loss on logits for every method that says so; the others get logits."""
    from batches import pack_all, total, views_of  # type: ignore[import-not-found]

    found = set()
    for name in method_names():
        method = build_method(name)
        if not method.teacher_sums_only:
            continue
        found.add(name)
        student, teacher = (pack_all(views) for views in views_of(method))
        kept = {view: Scored.from_logps(s.sequence_logps(), s.lengths()) for view, s in teacher.items()}
        torch.testing.assert_close(total(method.loss(student, kept)), total(method.loss(student, teacher)))
    assert found == {"npo", "dpo", "altpo", "pava", "sam"}
    assert build_method("npo", {"retain_weight": 1.0}).teacher_sums_only
    assert not build_method("npo", {"retain_weight": 1.0, "retain_loss": "KL"}).teacher_sums_only
    assert with_l1(build_method("npo"), 0.1, "init").teacher_sums_only


# ---- several ranks ------------------------------------------------------------------------------------------------


def rank_of_two(rank: int, port: int, answers: Any) -> None:
    """Steps of two rows a rank. The fake forward scores a key by its number, so that a swap would show."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    calls = []

    def forward(views: Any, through: Any) -> dict[str, Scored]:
        calls.append([key[0] for rows in views.values() for key in rows["keys"]])
        return {name: scored([key[0] for key in rows["keys"]]) for name, rows in views.items()}

    def scored(numbers: list[int]) -> Scored:
        return Scored.from_logps(-torch.tensor(numbers, dtype=torch.float32), torch.tensor(numbers) + 100)

    cache, got = TeacherCache(forward), []
    for step in ([(1, 2), (3, 4)], [(3, 1), (4, 2)], [(1, 5), (2, 3)], [(5, 5), (1, 1)]):
        views = {"forget": {"keys": [bytes([number] * 16) for number in step[rank]]}}
        view = cache.score(views)["forget"]
        got.append((view.sequence_logps().tolist(), view.lengths().tolist()))
    answers.put((rank, calls, got))
    torch.distributed.destroy_process_group()


def test_ranks_share_scores_and_decide_alike() -> None:
    """A rank that ran the teacher alone would wait for the others for ever where its weights are sharded."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    ranks = [fork.Process(target=rank_of_two, args=(rank, port, answers), daemon=True) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    seen = {rank: (calls, got) for rank, calls, got in (answers.get(timeout=60) for _ in ranks)}
    for rank in ranks:
        rank.join(timeout=30)
    assert seen[0][0] == [[1, 2], [1, 5]] and seen[1][0] == [[3, 4], [2, 3]]  # steps 1 and 3, both of them
    assert [sums for sums, _ in seen[0][1]] == [[-1, -2], [-3, -1], [-1, -5], [-5, -5]]
    assert [lengths for _, lengths in seen[1][1]] == [[103, 104], [104, 102], [102, 103], [101, 101]]


def test_views_hold_no_logits(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, build_method("npo"))
    assert trainer.teacher is not None and trainer.method.teacher_views == (View("forget"),)
    views = micro_batches(trainer)[0]["views"]
    with pytest.raises(ValueError, match="cached sequence scores only"):
        trainer.teacher.score({"forget": views["forget"]})["forget"].token_logps()
