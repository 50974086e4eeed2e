"""One way to get the processor (or tokenizer) that belongs to a checkpoint, on machines with and without torchvision.

`AutoProcessor` cannot serve Qwen2-VL without torchvision: the stock class insists on a video processor, which needs it.
The pipeline shows single images only, so an image-only subclass stands in there. It keeps the official class name, so
what it saves reads like any other Qwen folder.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

QWEN_CLASSES = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}


def load_processor(path: str | Path, **hub: Any) -> Any:
    """The processor of the vision-language checkpoint at `path`, or the tokenizer of a text-only one.

    `path` is a local folder or a hub id; `hub` takes `revision` and `cache_dir`. A folder of LoRA adapters has no
    config.json; the class named in its processor_config.json decides then. Padding side and chat template stay as
    saved.

    Raises ValueError if a local-looking path does not exist or holds neither a model nor a processor nor a tokenizer.
    """
    source = str(path)
    if not Path(source).is_dir() and (Path(source).is_absolute() or source.startswith(".") or source.count("/") > 1):
        raise ValueError(f"No model folder at {source!r}: give a folder that holds a saved processor, or a hub id.")
    model_type = _model_type(source, **hub)
    if model_type == "llava":
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(source, trust_remote_code=False, **hub)
    if model_type in QWEN_CLASSES:
        return qwen_processor_class(model_type, image_only=not _has_video_processor(source)).from_pretrained(
            source, trust_remote_code=False, **hub
        )
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **hub)


def torchvision_present() -> bool:
    """Whether the official Qwen processors, which build a video processor, can be used on this machine."""
    return importlib.util.find_spec("torchvision") is not None


def qwen_processor_class(model_type: str, image_only: bool | None = None) -> Any:
    """The processor class of `qwen2_vl` or `qwen2_5_vl`: the official one, or without torchvision its image-only form.

    `image_only=True` asks for that form anyway: it is the only one that reads folders without a video processor.
    Raises ValueError for another model type.
    """
    if model_type not in QWEN_CLASSES:
        raise ValueError(f"No Qwen processor for model type {model_type!r}; known: {', '.join(QWEN_CLASSES)}.")
    import transformers

    official = getattr(transformers, QWEN_CLASSES[model_type])
    return _image_only(official) if image_only or not torchvision_present() else official


@cache
def _image_only(official: Any) -> Any:
    """A subclass of `official` whose constructor has no `video_processor`, which is how transformers decides what to
    load."""
    from transformers import ProcessorMixin

    def __init__(self: Any, image_processor=None, tokenizer=None, chat_template=None, **kwargs):  # type: ignore[no-untyped-def]
        for kind in ("image", "video"):
            token = getattr(tokenizer, f"{kind}_token", None) or f"<|{kind}_pad|>"
            setattr(self, f"{kind}_token", token)
            setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(token))
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    return type(official.__name__, (official,), {"__init__": __init__, "__module__": official.__module__})


def _model_type(source: str, **hub: Any) -> str:
    """`model_type` of config.json (hub ids included); without one, what processor_config.json's class implies, else
    ""."""
    folder = Path(source)
    if not folder.is_dir() or (folder / "config.json").is_file():
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(source, trust_remote_code=False, **hub).model_type)
    if not any((folder / name).is_file() for name in ("processor_config.json", "tokenizer_config.json")):
        raise ValueError(
            f"{source!r} holds no config.json, processor_config.json or tokenizer_config.json: not a saved model."
        )
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            saved = json.loads((folder / name).read_text(encoding="utf-8")).get("processor_class", "")
            return {"LlavaProcessor": "llava"}.get(saved) or next(
                (k for k, v in QWEN_CLASSES.items() if v == saved), ""
            )
    return ""


def _has_video_processor(source: str) -> bool:
    """Whether a local folder can feed the official class; a hub repository is taken at its word."""
    folder = Path(source)
    if not folder.is_dir() or (folder / "video_preprocessor_config.json").is_file():
        return True
    file = folder / "processor_config.json"
    if file.is_file():
        return "video_processor" in json.loads(file.read_text(encoding="utf-8"))
    return (folder / "preprocessor_config.json").is_file()  # before 2025 one file served images and videos
