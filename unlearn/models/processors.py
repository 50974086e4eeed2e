"""One way to get the processor (or tokenizer) that belongs to a checkpoint, on machines with and without torchvision.

Video processors need torchvision, and the official classes of the Qwen families, InternVL, LLaVA-OneVision and SmolVLM
insist on one. The pipeline shows single pictures only, so an image-only form of the class stands in there
(compat.image_only).
"""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unlearn.models import compat
from unlearn.models.vision import TEMPLATES, complete_processor, vision_class

QWEN_CLASSES = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}


def load_processor(path: str | Path, config: Any = None, **hub: Any) -> Any:
    """The processor of the vision-language checkpoint at `path`, or the tokenizer of a text-only one.

    `path` is a local folder or a hub id; `hub` takes `revision` and `cache_dir`. `config` is the model's, where `path`
    is another folder than the model's; a folder of LoRA adapters has none, and the class named in its files decides.
    Padding side and chat template stay as saved.

    Raises:
        ValueError: a local-looking path that does not exist or holds neither a model nor a processor nor a tokenizer;
            a model whose pictures this project cannot read; a processor that this machine cannot build.
    """
    source = str(path)
    if not Path(source).is_dir() and (Path(source).is_absolute() or source.startswith(".") or source.count("/") > 1):
        raise ValueError(f"No model folder at {source!r}: give a folder that holds a saved processor, or a hub id.")
    config = config if config is not None else _config(source, **hub)
    # without a config only a processor's own files count: tokenizers of language models name a processor, too
    files = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
    saved = _saved_class(source, files if config is not None else files[:2], **hub)
    if config is None:
        multimodal = saved is not None
    else:
        multimodal = vision_class(config) is not None
        saved = saved or compat.processor_class_name(config.model_type)
    if not multimodal:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **hub)
    if saved is None:
        raise ValueError(f"{source!r}: no file names its processor class, and transformers lists none for its type.")
    processor = _load(saved, source, trust_remote_code=False, **hub)
    if config is not None:
        complete_processor(processor, config)
    if (
        getattr(processor, "chat_template", None) is None
        and getattr(processor.tokenizer, "chat_template", None) is None
    ):
        processor.chat_template = TEMPLATES.get(saved)
    return processor


def _load(name: str, source: str, **hub: Any) -> Any:
    """The processor `name` of `source`; its image-only form where no video processor can be built."""
    import transformers

    official = getattr(transformers, name, None)
    if official is None:
        raise ValueError(
            f"{source!r} names a processor class {name}, which this transformers does not have; update it."
        )
    try:
        if "video_processor" in official.get_attributes() and not (
            torchvision_present() and _has_video_processor(source)
        ):
            official = compat.image_only(official)
        return official.from_pretrained(source, **hub)
    except ImportError as error:  # of torchvision (Pixtral, Llama 4) or num2words (SmolVLM)
        raise ValueError(
            f"the processor {name} of {source!r} needs a package that is missing ({' '.join(str(error).split())[:160]})"
        ) from error


def torchvision_present() -> bool:
    """Whether the official processors that build a video processor can be used on this machine."""
    return importlib.util.find_spec("torchvision") is not None


def qwen_processor_class(model_type: str, image_only: bool | None = None) -> Any:
    """The processor class of a Qwen-VL model type: the official one, or without torchvision its image-only form.

    `image_only=True` asks for that form anyway: it is the only one that reads folders without a video processor.
    Raises ValueError for another model type.
    """
    if model_type not in QWEN_CLASSES:
        raise ValueError(f"No Qwen processor for model type {model_type!r}; known: {', '.join(QWEN_CLASSES)}.")
    import transformers

    official = getattr(transformers, QWEN_CLASSES[model_type])
    return compat.image_only(official) if image_only or not torchvision_present() else official


def _config(source: str, **hub: Any) -> Any:
    """The config of a folder or hub id; None where a local folder has none."""
    folder = Path(source)
    if not folder.is_dir() or (folder / "config.json").is_file():
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
    if not any((folder / name).is_file() for name in ("processor_config.json", "tokenizer_config.json")):
        raise ValueError(
            f"{source!r} holds no config.json, processor_config.json or tokenizer_config.json: not a saved model."
        )
    return None


def _saved_class(source: str, files: Sequence[str], **hub: Any) -> str | None:
    """The processor class that one of the `files` of a folder or hub id names, None if none does."""
    from transformers.utils import cached_file

    for name in files:
        file = cached_file(source, name, _raise_exceptions_for_missing_entries=False,
                           _raise_exceptions_for_connection_errors=False, **hub)  # fmt: skip
        if file is not None and (saved := json.loads(Path(file).read_text(encoding="utf-8")).get("processor_class")):
            return str(saved)
    return None


def _has_video_processor(source: str) -> bool:
    """Whether a local folder can feed the official class; a hub repository is taken at its word."""
    folder = Path(source)
    if not folder.is_dir() or (folder / "video_preprocessor_config.json").is_file():
        return True
    file = folder / "processor_config.json"
    if file.is_file():
        return "video_processor" in json.loads(file.read_text(encoding="utf-8"))
    return (folder / "preprocessor_config.json").is_file()  # before 2025 one file served images and videos
