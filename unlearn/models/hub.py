"""To and from the hub: a model by its id (and revision), a folder under one.

Only what a model needs is fetched: weights in safetensors, configs, tokenizer files, templates; never code, never
    pickles.
"""

from pathlib import Path

from unlearn import ROOT

FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
# What an earlier upload of another form (adapter, whole model) may have left: beside the new files it would be loaded
# too.
REPLACED = ["adapter_config.json", "adapter_model.safetensors", "config.json", "model*.safetensors",
            "model.safetensors.index.json"]  # fmt: skip
MODEL_FILES = ("config.json", "adapter_config.json", "tokenizer_config.json")  # one of these makes a folder a model's


def split_revision(path: str) -> tuple[str, str | None]:
    """("user/name", "v1") of "user/name@v1"; the revision is a branch, a tag or a commit, None where there is none."""
    name, _, revision = path.partition("@")
    return name, revision or None


def is_hub_id(path: str) -> bool:
    """Whether `path` is written like "user/name" or "user/name@revision" and is no model of this project or machine."""
    name, _ = split_revision(path)
    parts = name.split("/")
    own = parts[0] in ("", ".", "..", "~", "models", "data", "minibench")
    here = any((folder / name / file).is_file() for folder in (Path(), ROOT) for file in MODEL_FILES)
    return len(parts) == 2 and not own and all(parts) and not here


def pulled(path: str) -> str:
    """A hub id as the loaders take it: the id of a whole model as it is; an adapter, or a pinned revision, as the
    folder of its snapshot in the local cache, fetched first where it is not there.

    Raises:
        ValueError: no such model or revision, no access to it, or neither in the cache nor within reach.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = split_revision(path)
    try:
        if revision is None:
            try:
                hf_hub_download(name, "adapter_config.json")
            except (EntryNotFoundError, LocalEntryNotFoundError):
                return path  # a whole model, or out of reach: its own loader says what is missing
        return snapshot_download(name, revision=revision, allow_patterns=FETCHED, ignore_patterns=["*/*"])
    except GatedRepoError as error:
        raise ValueError(
            f"model_path={path}: accept the model's terms on its page, and log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"model_path={path}: the model has no revision {revision!r}; check its branches and tags."
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"model_path={path} is neither a folder nor a model on the hub; correct it, or, if it is private, log "
            "in with `hf auth login`."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"model_path={path} is not in the local cache, and the hub is out of reach ({error})."
        ) from error
    except HFValidationError as error:
        raise ValueError(f"model_path={path} is neither a folder nor a hub id ({error}).") from error


def commit_of(path: str, kind: str = "model") -> str | None:
    """The commit of a hub id (the one that the local cache has for its branch or tag) or of a snapshot's folder; None
    for any other folder, or where nothing is cached."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(path)
    if folder.is_dir():
        snapshot = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith(f"{kind}s--")
        return folder.name if snapshot else None
    name, revision = split_revision(path)
    place = Path(HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    if revision and (place / "snapshots" / revision).is_dir():
        return revision
    ref = place / "refs" / (revision or "main")
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None


def check_repo(repo: str) -> None:
    """ValueError unless `repo` can be the id of a model on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(f"repo={repo!r} is no hub id ({error}); write user/name.") from None
    if repo.count("/") != 1:
        raise ValueError(f"repo={repo!r} is no hub id; write user/name.")


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Uploads a folder as one commit to the model `repo`, made first if it is not there; returns its address.

    The login is huggingface_hub's own (`hf auth login` or HF_TOKEN); it is never read, shown or stored here.

    Raises:
        ValueError: not logged in, no right to write, or `private` and the model is public already.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(
            repo, private=private, exist_ok=True, repo_type="model"
        )  # of an existing one it changes nothing
        if private and not api.model_info(repo).private:
            raise ValueError(
                f"repo={repo} is public already; make it private on its page, choose another, or set private=false."
            )
        done = api.upload_folder(
            repo_id=repo, folder_path=str(folder), repo_type="model", commit_message=message, delete_patterns=REPLACED
        )
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, LocalTokenNotFoundError) or status in (401, 403):
            raise ValueError(
                f"repo={repo}: the hub did not accept the upload. Log in with `hf auth login`, as a user who may "
                "write to it."
            ) from error
        raise
    return str(done.commit_url)
