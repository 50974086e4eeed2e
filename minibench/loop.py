"""The training loop of pretraining, and the quick scores that go with shipped weights."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unlearn.data.collator import Collator
from unlearn.data.samples import Sample
from unlearn.scoring import IGNORE_INDEX


def token_losses(model: Any, rows: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(nats per answer token [n, T], whether it counts [n, T]) of the collated rows of one modality."""
    keep = rows["answer_length"] + 1  # the last prompt position predicts the first answer token
    logits = model(**rows["inputs"], logits_to_keep=keep, use_cache=False).logits[:, :-1].float()
    labels = rows["labels"][:, 1 - keep :]
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )
    return losses, labels != IGNORE_INDEX


def answer_loss(model: Any, rows: dict[str, Any]) -> Tensor:
    """Cross-entropy of the answers of one collated view, mean over all its answer tokens; image and text rows run
    apart."""
    parts = [token_losses(model, rows[kind]) for kind in ("text", "image") if kind in rows]
    return torch.cat([losses[mask] for losses, mask in parts]).mean()


def mixed(
    collator: Collator, rows: Mapping[str, Sequence[Sample]], mix: Mapping[str, float], batch_size: int, rng: Any
) -> Iterator[dict[str, Any]]:
    """Endless collated batches of rows of one modality, their kinds drawn by the shares `mix`. A row is tokenised once:
    its question never changes."""
    encoded: dict[tuple[str, int], Any] = {}
    while True:
        drawn = [
            (kind, int(rng.integers(len(rows[kind])))) for kind in rng.choice(list(mix), batch_size, p=[*mix.values()])
        ]
        for kind, number in drawn:
            if (kind, number) not in encoded:
                sample: Any = rows[kind][number]
                encoded[kind, number] = collator.encode_prompt(sample), collator.encode_answer(sample["answer"])
        yield collator.pad([encoded[key] for key in drawn])


def train(
    model: Any, batches: Iterable[dict[str, Any]], steps: int, lr: float, weight_decay: float = 0.01, warmup: int = 50,
    betas: tuple[float, float] = (0.9, 0.99), floor: float = 0.05, cosine: bool = True, log: Any = None,
) -> None:  # fmt: skip
    """AdamW with gradient norm 1, linear warm-up, then cosine to `floor` of `lr` (or linear to 0); one batch a step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=betas, weight_decay=weight_decay)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)) if cosine else 1 - done

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for step, rows in zip(range(steps), batches, strict=False):
        loss = answer_loss(model, rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if log is not None and step % 100 == 0:
            log(step, loss.item())
    model.eval()


@torch.no_grad()
def by_modality(collator: Collator, samples: list[Sample]) -> tuple[dict[str, dict[str, Any]], Tensor]:
    """Text and picture rows of the samples' answers, padded apart, and where each sample is among both."""
    places = {kind: [i for i, s in enumerate(samples) if (s["image"] is None) == (kind == "text")]
              for kind in ("text", "image")}  # fmt: skip
    rows = [(collator.encode_prompt(sample), collator.encode_answer(str(sample["answer"]))) for sample in samples]
    padded = {kind: collator.pad([rows[i] for i in where]) for kind, where in places.items() if where}
    return padded, torch.argsort(torch.tensor(places["text"] + places["image"]))


def answer_losses(model: Any, collator: Collator, samples: list[Sample], batch: int = 64) -> Tensor:
    """Nats per answer token of each sample, [N] float64."""
    losses = []
    for start in range(0, len(samples), batch):
        rows, order = by_modality(collator, samples[start : start + batch])
        parts = [token_losses(model, padded) for padded in rows.values()]
        losses.append(torch.cat([nats.sum(1) / mask.sum(1) for nats, mask in parts])[order].double())
    return torch.cat(losses)


def choice_probability(model: Any, collator: Collator, samples: list[Sample], wrong: list[list[str]]) -> Tensor:
    """Length-normalised probability of each sample's answer among itself and its wrong answers, [N]."""
    flat: list[Sample] = []
    for sample, texts in zip(samples, wrong, strict=True):
        flat += [{**sample, "answer": text} for text in (sample["answer"], *texts)]  # type: ignore[typeddict-item]
    losses = answer_losses(model, collator, flat).split([1 + len(texts) for texts in wrong])
    return torch.stack([torch.softmax(-part, 0)[0] for part in losses])


@torch.no_grad()
def generate(model: Any, collator: Collator, samples: list[Sample], tokens: int = 40, batch: int = 64) -> list[str]:
    """Greedy answers to the samples' prompts; all samples of one modality."""
    texts = []
    for start in range(0, len(samples), batch):
        inputs = collator.pad([(collator.encode_prompt(sample), ()) for sample in samples[start : start + batch]])[
            "inputs"
        ]
        output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        texts += collator.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]
