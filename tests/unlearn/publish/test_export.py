"""To the hub and back: what would be sent, exactly; models by id and revision from a cache; adapters on adapters."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.hub_cache import add_to_hub, fake_hub
from tests.models import tiny_llava
from tests.sources import ListSource
from tests.training import REFUSALS
from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn import ROOT, pipeline
from unlearn.config.settings import EvalSettings, FinetuneSettings, ForgetSettings, LoraSettings
from unlearn.leaderboard.row import leaderboard_row
from unlearn.models.families import Family
from unlearn.models.loading import load_model
from unlearn.models.start import Start, is_adapter, resolve_path
from unlearn.publish.export import PublishSettings, publish
from unlearn.publish.privacy import LOCAL
from unlearn.results import as_log

IDS = torch.tensor([[7, 30, 41, 9]])
SMALL: dict[str, Any] = {
    "batch_size": 2,
    "num_epochs": 1,
    "logging_steps": 1,
    "lr": 3e-2,
    "save_steps": 0,
    "max_steps": 2,
    "LoRA": LoraSettings(r=2),
    "model_family": "llava",
}
WHOLE = {"README.md", "run.json", "config.json", "generation_config.json", "model.safetensors"}
ADAPTER = {"README.md", "run.json", "adapter_config.json", "adapter_model.safetensors"}
PROCESSOR = {"processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def forget(start: str | Path, folder: Path, **changes: Any) -> Path:
    defaults = {
        "save_dir": str(folder),
        "model_path": str(start),
        "forget_loss": "npo",
        "method_args": {"npo": {"beta": 0.3}},
        "forget_data_path": "therem/CLEAR",
        "retain_data_path": "therem/CLEAR",
        "forget_split": "forget10+tofu",
        "retain_split": "retain90+tofu",
    }
    settings = ForgetSettings(**{**defaults, **SMALL, **changes})
    sources = ListSource(2, 2, "forget"), ListSource(2, 2, "retain", offset=50)
    return pipeline.forget(settings, Family("llava", "x", rmu_layer=1), lambda: sources, REFUSALS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base by `finetune`, and an adapter of it by `forget`, evaluated."""
    root = tmp_path_factory.mktemp("alice")
    model, processor = tiny_llava()
    model.save_pretrained(root / "pretrained")
    processor.save_pretrained(root / "pretrained")
    settings = FinetuneSettings(save_dir=str(root / "base"), data_path="therem/CLEAR", split="full+tofu", **SMALL)
    pipeline.finetune(settings, Family("llava", str(root / "pretrained")), lambda: ListSource(3, 3, "full"))
    forget(root / "base", root / "adapter")
    log, gold = make_log(seed=1, rows=20, forget=0.6), make_log(seed=2, rows=20, forget=0.2)
    row = leaderboard_row(as_log(log, make_meta(log, method="npo")), as_log(gold, make_meta(gold, method="gold")))
    (root / "adapter" / "eval_results").mkdir()
    (root / "adapter" / "eval_results" / "leaderboard_row.json").write_text(json.dumps([row]))
    return {"root": root, "base": root / "base", "adapter": root / "adapter"}


class FakeHub:
    """Stands in for huggingface_hub.HfApi; remembers what it is asked for."""

    def __init__(self, public: bool = False, error: Exception | None = None) -> None:
        self.public, self.error, self.calls, self.files = public, error, [], {}

    def __call__(self) -> "FakeHub":
        return self

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append(("create_repo", repo_id, options))

    def model_info(self, repo_id: str) -> Any:
        return type("Info", (), {"private": not self.public})()

    def upload_folder(self, *, folder_path: str, **options: Any) -> Any:
        self.calls.append(("upload_folder", options.pop("repo_id"), options))
        self.files = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        return type("Commit", (), {"commit_url": "https://hub/commit/1"})()


def sent(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, **settings: Any) -> dict[str, bytes]:
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    assert publish(PublishSettings(**settings))[1] == "https://hub/commit/1"
    return hub.files


def front_matter(readme: bytes) -> dict[str, Any]:
    return yaml.safe_load(readme.decode().split("---\n")[1])


# ---- to the hub ---------------------------------------------------------------------------------------------------


def test_an_adapter_goes_out_with_its_base_by_id_and_nothing_private(
    runs: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    hub = FakeHub()
    files = sent(monkeypatch, hub, model_path=str(runs["adapter"]), repo="me/clear-npo", base="me/clear-full@v1",
                 private=True, license="mit", export=str(tmp_path / "out"))  # fmt: skip
    assert files.keys() == ADAPTER | PROCESSOR
    create, upload = hub.calls
    assert create == ("create_repo", "me/clear-npo", {"private": True, "exist_ok": True, "repo_type": "model"})
    assert upload[1] == "me/clear-npo" and upload[2]["repo_type"] == "model" and "npo" in upload[2]["commit_message"]
    assert "adapter_config.json" in upload[2]["delete_patterns"] and "README.md" not in upload[2]["delete_patterns"]
    config = json.loads(files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/clear-full", "v1")
    assert files["adapter_model.safetensors"] == (runs["adapter"] / "adapter_model.safetensors").read_bytes()
    for name, content in files.items():
        for secret in (str(runs["root"]), "alice", str(Path.cwd()), str(ROOT)):
            assert secret.encode() not in content, f"{name} tells of {secret}"
    record, source = json.loads(files["run.json"]), json.loads((runs["adapter"] / "run.json").read_text())
    assert (
        "command" not in record and "save_dir" not in record["settings"] and record["settings"]["model_path"] == LOCAL
    )
    assert record["settings"]["method_args"] == {"npo": {"beta": 0.3}} and record["settings"]["lr"] == 3e-2
    assert all(record[key] == source[key] for key in ("settings_hash", "variant", "seed", "commit", "versions", "kind"))


def test_the_card_says_what_it_is_and_what_it_is_no_proof_of(runs: Any, tmp_path: Path) -> None:
    folder, address = publish(
        PublishSettings(model_path=str(runs["adapter"]), base="me/full", export=str(tmp_path / "out"))
    )
    readme = (folder / "README.md").read_text()
    assert address is None and front_matter(readme.encode()) == {
        "base_model": "me/full",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "image-text-to-text",
        "tags": ["machine-unlearning", "clear-benchmark", "npo", "lora"],
        "datasets": ["therem/CLEAR"],
    }
    record = json.loads((runs["adapter"] / "run.json").read_text())
    for said in ("| options | beta=0.3 |", "| forget split | forget10+tofu |", "| retain split | retain90+tofu |",
                 "| seed | 42 |", f"| settings hash | {record['settings_hash']} |",
                 "LoRA r=2, alpha=32, language", "Zhang et al.", "log sigmoid",
                 "no proof of erasure", "The base model still knows everything", "Forget Quality",
                 "PeftModel.from_pretrained"):  # fmt: skip
        assert said in readme, said
    row = json.loads((runs["adapter"] / "eval_results" / "leaderboard_row.json").read_text())[0]
    assert f"{row['Retain metric']:.2f}" in readme.split("## Results")[1]


def test_a_whole_model_goes_out_as_it_is(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    files = sent(
        monkeypatch, FakeHub(public=True), model_path=str(runs["base"]), repo="me/full", export=str(tmp_path / "out")
    )
    assert (
        files.keys() == WHOLE | PROCESSOR
        and files["model.safetensors"] == (runs["base"] / "model.safetensors").read_bytes()
    )
    facts = front_matter(files["README.md"])
    assert facts["base_model"] == "llava-hf/llava-1.5-7b-hf" and facts["base_model_relation"] == "finetune"
    assert "license" not in facts and facts["library_name"] == "transformers"
    assert (
        "Not evaluated before" in files["README.md"].decode()
        and "finetuned on `full+tofu`" in files["README.md"].decode()
    )
    assert not any(str(runs["root"]).encode() in content for content in files.values())


@pytest.mark.parametrize(("precision", "dtype", "tolerance"), [("auto", "float32", 1e-4), ("bf16", "bfloat16", 0.2)])
def test_a_merged_export_has_the_adapters_logits(
    runs: Any, tmp_path: Path, precision: str, dtype: str, tolerance: float
) -> None:
    """Against PEFT's own unmerged forward; the base alone is far from both."""
    from peft import PeftModel

    chosen = PublishSettings(
        model_path=str(runs["adapter"]), merge=True, precision=precision, export=str(tmp_path / "merged")
    )
    folder, _ = publish(chosen)
    assert {file.name for file in folder.iterdir()} == WHOLE | PROCESSOR
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    expected = logits(PeftModel.from_pretrained(load_model(str(runs["base"])), str(runs["adapter"])))
    torch.testing.assert_close(logits(load_model(str(folder))), expected, atol=tolerance, rtol=tolerance)
    assert (logits(load_model(str(runs["base"]))) - expected).abs().max() > 0.5
    assert "The base model still knows" not in (folder / "README.md").read_text()
    assert pipeline.load_collator(Start.of(str(folder)), Family("llava", "x"), 64).encode_answer("x")


def test_an_earlier_export_is_replaced_and_anything_else_is_not(runs: Any, tmp_path: Path) -> None:
    settings = PublishSettings(model_path=str(runs["adapter"]), merge=True, export=str(tmp_path / "out"))
    publish(settings)
    publish(dataclasses.replace(settings, merge=False, base="me/full"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == ADAPTER | PROCESSOR
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for folder in (tmp_path / "mine", runs["base"], runs["adapter"]):
        with pytest.raises(ValueError, match="holds something else than an earlier export"):
            publish(dataclasses.replace(settings, export=str(folder)))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x" and (runs["base"] / "model.safetensors").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({}, r"adapter in .* was trained on .*/base, a folder that nobody else has.*base=user/name.*merge=true"),
    ({"base": "models/llava/ft_full"}, "base='models/llava/ft_full' is no hub id"),
    ({"base": "me/full", "repo": "not an id"}, "repo='not an id' is no hub id"),
    ({"base": "me/full", "repo": "one"}, "repo='one' is no hub id"),
    ({"base": "me/full", "precision": "bf16"}, "precision=bf16 is that of a merged model"),
    ({"model_path": "base", "merge": True}, "merge=true, but .* is a whole model already"),
    ({"model_path": "pretrained"}, "has no run.json"),
    ({"model_path": "nothing"}, "does not exist"),
])  # fmt: skip
def test_what_cannot_be_published_is_refused_and_leaves_nothing(
    runs: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    chosen = {"model_path": "adapter", **changes}
    chosen |= {"model_path": str(runs["root"] / chosen["model_path"]), "export": str(tmp_path / "out")}
    with pytest.raises(ValueError, match=message):
        publish(PublishSettings(**chosen))
    assert not list(tmp_path.iterdir())


def test_unfinished_or_unsaved_runs_are_refused(runs: Any, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(runs["adapter"], tmp_path / "copy"))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        publish(PublishSettings(model_path=str(folder), merge=True))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    with pytest.raises(ValueError, match="unfinished run"):
        publish(PublishSettings(model_path=str(folder), merge=True))


def test_a_file_that_names_a_folder_of_this_machine_is_never_sent(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("unlearn.publish.export.model_card", lambda card: f"made in {runs['root']}")
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    with pytest.raises(ValueError, match=r"README.md would tell the world about"):
        publish(
            PublishSettings(model_path=str(runs["adapter"]), base="me/full", repo="me/x", export=str(tmp_path / "out"))
        )
    assert not hub.calls and not list(tmp_path.iterdir())


def test_private_is_kept_and_a_refusal_shows_no_token(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    settings = PublishSettings(model_path=str(runs["base"]), repo="me/full", private=True, export=str(tmp_path / "out"))
    hub = FakeHub(public=True)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    with pytest.raises(ValueError, match="repo=me/full is public already"):
        publish(settings)
    assert [call[0] for call in hub.calls] == ["create_repo"]
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    response = httpx.Response(401, request=httpx.Request("POST", "https://hub"))
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub(error=HfHubHTTPError("401", response=response)))
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="did not accept the upload. Log in") as error:
        publish(settings)
    assert "hf_secret" not in caplog.text + str(error.value) + "".join(
        f.read_text() for f in (tmp_path / "out").glob("*.json")
    )


def test_every_key_is_in_the_config() -> None:
    config = yaml.safe_load((ROOT / "config" / "publish.yaml").read_text())
    assert {field.name for field in dataclasses.fields(PublishSettings)} == config.keys() - {"defaults", "hydra"}


# ---- from the hub -------------------------------------------------------------------------------------------------


def test_models_are_pulled_by_id_and_revision(runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base by id, its adapter by id, both pinned; unlearning one of them again, and evaluating the result."""
    cache = tmp_path / "cache"
    fake_hub(monkeypatch, cache)
    monkeypatch.chdir(tmp_path)
    add_to_hub(cache, "me/full", runs["base"])
    add_to_hub(cache, "me/full", runs["root"] / "pretrained", "v0")
    out, _ = publish(PublishSettings(model_path=str(runs["adapter"]), base="me/full", export="exported"))
    snapshot = add_to_hub(cache, "me/npo", out)
    other, _ = publish(PublishSettings(model_path=str(runs["adapter"]), base="me/full@v0", export="other"))
    add_to_hub(cache, "me/npo", other, "old")

    assert (
        resolve_path("me/full") == "me/full"
        and resolve_path("me/npo") == str(snapshot)
        and is_adapter(resolve_path("me/npo"))
    )
    local = {name: logits(load_model(str(runs[name]))) for name in ("base", "adapter")}
    torch.testing.assert_close(logits(load_model("me/full")), local["base"])
    torch.testing.assert_close(logits(load_model("me/npo")), local["adapter"])
    torch.testing.assert_close(logits(load_model("me/full@v0")), logits(load_model(str(runs["root"] / "pretrained"))))
    assert (
        logits(load_model("me/npo@old")) - local["adapter"]
    ).abs().max() > 0.1  # the same matrices on the model before
    assert Start.of("me/npo").layers == Start.of("me/full@v0").layers == 2
    assert pipeline.load_collator(Start.of("me/npo"), Family("llava", "x"), 64).encode_answer("x")
    about = pipeline.describe_run(EvalSettings(model_path="me/npo"), resolve_path("me/npo"))
    assert (about["method"], about["forget_split"], about["seed"]) == ("npo", "forget10+tofu", 42)
    again = forget("me/full@v0", tmp_path / "again")
    assert json.loads((again / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/full@v0"
    assert (logits(load_model(str(again))) - logits(load_model("me/full@v0"))).abs().max() > 0.01
    folder, _ = publish(
        PublishSettings(model_path=str(again), export="final")
    )  # its base is on the hub: no base= needed
    assert "revision='v0'" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match="me/full@v9 is not in the local cache, and the hub is out of reach"):
        resolve_path("me/full@v9")


def test_unlearning_an_adapter_again_keeps_the_first(runs: Any, tmp_path: Path) -> None:
    """The second adapter was trained on the first one's merged model; on the base alone it would be another model."""
    from peft import PeftModel

    second = forget(runs["adapter"], tmp_path / "second")
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == str(runs["adapter"])
    expected = logits(PeftModel.from_pretrained(load_model(str(runs["adapter"])), str(second)))
    torch.testing.assert_close(logits(load_model(str(second))), expected, atol=1e-4, rtol=1e-4)
    wrong = logits(PeftModel.from_pretrained(load_model(str(runs["base"])), str(second)))
    assert (wrong - expected).abs().max() > 0.1 and Start.of(str(second)).layers == 2
