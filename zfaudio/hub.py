"""Models on the Hugging Face hub, through huggingface_hub: their names, downloads into its cache, and uploads.

huggingface_hub finds the user's token, the cache and the hub itself (HF_TOKEN, HF_HOME, HF_ENDPOINT). What it raises
becomes one line for the user.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.text import printable

PREFIX = "hub:"
NAME = re.compile(r"(?!.*\.\.)(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*(?:/\w[\w.-]*)*))?", re.ASCII)

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class HubModel:
    """A model on the hub."""

    repository: str  # user/name
    revision: str | None = None  # a branch, a tag or a commit; None for the main branch

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def on_hub(name: str | Path) -> bool:
    """Whether a name means a model on the hub: hub:user/name. All others are local."""
    return str(name).startswith(PREFIX)


def may_be_on_hub(name: str) -> bool:
    """Whether a name without hub: before it has the form of a model's name: user/name or user/name@revision."""
    return NAME.fullmatch(name) is not None


def parse_hub_name(name: str) -> HubModel:
    """The model that a name means: user/name or user/name@revision, with or without hub: before it.

    Raises:
        UserError: it is no such name.
    """
    match = NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise UserError(f"{name}: not the name of a model on the hub, which is user/name or user/name@revision")
    return HubModel(match[1], match[2])


def download(model: HubModel, files: Iterable[str]) -> Path:
    """Download files of a model, all of one commit, unless they are in the cache. No other file is downloaded.

    Without a network, or with HF_HUB_OFFLINE, the files that the cache has are taken.

    Returns:
        The folder with those of the files that the model has.

    Raises:
        UserError: there is no such model or revision, access is denied, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with explained(model):
        folder = snapshot_download(model.repository, revision=model.revision, allow_patterns=list(files))
    return Path(folder)


def upload(model: HubModel, files: Mapping[str, Path | bytes], message: str, private: bool = False) -> str:
    """Put files into a model on the hub, in one commit. The model and the branch are made if they are not there.

    Args:
        model: where to; its revision is a branch.
        files: path of a file, or its content, by its name in the model.
        message: message of the commit.
        private: whether only its owner may see the model.

    Returns:
        The address of the model's page.

    Raises:
        UserError: there is no token, it may not write there, or the hub cannot be reached; or the model should be
            private, and is there in public already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise UserError(f"{model}: to push, {LOG_IN} to a token that may write")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    api = HfApi()
    with explained(model):
        page = api.create_repo(model.repository, private=private or None, exist_ok=True)
        if private and not api.model_info(model.repository).private:
            raise UserError(f"{model}: already on the hub, and public; make it private on {page}/settings first")
        if model.revision is not None:
            api.create_branch(model.repository, branch=model.revision, exist_ok=True)
        api.create_commit(model.repository, operations, commit_message=message, revision=model.revision)
    return str(page)


def file_address(model: HubModel, file: str) -> str:
    """The address of a file of a model."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(model.repository, file, revision=model.revision)


@contextmanager
def explained(model: HubModel) -> Iterator[None]:
    """Turn what goes wrong in the block into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of the hub, of the network below it, or of the disk: they have no common class
        raise UserError(f"{model}: {_explain(model, error)}") from None


def _explain(model: HubModel, error: Exception) -> str:
    """What went wrong, and what to do about it."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        return f"its owner gives access on request; ask for it on {hub}/{model.repository}, and {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"there is such a model on the hub, but without a revision {model.revision or 'main'}"
    if isinstance(error, errors.RepositoryNotFoundError) and status == 404:
        return f"{hub} has no such model, or none that you may see; see whether its name is right, and the token"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such model on {hub}, or a private one; to see your own, {LOG_IN}"
    if status == 401:
        return f"{hub} does not know your token; {LOG_IN} to another one"
    if status == 403:
        return f"your token may not do this; {LOG_IN} to one that may write to {model.repository.split('/')[0]}"
    if isinstance(error, errors.IncompleteSnapshotError):
        return f"the cache has only a part of it, and {hub} cannot be reached; load it again with a network"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if constants.is_offline_mode():
            return "not in the cache, and HF_HUB_OFFLINE is set; unset it, to ask the hub"
        return f"not in the cache, and {hub} cannot be reached; try again with a network"
    return f"{hub}: {printable(' '.join(str(error).split()))[:200] or type(error).__name__}"
