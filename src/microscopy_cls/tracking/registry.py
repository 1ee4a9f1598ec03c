"""Bundles in MLflow's model registry: candidate, champion, and back to a directory. No pickle on the way."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from microscopy_cls.errors import TrackingError
from microscopy_cls.system.files import atomic_folder, read_json, sha256_of_file, sha256_of_json
from microscopy_cls.system.versions import library_version
from microscopy_cls.tracking.store import Client, Store, is_refusal, patience, require_mlflow, store_errors

LOADER_MODULE = "microscopy_cls.inference.pyfunc"
MODEL_NAME = "model"  # the run's address of it is runs:/<id>/model
CANDIDATE, CHAMPION = "candidate", "champion"
DIGEST_TAG = "bundle_sha256"


def register_bundle(client: Client, run_id: str, bundle_dir: Path, name: str, scratch: Path) -> str:
    """Log the bundle as a model of the run and register it as the candidate; the version.

    A bundle with the same `bundle.json` that is registered already is not registered again.
    """
    digest = sha256_of_file(bundle_dir / "bundle.json")
    version = _version_of(client, name, digest) or _new_version(client, run_id, bundle_dir, name, digest, scratch)
    client.set_registered_model_alias(name, CANDIDATE, version)
    return version


def promote(uri: str, name: str, version: int | None = None) -> int:
    """Give a version of the registered model the alias `champion`, by default the candidate's; the version.

    Raises:
        TrackingError: the store does not answer, or it has no such model, candidate or version.
    """
    with _reading(uri) as (_, client):
        model = _registered(client, name)
        known = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
        chosen = model.aliases.get(CANDIDATE) if version is None else version
        if chosen is None:
            raise TrackingError(f"{name}: has no candidate. Name a version with --version; there are: {_list(known)}.")
        if int(chosen) not in known:
            raise TrackingError(f"{name}: has no version {chosen}. There are: {_list(known)}.")
        client.set_registered_model_alias(name, CHAMPION, str(chosen))
        return int(chosen)


def bundle_dir_of(address: str, uri: str) -> Path:
    """The local directory of a registered or logged bundle; downloaded once if the store keeps it elsewhere.

    Args:
        address: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `runs:/RUN_ID/model`.
        uri: the store.

    Raises:
        TrackingError: the store does not answer, knows no such address, or what it holds is no bundle.
    """
    with _reading(uri) as (store, client):
        folder = _fetch(store, _location(client, address))
    found = next(folder.rglob("bundle.json"), None)
    if found:
        return found.parent
    raise TrackingError(f"{address}: holds no bundle of microscopy-cls. There is no bundle.json in {folder}.")


@contextmanager
def _reading(uri: str) -> Iterator[tuple[Store, Client]]:
    """A session in which every failure of the store is an error with its address."""
    require_mlflow("A model's address in MLflow")
    store = Store(uri)
    if store.is_missing:
        raise TrackingError(f"{store.shown}: there is no such MLflow store here. Check tracking.uri and the directory.")
    try:
        with store.session() as client:
            yield store, client
    except store_errors() as error:
        raise TrackingError(
            f"MLflow at {store.shown} cannot be used: {store.reason(error)}. Start the server or correct tracking.uri."
        ) from None


def _registered(client: Client, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except store_errors() as error:
        if not is_refusal(error):
            raise
    known = [model.name for model in client.search_registered_models(max_results=50)]
    raise TrackingError(f"{name}: there is no registered model of this name. There are: {_list(known)}.")


def _version_of(client: Client, name: str, digest: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}' and tags.{DIGEST_TAG} = '{digest}'", max_results=1)
    return str(found[0].version) if found else None


def _new_version(client: Client, run_id: str, bundle_dir: Path, name: str, digest: str, scratch: Path) -> str:
    from mlflow.entities import LoggedModelOutput  # noqa: TID251

    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name=MODEL_NAME, source_run_id=run_id, tags={DIGEST_TAG: digest})
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".mlflow-") as folder:
        _write_pyfunc(Path(folder) / MODEL_NAME, bundle_dir, run_id, model)
        with patience():
            client.log_model_artifacts(model.model_id, str(Path(folder) / MODEL_NAME))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    _copy_metrics(client, run_id, model.model_id)
    _ensure_registered(client, name)
    created = client.create_model_version(
        name,
        source=model.artifact_location,  # not models:/ID, which a database store looks up in MLflow's global store
        run_id=run_id,
        tags={DIGEST_TAG: digest},
        model_id=model.model_id,
        await_creation_for=0,
    )
    version = str(created.version)
    link = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})  # the dashboard's link to the registry
    return version


def _copy_metrics(client: Client, run_id: str, model_id: str) -> None:
    """The run's figures beside the model, where the dashboard compares models."""
    from mlflow.entities import Metric  # noqa: TID251

    now = int(time.time() * 1000)
    values = client.get_run(run_id).data.metrics
    points = [Metric(name, value, now, 0, model_id=model_id) for name, value in values.items()]
    client.log_batch(run_id, metrics=points[:1000], synchronous=True)  # MLflow takes no more in one request


def _ensure_registered(client: Client, name: str) -> None:
    try:
        client.create_registered_model(name)
    except store_errors() as error:
        if getattr(error, "error_code", None) not in {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}:
            raise


def _write_pyfunc(folder: Path, bundle_dir: Path, run_id: str, model: Any) -> None:
    """A model directory in MLflow's format: the bundle as data, and the module that loads it."""
    import pandas as pd
    from mlflow.models import Model, ModelSignature  # noqa: TID251
    from mlflow.pyfunc import save_model  # noqa: TID251
    from mlflow.types import ColSpec, Schema  # noqa: TID251

    classes = [str(name) for name in read_json(bundle_dir / "bundle.json").get("classes", [])]
    outputs = [
        *(("string", name) for name in ("status", "error", "predicted")),
        ("double", "confidence"),
        *(("double", f"prob_{name}") for name in classes),
        ("string", "prediction_set"),
        ("boolean", "refer"),
        ("double", "novelty"),
    ]
    save_model(
        str(folder),
        loader_module=LOADER_MODULE,
        data_path=str(bundle_dir),
        mlflow_model=Model(
            artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id, model_uuid=model.model_id
        ),
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", name, required=False) for name in ("image", "path")]),  # one of them
            outputs=Schema([ColSpec(kind, name) for kind, name in outputs]),
        ),
        input_example=pd.DataFrame({"image": [example_image()]}),
        pip_requirements=[
            f"microscopy-cls=={library_version('microscopy-cls')}"
        ],  # given, so that nothing is inferred, built or looked up
    )


def example_image() -> str:
    """A grey square as base64 of a PNG file: the form in which a server expects images."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _location(client: Client, address: str) -> str:
    """Where the store keeps the files of a model address."""
    registered = re.fullmatch(r"models:/([^/@]+)(?:@([\w-]+)|/(\d+))", address)
    logged = re.fullmatch(r"runs:/([^/]+)/([^/]+)", address)
    if registered:
        return _location_of_version(client, *registered.groups())
    if logged:
        return _location_in_run(client, *logged.groups())
    raise TrackingError(
        f"{address}: is no address of a model. Write models:/NAME@champion, models:/NAME/3 or runs:/ID/model."
    )


def _location_of_version(client: Client, name: str, alias: str | None, version: str | None) -> str:
    model = _registered(client, name)
    chosen = version or model.aliases.get(alias)
    if chosen is None:
        raise TrackingError(
            f"models:/{name}@{alias}: there is no such alias. There are: {_list(sorted(model.aliases))}."
        )
    try:
        return str(client.get_model_version_download_uri(name, str(chosen)))
    except store_errors() as error:
        if not is_refusal(error):
            raise
    known = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
    raise TrackingError(f"models:/{name}/{chosen}: there is no such version. There are: {_list(known)}.")


def _location_in_run(client: Client, run_id: str, name: str) -> str:
    """The newest model of this name that the run has logged: unlike its other files, it is never overwritten."""
    try:
        run = client.get_run(run_id)
    except store_errors() as error:
        if not is_refusal(error):
            raise
        raise TrackingError(f"runs:/{run_id}: there is no such run in this store.") from None
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    named = [model for model in models if model.name == name]
    if not named:
        has = _list(sorted({model.name for model in models}))
        raise TrackingError(f"runs:/{run_id}/{name}: the run has no such model. It has: {has}.")
    return str(max(named, key=lambda model: model.creation_timestamp).artifact_location)


def _fetch(store: Store, location: str) -> Path:
    """The files of one model, which never change: those that are not on this machine are kept in the user's cache."""
    if not re.match(r"[a-z][a-z0-9+-]+:", location):
        return Path(location)
    kept = _cache_dir() / sha256_of_json([store.shown, location])[:16]
    if not kept.is_dir():
        with atomic_folder(kept) as folder:
            store.download(location, folder)
    return kept


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microscopy_cls" / "models"


def _list(known: list[Any]) -> str:
    return ", ".join(str(name) for name in known) or "none"
