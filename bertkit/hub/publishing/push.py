"""From a checkpoint's folder to a repository on the Hub, in one commit that is there whole or not at all."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.config import ConfigError
from bertkit.hub.checkpoints import local_checkpoint
from bertkit.hub.publishing.published_files import WEIGHTS, belongs_to_checkpoint, published_files
from bertkit.training.manifest import FILE_NAME as MANIFEST
from bertkit.training.manifest import find_damage

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def push(
    checkpoint: str | Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Put a checkpoint into a repository, which is made where there is none.

    What of an interrupted upload arrived is not sent again by the next one.

    Args:
        checkpoint: its folder.
        name: of the repository, as owner/name, or as name alone for one of the token's owner.
        private: whether the repository shall be private; None makes a private one, and leaves one that is there as it is.
        revision: the branch, made where there is none; None for main.
        message: of the commit.
        say: told what was done.

    Raises:
        ConfigError: whatever is wrong with the folder, the name, the token, its rights or the connection, as one line.
    """
    folder = local_checkpoint(checkpoint)
    if (folder / MANIFEST).is_file() and (damage := find_damage(folder, ending=WEIGHTS)):
        raise ConfigError(f"{folder} is damaged: {damage}; push another checkpoint")
    published_files(folder, name=name)  # what cannot be published is known before anything is made
    with _one_line(name):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api = _api()
        name = open_repository(name, private=private, say=say)
        files, others = published_files(folder, name=name)
        if revision not in (None, MAIN):
            api.create_branch(name, branch=revision, exist_ok=True)
        present = {entry.path for entry in api.list_repo_tree(name, recursive=True, revision=revision)}
        # What stayed from another checkpoint would be loaded with this one, or in its place.
        stale = [place for place in present - set(files) if belongs_to_checkpoint(place)]
        api.create_commit(
            name,
            [
                *(CommitOperationAdd(place, _as_given(content)) for place, content in files.items()),
                *(CommitOperationDelete(place) for place in sorted(stale)),
            ],
            commit_message=message or f"{folder.resolve().name}, by bertkit",
            revision=revision,
        )
    size = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in files.values())
    left_out = f", without {', '.join(others)}" if others else ""
    say(f"{len(files)} files, {size / 1e6:.1f} MB, are at {api.endpoint}/{name}, revision {revision or MAIN}{left_out}")


def check_access(name: str, *, private: bool | None = None, say: Callable[[str], None] = print) -> str:
    """Make sure that a checkpoint can be pushed, before hours go into it; the repository is there afterwards.

    Args:
        name: as `push` takes it.
        private: as `push` takes it.
        say: told what was done.

    Returns:
        The name with its owner.

    Raises:
        ConfigError: as `push`.
    """
    with _one_line(name):
        return open_repository(name, private=private, say=say)


def open_repository(name: str, *, private: bool | None, say: Callable[[str], None]) -> str:
    """Make sure of token, name and rights, and make the repository if there is none; the client's errors pass through.

    Args:
        name: as `push` takes it.
        private: as `push` takes it.
        say: told what was done.

    Returns:
        The name with its owner.
    """
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(name)
    api = _api()
    owner = api.whoami()["name"]
    name = name if "/" in name else f"{owner}/{name}"
    try:
        is_private = api.model_info(name).private
    except RepositoryNotFoundError:
        try:
            api.create_repo(name, private=private is not False)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            raise ConfigError(
                f"the name {name} is taken by a repository that this token cannot read; give another name, or a token that can"
            ) from error
        say(f"made the {'public' if private is False else 'private'} repository {name}")
        return name
    api.auth_check(name, write=True)
    if private is not None and private != is_private:
        api.update_repo_settings(name, private=private)
        say(f"the repository {name} is {'private' if private else 'public'} now")
    return name


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="bertkit")


def _as_given(content: Path | bytes) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what the Hub and its client say into one line that says what would do; the client itself is quiet meanwhile."""
    from huggingface_hub import errors
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # else it tells of every attempt
    try:
        yield
    except ConfigError:
        raise
    except errors.LocalTokenNotFoundError as error:
        raise ConfigError(f"there is no token of the Hub; {_LOGIN}") from error
    except errors.OfflineModeIsEnabled as error:
        raise ConfigError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"{name!r} is no name of a repository; give name or owner/name: {_flat(error)}") from error
    except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(_reason(error, name)) from error
    finally:
        logging.set_verbosity(verbosity)


def _reason(error: Exception, name: str) -> str:
    """Say why the Hub did not do what it was asked."""
    from huggingface_hub import constants, errors

    goes_on = "the same command goes on with what has not arrived"
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # of one file of several
        return f"{_flat(error).rstrip('.')}: {_reason(error.__cause__, name)}"
    if isinstance(error, errors.HfHubHTTPError):
        status, said = error.response.status_code, error.server_message or error.response.reason_phrase
        if status == 401:
            return f"the Hub does not accept the token; {_LOGIN} to one that is valid"
        if status == 403:
            return f"the token may not write to {name}: {_flat(said)}; give one that may, or a name of your own"
        return f"the Hub answers {status} for {name}: {_flat(said)}; {goes_on}"
    if isinstance(error, errors.HTTPError):
        return f"the Hub at {constants.ENDPOINT} cannot be reached: {_flat(error)}; {goes_on}"
    if isinstance(error, RuntimeError):  # another thread of the client has given up before
        return f"the connection to the Hub at {constants.ENDPOINT} was lost: {_flat(error)}; {goes_on}"
    return f"{name} was not pushed: {_flat(error)}"


def _flat(message: object) -> str:
    return " ".join(str(message).split())
