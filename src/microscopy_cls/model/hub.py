"""Weights files from the Hugging Face hub or a plain address: cached for ever, and quick to say why they do not come.

Downloads land where timm and torch put theirs, so a cache that either of them filled is used as it is.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import TypeVar, cast
from urllib.parse import urlsplit

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from microscopy_cls.errors import WeightsError
from microscopy_cls.system.files import atomic_path

constants.HF_HUB_DISABLE_TELEMETRY = True

Answer = TypeVar("Answer")

# The HTTP library differs with the version of huggingface_hub; the hub's own error names its base. RuntimeError comes
# from the hub's chunked storage.
_TRANSPORT_ERRORS = (OSError, RuntimeError, cast(type[Exception], HfHubHTTPError.__bases__[0]))
_WITHOUT_NETWORK = (
    "(2) give a local file or directory as model.weights; (3) start from random weights with model.weights: none."
)


def fetch_from_hub(repo_id: str, filenames: Sequence[str], revision: str | None = None) -> Path:
    """The first of `filenames` that a model repository has: from the cache without asking the hub, else downloaded.

    Raises:
        WeightsError: the hub does not answer, refuses, has none of the files, or the download breaks off.
    """
    try:
        cached = [try_to_load_from_cache(repo_id, name, revision=revision) for name in filenames]
    except HFValidationError:
        raise WeightsError(f"hf-hub:{repo_id}: should be hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION") from None
    for path in cached:
        if isinstance(path, str):
            return Path(path)
    if constants.HF_HUB_OFFLINE:
        raise _hub_unreachable(repo_id, "HF_HUB_OFFLINE is set, so the hub was not asked")
    for name in filenames:
        downloaded = _download(repo_id, name, revision)
        if downloaded:
            return downloaded
    raise WeightsError(
        f"{constants.ENDPOINT}/{repo_id} has no {' or '.join(filenames)} (404): check the spelling of OWNER/NAME, "
        f"and that {constants.ENDPOINT} is a hub"
    )


def fetch_url(url: str) -> Path:
    """A file from a plain address, kept in torch's cache of checkpoints.

    Raises:
        WeightsError: the server does not answer, refuses, or the transfer is cut short.
    """
    target = _torch_cache() / PurePosixPath(urlsplit(url).path).name
    if target.is_file():
        return target
    if constants.HF_HUB_OFFLINE:
        raise _url_unreachable(url, target, "HF_HUB_OFFLINE is set, so it was not asked for")
    try:
        with _promptly(lambda: urllib.request.urlopen(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)) as answer:  # noqa: S310
            expected = answer.headers.get("Content-Length")
            with atomic_path(target) as temporary:
                with temporary.open("wb") as handle:
                    shutil.copyfileobj(answer, handle)
                _check_length(url, temporary, expected)
    except urllib.error.HTTPError as error:
        error.close()  # it is the open answer as well
        raise WeightsError(f"{url}: the server answers {error.code} ({error.reason}). {_ways(url, target)}") from error
    except (OSError, HTTPException) as error:
        raise _url_unreachable(url, target, f"it cannot be fetched ({error})") from error
    return target


def cached_item(path: Path) -> Path:
    """What to delete so that a cached file is downloaded again: its repository's folder, or the file itself."""
    return next((folder for folder in path.parents if folder.name.startswith("models--")), path)


def _download(repo_id: str, filename: str, revision: str | None) -> Path | None:
    """One file of a repository, None if it is not there."""
    url = hf_hub_url(repo_id, filename, revision=revision)
    try:
        metadata = _promptly(lambda: get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT))
    except HfHubHTTPError as error:
        if error.response.status_code == 404 and not isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
            return None
        raise WeightsError(_refusal(repo_id, revision, error)) from error
    except _TRANSPORT_ERRORS as error:
        raise _hub_unreachable(repo_id, f"{constants.ENDPOINT} does not answer ({error})") from error
    if metadata.commit_hash is None or metadata.etag is None:
        raise _hub_unreachable(
            repo_id, f"what answers at {constants.ENDPOINT} is not a hub (a proxy, or the network's login page?)"
        )
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision))
    except _TRANSPORT_ERRORS as error:
        raise WeightsError(
            f"{repo_id}: the download of {filename} broke off ({error}). Nothing of it is used. Run the command again; "
            f"if it stays so, look at the network and at the free space in {constants.HF_HUB_CACHE}"
        ) from error


def _promptly(call: Callable[[], Answer]) -> Answer:
    """The result of a first request, within HF_HUB_ETAG_TIMEOUT seconds (10 unless the environment says else).

    Done in a thread because neither a name lookup nor the library's own retries keep to a request's time limit:
    without network they can take most of a minute.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001  raised again below, in the caller's thread
            errors.append(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(constants.HF_HUB_ETAG_TIMEOUT)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"nothing within {constants.HF_HUB_ETAG_TIMEOUT} s")
    return answers[0]


def _refusal(repo_id: str, revision: str | None, error: HfHubHTTPError) -> str:
    """What an HTTP status of the hub means and what to do about it."""
    page, status = f"{constants.ENDPOINT}/{repo_id}", error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"{page} is gated ({status}): accept its terms there, then log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{page} has no revision {revision or 'main'} ({status})"
    if isinstance(error, RepositoryNotFoundError) or (status == 401 and get_token() is None):
        return (
            f"{page} does not exist or is private ({status}): check the spelling of OWNER/NAME; "
            "for a private one log in with `hf auth login`"
        )
    if status == 401:
        return f"{page}: the hub does not accept your token (401): renew it with `hf auth login`, or unset HF_TOKEN"
    if status == 403:
        return f"{page}: the hub refuses access (403): your account or network may not read it"
    return f"{page}: the hub answers {status}. Try again later, or {_WITHOUT_NETWORK.removeprefix('(2) ')}"


def _hub_unreachable(repo_id: str, reason: str) -> WeightsError:
    cache = Path(constants.HF_HUB_CACHE)
    return WeightsError(
        f"{repo_id}: its weights are not in the cache ({cache}), and {reason}. Three ways out: (1) on a machine with "
        f"network run `hf download {repo_id}` and copy the folder models--{repo_id.replace('/', '--')} of its cache "
        f"into {cache} here; {_WITHOUT_NETWORK}"
    )


def _url_unreachable(url: str, target: Path, reason: str) -> WeightsError:
    return WeightsError(f"{url}: not in the cache ({target.parent}), and {reason}. {_ways(url, target)}")


def _ways(url: str, target: Path) -> str:
    return (
        f"Three ways out: (1) on a machine with network run `curl -LO {url}` and copy the file to {target} here; "
        f"{_WITHOUT_NETWORK}"
    )


def _check_length(url: str, path: Path, expected_bytes: str | None) -> None:
    """A connection that closes early looks to urllib like the end of the file."""
    num_bytes = path.stat().st_size
    if expected_bytes is not None and num_bytes != int(expected_bytes):
        raise WeightsError(
            f"{url}: the transfer was cut short ({num_bytes} of {expected_bytes} bytes). Nothing of it is used. "
            "Run the command again"
        )


def _torch_cache() -> Path:
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints"
