"""Fine-tune every fold, of every repeat; pick up where it stopped, and collect the out-of-fold predictions."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tqdm import tqdm

from microscopy_cls.config import Config, Paths, to_yaml
from microscopy_cls.config.schema import Augment, Finetune, Model
from microscopy_cls.dataset.batches import Batches, CachedImages
from microscopy_cls.dataset.cache import check_reading
from microscopy_cls.dataset.manifest import manifest_digest
from microscopy_cls.dataset.prepare import reading_of
from microscopy_cls.model import check_shape, get_model, resolve_weights, weights_digest
from microscopy_cls.model.forward import check_classifier
from microscopy_cls.model.members import save_weights
from microscopy_cls.model.preprocess import Normalise
from microscopy_cls.system.files import atomic_path, write_csv, write_json, write_text
from microscopy_cls.system.hardware import choose_hardware
from microscopy_cls.system.progress import bar
from microscopy_cls.tracking import NullTracker, Tracker
from microscopy_cls.training.compute import Predictions, automatic_batch, largest_batch, make_accelerator, predict
from microscopy_cls.training.features import view_features
from microscopy_cls.training.fold_data import FoldData, Images, Rows, check_divisions
from microscopy_cls.training.fold_search import FoldSearch, inner_part
from microscopy_cls.training.frozen import FrozenNetwork
from microscopy_cls.training.member import MemberTrainer
from microscopy_cls.training.oof import assemble, save_fold
from microscopy_cls.training.parts import Part, epochs_of_refit, fold_parts, parts_of
from microscopy_cls.training.probe import Probe, write_head
from microscopy_cls.training.run_state import (
    RunState,
    begin,
    check_processes,
    finish,
    identity_of,
    load_state,
    save_state,
)  # fmt: skip
from microscopy_cls.training.scores import EpochRow
from microscopy_cls.training.telling import Telling

NUM_AUGMENTED = 1  # views of an image, beside itself, that a training's first head is fitted on; four gave no more

log = logging.getLogger(__name__)


class CrossValidation:
    """The k folds of one experiment, as often as they are drawn, and the refit where one is asked for.

    Args:
        restart: throw away what an earlier command left.
    """

    def __init__(self, config: Config, paths: Paths, tracker: Tracker, *, restart: bool = False) -> None:
        self.config, self.paths = config, paths
        self.images = Images.load(paths)
        check_divisions(self.images.manifest, config.folds, paths.manifest)
        check_reading(paths.prepared, reading_of(config))
        check_shape(config.model.name, config.model.weights, config.model.shape)
        self.source = resolve_weights(config.model.name, config.model.weights)
        self.hardware = choose_hardware(config.runtime.device, config.runtime.precision, config.runtime.workers)
        self.normalise = Normalise(self.source.mean, self.source.std)
        self.state, self.fresh, self.accelerator = self._begin(restart)
        self.tracker = tracker if self.accelerator.is_main_process else NullTracker()
        self.normalise.to(self.accelerator.device)
        self.batches = self._batches(config.augment)
        self.searches: dict[Part, dict[str, Any]] = {}
        kept = paths.runs / "features.safetensors"
        changed = config.finetune.strategy == "head_then_full" and config.augment.preset != "none"
        self.frozen = FrozenNetwork(self.images, self._features, kept, self.accelerator, NUM_AUGMENTED * changed)

    def run(self, only: int | None = None) -> pd.DataFrame | None:
        """Train what is not done, or only one fold, of every repeat.

        Returns:
            The out-of-fold table once all folds are done, else None.
        """
        parts = parts_of(self.config, self.images.num_folds, only)
        undone = [part for part in parts if not part.answers(self.paths.runs).is_file()]
        if undone:
            check_processes(self.paths.runs, self.state, self.accelerator.num_processes)
        licence = self.source.licence or "licence unknown"
        start = f"from {self.source.location} ({licence})" if self.source.kind != "none" else "from random weights"
        log.info("%s starts %s, %s, %s", self.config.model.title, start, self.state.device, self.state.precision)
        strategy = self.config.finetune.strategy
        if self.source.kind == "none" and strategy != "full":
            log.warning("finetune.strategy %s builds on pretrained weights, but these are random ones", strategy)
        with self.tracker:
            self.tracker.start(self._params(), self._tags(), fresh=self.fresh)
            with bar("training", self._num_images_to_see(undone), shown=self.accelerator.is_main_process) as shown:
                for part in undone:
                    self._train_fold(part, 1 + parts.index(part), len(parts), shown)
            table = self._collect()
            if table is not None and self.accelerator.is_main_process:
                for repeat in range(self.config.folds.repeats):
                    self.tracker.log_artifact(self.paths.oof_of(repeat))
                self.tracker.log_artifact(self._config_file())
        return table

    def _config_file(self) -> Path:
        """The resolved configuration, every key, beside the run that it made."""
        file = self.paths.runs / "config.yaml"
        write_text(file, to_yaml(self.config))
        return file

    def _begin(self, restart: bool) -> tuple[RunState, bool, Accelerator]:
        """Continue or clear the run's folder; only the main process of several touches it."""
        earlier = load_state(self.paths.runs)
        digest = manifest_digest(self.images.manifest)
        wanted = RunState(
            identity=identity_of(self.config, digest, weights_digest(self.source)),
            device=self.hardware.device,
            batch_size=0,
            precision=self.hardware.precision,
            num_threads=self.hardware.num_threads,
            weights=asdict(self.source),
        )
        if earlier is not None and not restart and earlier.fingerprint == wanted.fingerprint:
            self.hardware = replace(self.hardware, precision=earlier.precision, num_threads=earlier.num_threads)
        accelerator = make_accelerator(self.hardware, layers_held=self.config.finetune.strategy == "gradual")
        fresh = False
        if accelerator.is_main_process:
            state, fresh = begin(self.paths.runs, wanted, restart)
            if state.batch_size == 0:
                size, num = self._batch_size(accelerator), accelerator.num_processes
                state = replace(state, batch_size=size, num_processes=num)
                save_state(self.paths.runs, state)
        accelerator.wait_for_everyone()
        state_now = load_state(self.paths.runs)
        assert state_now is not None
        return state_now, fresh, accelerator

    def _batch_size(self, accelerator: Accelerator) -> int:
        """Of a process: as configured; else what leaves enough steps an epoch and fits into its device."""
        if self.config.finetune.batch_size != "auto":
            return self.config.finetune.batch_size
        num_train = int((self.images.manifest["fold"] > 0).sum())
        start = automatic_batch(num_train, accelerator.num_processes, accelerator.device.type)
        network, normalise = self._network(0, accelerator.device), self.normalise.to(accelerator.device)
        size_px = self.config.model.image_size_px
        return largest_batch(network, normalise, size_px, start, self.config.finetune, accelerator)

    def _network(self, fold: int, device: torch.device, model: Model | None = None) -> torch.nn.Module:
        """What a fold starts from; the same for all folds where they share its features, random weights included."""
        shared = self.config.finetune.strategy in {"probe", "head_then_full"}
        torch.manual_seed(self.config.runtime.seed * 1000 + (0 if shared else fold))  # of the head, or of all layers
        model = model or self.config.model
        network = get_model(
            model.name, len(self.images.classes), model.weights,
            drop_path=model.drop_path, partial_weights=model.partial_weights, **model.shape,
        )  # fmt: skip
        network = network.to(device).to(memory_format=torch.channels_last)
        check_classifier(network, model.name, model.image_size_px)
        return network

    def _batches(self, augment: Augment) -> Batches:
        image_ids, seed = list(self.images.manifest["image_id"]), self.config.runtime.seed
        cached = CachedImages(self.paths.prepared, image_ids, augment.preset, seed, strength=augment.strength)
        return Batches(cached, self.hardware.num_workers, pin_memory=self.hardware.is_cuda)

    def _features(self, rows: Rows, num_views: int) -> NDArray[np.float32]:
        """Of images in several views, by the network that the folds start from, (num_views, n, d)."""
        size_px, batch_size = self.config.model.image_size_px, self.state.batch_size
        return view_features(
            self._still, self.normalise, self.batches, rows, num_views, size_px, batch_size, self.accelerator
        )

    @cached_property
    def _still(self) -> torch.nn.Module:
        """The network that is not trained: all probes differ in its classifier alone."""
        return self._network(0, self.accelerator.device)

    def _train_fold(self, part: Part, place: int, total: int, shown: tqdm[Any]) -> None:
        settings, aloud = self.config.finetune, self.accelerator.is_main_process
        with self.tracker.fold(part.run) as tracked:
            telling = Telling(part.name, place, total, settings.epochs, tracked, shown, aloud=aloud)
            if settings.strategy == "probe":
                self._probe_fold(part, telling)
            else:
                self._fine_tune_fold(part, telling)
                self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()

    def _probe_fold(self, part: Part, telling: Telling) -> None:
        """A new head on the frozen network. Inner folds choose its penalty, so no image is put aside for that."""
        started = time.perf_counter()
        data = self.images.part(part, 0, self.config.folds.seed)
        head = self._fit_head(data, self.config.finetune)
        write_head(self._still, head)
        row = self.frozen.row(data, head)
        telling.probe(row)
        telling.images(len(data.test))
        if self.accelerator.is_main_process:
            features = self.frozen.features[data.test]
            self._finish_fold(data, self._still, [row], 0, Predictions(head.logits(features), features), started)

    def _fit_head(self, data: FoldData, settings: Finetune) -> Probe:
        return self.frozen.fit(data.train, settings, self.config.runtime.seed + self.images.number_of(data.part))

    def trainer(self, data: FoldData, config: Config, folder: Path) -> MemberTrainer:
        """What trains a network on these rows.

        Args:
            config: this run's, or the same with other values that its search may try.
            folder: for checkpoints.
        """
        settings, number = config.finetune, self.images.number_of(data.part)
        network = self._network(number, self.accelerator.device, config.model)
        if settings.strategy == "head_then_full":
            write_head(network, self._fit_head(data, settings))
        batches = self.batches if config.augment == self.config.augment else self._batches(config.augment)
        return MemberTrainer(
            network, self.normalise, data, self.images.labels, len(self.images.classes), batches, settings,
            self.state.batch_size, self.config.runtime.seed + number, folder, self.accelerator,
        )  # fmt: skip

    def _fine_tune_fold(self, part: Part, telling: Telling) -> None:
        config, started, folder = self.config, time.perf_counter(), self.paths.runs / part.folder
        num_epochs = epochs_of_refit(self.paths.runs, self.images.num_folds) if part.is_refit else None
        if config.search.trials:
            data = inner_part(self.images, config, part)
            seed = config.runtime.seed + self.images.number_of(part)
            found = FoldSearch(config, data, self.trainer, folder, self.accelerator, telling, seed).run()
            config, started = config.with_values(found.values), time.perf_counter() - found.seconds
            self.searches[part] = found.summary
        fraction = 0 if part.is_refit else config.finetune.validation_fraction
        data = self.images.part(part, fraction, config.folds.seed)
        trainer = self.trainer(data, config, folder)
        trainer.restore()
        done = trainer.progress
        telling.going_on(done.history, done.epoch * len(data.train))
        started -= done.seconds
        chosen = trainer.run(telling.epoch, telling.images, num_epochs)
        if self.accelerator.is_main_process:
            batches = self.batches.plain(data.test, self.state.batch_size)
            predictions = predict(chosen, self.normalise, batches, self.accelerator)  # for the first and only time
            self._finish_fold(data, chosen, done.history, done.chosen, predictions, started)

    def _finish_fold(
        self,
        data: FoldData,
        network: torch.nn.Module,
        history: list[EpochRow],
        chosen_epoch: int,
        predictions: Predictions,
        started: float,
    ) -> None:
        """Keep the member and what it said of its fold, and drop the checkpoints."""
        part, runs = data.part, self.paths.runs
        if part.member:
            with atomic_path(self.paths.members / part.member) as temporary:
                save_weights(temporary, network.state_dict())
        curves = pd.DataFrame(history).astype({"fold": int, "epoch": int})
        write_csv(part.curves(runs), curves.assign(chosen=(curves["epoch"] == chosen_epoch) * 1))
        seconds = round(time.perf_counter() - started, 1)
        write_json(part.cost(runs), {"seconds": seconds, "search": self.searches.get(part)})
        save_fold(part.answers(runs), data.test, predictions)
        for checkpoint in (runs / part.folder).glob("ch*.safetensors"):
            checkpoint.unlink()

    def _collect(self) -> pd.DataFrame | None:
        runs, num_folds = self.paths.runs, self.images.num_folds
        repeats = [fold_parts(num_folds, repeat) for repeat in range(self.config.folds.repeats)]
        missing = [part for parts in repeats for part in parts if not part.answers(runs).is_file()]
        if missing or not self.accelerator.is_main_process:
            return None
        write_csv(self.paths.curves, pd.concat([pd.read_csv(part.curves(runs)) for part in repeats[0]]))
        images, classes = self.images.manifest, self.images.classes
        table, *_ = (
            assemble([part.answers(runs) for part in parts], images, classes, self.paths, repeat)
            for repeat, parts in enumerate(repeats)
        )
        self.state = finish(runs, self.state, parts_of(self.config, num_folds, None))
        self.frozen.path.unlink(missing_ok=True)
        return table

    def _params(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json") | {"batch_size_used": self.state.batch_size}

    def _tags(self) -> dict[str, str]:
        return {
            "git_commit": self.state.git_commit or "unknown",
            "manifest_digest": str(self.state.identity["manifest"]),
            "fingerprint": self.state.fingerprint,
            "precision": self.state.precision,
            "device": self.state.device,
        }

    def _num_images_to_see(self, parts: list[Part]) -> int:
        """For the bar: images tested by a probe, trained on by the others."""
        all_data = [self.images.part(part, 0, self.config.folds.seed) for part in parts]
        if self.config.finetune.strategy == "probe":
            return sum(len(data.test) for data in all_data)
        settings, search = self.config.finetune, self.config.search
        passes = 1 - settings.validation_fraction + search.trials * (1 - search.validation_fraction)
        return int(sum(len(data.train) for data in all_data) * passes) * settings.epochs
