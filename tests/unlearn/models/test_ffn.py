"""The down projections of every family, by tower and block, and what they are given at which positions."""

import importlib
from typing import Any

import pytest
import torch

from tests.models import tiny_llama, tiny_llava
from tests.training import make_trainer
from tests.vision_models import FAMILIES, TilesPil, pixtral_processor_class
from unlearn.models.families import decoder_blocks
from unlearn.models.ffn import down_projections, weight
from unlearn.models.vision import vision_modules
from unlearn.registry import build_method
from unlearn.training.probe import ModelProbe


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_block_of_each_tower_has_one(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = importlib.import_module("transformers")
    monkeypatch.setattr(library, "PixtralProcessor", pixtral_processor_class())
    monkeypatch.setattr(library, "TilesPil", TilesPil, raising=False)
    model = FAMILIES[family]()[0]
    names = {id(module): name for name, module in model.named_modules()}
    found = {name: names[id(layer)] for name, layer in down_projections(model).items()}
    language = [path for name, path in found.items() if name.startswith("language.")]
    vision = [path for name, path in found.items() if name.startswith("vision.")]
    assert len(language) == len(decoder_blocks(model)) and all(path.endswith("down_proj") for path in language)
    towers = tuple(vision_modules(model))
    assert vision and all(path.startswith(towers) and path.endswith(("fc2", "down_proj")) for path in vision)
    width = model.config.get_text_config().hidden_size
    assert all(weight(down_projections(model)[name]).shape[0] == width for name in found if name.startswith("language"))


def test_a_text_model_has_no_tower() -> None:
    assert set(down_projections(tiny_llama()[0])) == {"language.0", "language.1"}


def test_channels_are_what_the_projection_is_given_at_the_positions_of_the_scope(tmp_path: Any) -> None:
    trainer = make_trainer(tmp_path, build_method("grad_diff"), lora=0, tiny=tiny_llava)
    probe = ModelProbe(trainer.student, trainer.dataset, trainer.data_collator, trainer.accelerator, seed=1)
    collator = trainer.data_collator.collator
    row = next(row for row in probe.batches("forget") if row.image)
    prompt, answer = collator.encode_prompt(row.sample), collator.encode_answer(row.sample["answer"])
    seen: dict[str, torch.Tensor] = {}
    layer = down_projections(trainer.student.model)["language.0"]
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.update(given=inputs[0], out=output))
    found = {scope: probe.channels(row, scope) for scope in ("predicts_answer", "text", "image")}  # type: ignore[arg-type]
    handle.remove()
    pictures = sum(id_ == collator.image_token_id for id_ in prompt.ids)
    total = len(prompt.ids) + len(answer)
    sizes = {scope: len(channels["language.0"]) for scope, channels in found.items()}
    assert sizes == {"predicts_answer": len(answer), "text": total - pictures, "image": pictures} and pictures > 0
    assert {name.split(".")[0] for name in found["image"]} == {"language", "vision"}
    assert all(name.startswith("language") for name in found["text"])
    given = seen["given"][0, len(prompt.ids) - 1 : -1]  # the position before a token predicts it; the last one nothing
    torch.testing.assert_close(found["predicts_answer"]["language.0"], given)
    torch.testing.assert_close(seen["out"][0], seen["given"][0] @ probe.weights()["language.0"].T)
    bare = probe.channels(row.without_image(), "text")["language.0"]
    assert len(bare) < total and not row.without_image().image
