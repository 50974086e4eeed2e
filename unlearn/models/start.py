"""The model that a run starts from, or that is evaluated: looked up once, and passed on as a `Start`."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.atomic import content_hash
from unlearn.contents import Digests
from unlearn.models.hub import MODEL_FILES, commit_of, pulled, split_revision
from unlearn.models.vision import check_kind

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")  # of a whole model
PROCESSOR = ("*token*.json", "*processor*.json", "*.jinja", "chat_template*", "vocab*", "merges.txt", "*.model")
UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".gguf", ".h5", ".msgpack")


@dataclass(frozen=True)
class Start:
    """A model by what a user calls it.

    Attributes:
        name: as it was given.
        chain: the folders or hub ids that the loaders take: adapters, the outermost first, and the whole model below.
        model_type: as in config.json, e.g. "llava"; layers: decoder blocks of its language model.
        dtype: the precision that its weights are stored in, e.g. "bfloat16"; None where its config does not say.
        config: transformers' config of the whole model.
    """

    name: str
    chain: tuple[str, ...]
    model_type: str
    layers: int
    dtype: str | None
    config: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, name: str) -> "Start":
        """Follows `name` (a folder, an adapter's folder, a hub id) down to the whole model and reads that one's config.

        Raises:
            ValueError: no such model; an adapter of a model that is missing, or of itself; a config that cannot be
                read; a model that cannot run here, of an unsupported kind or with a recurrent state.
        """
        chain = adapters_and_base(name)
        config = _config(chain[-1])
        check_kind(config, chain[-1])
        dtype = getattr(config, "dtype", None)
        return cls(
            name,
            chain,
            str(config.model_type),
            int(config.get_text_config().num_hidden_layers),
            None if dtype is None else str(dtype).removeprefix("torch."),
            config,
        )

    @property
    def path(self) -> str:
        return self.chain[0]

    @property
    def base(self) -> str:
        """The whole model at the bottom."""
        return self.chain[-1]

    @property
    def adapter(self) -> bool:
        return len(self.chain) > 1

    @property
    def processor(self) -> str:
        """Where its processor is: an adapter that was saved without one uses that of the model below."""
        return processor_of(self.chain)

    def check(self) -> None:
        """ValueError for weights that are not there, not in safetensors or copied in part, in any folder of the
        chain."""
        for path in self.chain:
            check_weights(path)

    def weights(self, digests: Digests) -> str:
        """A digest of all weights, with what says how they are used (configs); of a hub model, its commit."""
        return content_hash(*(_weights_digest(path, digests) for path in self.chain))


def resolve_path(path: str) -> str:
    """A folder given relative to the working directory or to the project; a hub id passes through, that of an adapter
    or of a pinned revision (`user/name@v1`) as its snapshot in the hub's cache.

    Raises ValueError for what can be neither: an absolute or deeper path that does not exist.
    """
    if (folder := local_folder(path)) is not None:
        return folder
    if split_revision(path)[0].count("/") > 1 or path.startswith((".", "/", "models/", "minibench/")) or not path:
        raise ValueError(
            f"model_path={path!r} does not exist. Run the step that makes it (mm/finetune.py writes "
            "models/<family>/ft_<split>), or give a folder or a hub id such as llava-hf/llava-1.5-7b-hf."
        )
    return pulled(path)


def local_folder(path: str) -> str | None:
    """The folder that `path` means, in the working directory or the project, or None."""
    for candidate in (Path(path), ROOT / path):
        made = any(
            (candidate / name).is_file() for name in MODEL_FILES
        )  # results of a hub model lie in a folder of its name
        if path and candidate.is_dir() and (made or path.count("/") != 1):
            return str(candidate)
    return None


def is_adapter(path: str) -> bool:
    return (Path(path) / ADAPTER_CONFIG).is_file()


def adapter_base(path: str) -> str:
    """The model that an adapter folder was trained on. ValueError if that model is not there."""
    file = Path(path) / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, revision = config["base_model_name_or_path"] or "", config.get("revision")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({type(error).__name__}: {error}); copy it or train the adapter again."
        ) from None
    try:
        return resolve_path(f"{base}@{revision}" if revision and local_folder(base) is None else base)
    except ValueError as error:
        raise ValueError(f"{path} is an adapter of a model that is missing: {error}") from None


def adapters_and_base(name: str) -> tuple[str, ...]:
    """The chain of `Start`: `name` resolved, and while that is an adapter, the model it was trained on."""
    chain = [resolve_path(name)]
    while is_adapter(chain[-1]):
        base = adapter_base(chain[-1])
        if Path(base).resolve() in {Path(path).resolve() for path in chain}:
            raise ValueError(
                f"{chain[-1]} is an adapter of {base}, which is {'itself' if len(chain) == 1 else 'an adapter of it'}; "
                f"correct base_model_name_or_path in its {ADAPTER_CONFIG}."
            )
        chain.append(base)
    return tuple(chain)


def processor_of(chain: tuple[str, ...]) -> str:
    """Where the processor of a model is, or of a folder that holds only a processor."""
    return next((path for path in chain[:-1] if (Path(path) / "tokenizer_config.json").is_file()), chain[-1])


def processor_digest(path: str, digests: Digests) -> str:
    """A digest of the files that a processor or tokenizer is read from; of one on the hub, its commit."""
    return _digest(path, lambda folder: digests.of({file for name in PROCESSOR for file in folder.glob(name)}))


def check_weights(path: str) -> None:
    """ValueError for a folder without weights in safetensors, or with a file copied in part, by its header; a hub id
    is taken at its word."""
    from safetensors import SafetensorError, safe_open

    folder = Path(path)
    if not folder.is_dir():
        return
    files = weight_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no weights ({_other_form(folder)}")
    if not is_adapter(path) and (index := folder / WEIGHTS[2]).is_file() and not (folder / WEIGHTS[0]).is_file():
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if absent := sorted(parts - {file.name for file in files}):
            raise ValueError(f"{folder} lacks {', '.join(absent)} of its weights; copy or make them again.")
    for file in files:
        try:
            safe_open(file, framework="pt").__exit__(None, None, None)
        except (SafetensorError, OSError) as error:
            what = f"The adapter {folder}" if is_adapter(path) else f"The weights in {file}"
            raise ValueError(f"{what} cannot be read ({first_line(error)}); copy or make it again.") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that a loader reads from a model's or adapter's folder; whatever else lies there is not the
    model's."""
    names = (ADAPTER_WEIGHTS,) if is_adapter(str(folder)) else WEIGHTS[:2]
    return sorted(file for name in names for file in folder.glob(name))


def _other_form(folder: Path) -> str:
    """What to say of a folder without safetensors: the form its weights have, and the way out."""
    wanted = ADAPTER_WEIGHTS if is_adapter(str(folder)) else "*.safetensors"
    found = sorted(file.name for file in folder.iterdir() if file.suffix in UNSAFE)
    if not found:
        return f"{wanted}); copy or make the model again, or use another model_path."
    kind = (
        "GGUF is quantised for other programs"
        if found[0].endswith(".gguf")
        else "a pickle can run code when it is read"
    )
    return (
        f"{wanted}), only {', '.join(found[:3])}. Weights are read from safetensors alone: {kind}. Convert them where "
        "you trust their source (load and save_pretrained), or take a copy of the model that has safetensors."
    )


def _weights_digest(path: str, digests: Digests) -> str:
    def files(folder: Path) -> str:
        if is_adapter(path):  # whatever its base is called on this machine
            config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
            kept = {key: value for key, value in config.items() if key not in ("base_model_name_or_path", "revision")}
            return content_hash(json.dumps(kept, sort_keys=True), digests.of(weight_files(folder)))
        found = [file for name in (*WEIGHTS, "config.json") for file in folder.glob(name)]
        return digests.of(found)

    return _digest(path, files)


def _digest(path: str, of_folder: Callable[[Path], str]) -> str:
    commit = commit_of(path)
    return f"commit {commit}" if commit else of_folder(Path(path))


def _config(path: str) -> Any:
    """config.json of the whole model under `path`, or on the hub. ValueError where it cannot be read."""
    from transformers import AutoConfig

    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path} holds no config.json: not a saved model.")
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        code = "trust_remote_code" in str(error)
        why = "the model brings code of its own, which is never run here" if code else first_line(error)
        raise ValueError(f"The config of {path} cannot be read ({why}); correct {path}/config.json, or use another "
                         "model_path.") from error  # fmt: skip


def first_line(error: BaseException) -> str:
    """Of torch's list of every tensor that does not fit, the first; of any other error its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next(
        (line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__
    ).rstrip(".")
