"""The sections and keys of a configuration, their types, limits and defaults.

Each `description` is the key's one documentation: `init` writes it beside the key, error messages quote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from microscopy_cls.config.search import Search, Sections, Value, fitted, replaced
from microscopy_cls.config.section import Section

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Intensity = Literal["percentile", "full"] | tuple[float, float]
Resize = Literal["stretch", "pad", "crop"]
Preset = Literal["brightfield", "fluorescence", "xray", "ct", "none"]
SlideRule = Literal["mean", "top_k", "majority"]
Precision = Literal["auto", "fp32", "bf16"]
Strategy = Literal["full", "probe", "head_then_full", "gradual"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Shortcut = Literal["identity", "scaled", "gated", "projected"]
Activation = Literal["post", "pre"]
ClassWeights = Literal["none", "balanced", "effective"]
Scheme = Literal["stratified", "leave_one_group_out"]


class Columns(Section):
    """Which column of `data.table` means what."""

    path: str = Field("path", description="file of the image")
    label: str = Field("label", description="class of the image")
    group: str | None = Field(None, description="patient, slide or day: images that must stay in one fold")
    split: str | None = Field(None, description="column holding train or test; test is never trained on")


class Data(Section):
    """Which images, their labels and groups, and how pixels are read."""

    root: Path | None = Field(None, description="a folder per class, or the folder that table's paths start from")
    table: Path | None = Field(None, description="CSV or Parquet with a row per image")
    columns: Columns = Field(Columns(), description="which column of the table means what")
    group_regex: str | None = Field(None, description="its first capture group in the image id names the group")
    intensity: Intensity = Field(
        "percentile",
        description="above 8 bits: percentile (each image's 0.1 to 99.9), full (the type's range), or [low, high]",
    )
    page: int = Field(0, ge=0, description="page of a TIFF, frame of a DICOM, axial slice of a NIfTI, from 0")
    channels: tuple[int, ...] | None = Field(
        None,
        description="one to three stored channels, from 0: grey, red and green, or RGB; null: up to three as they are",
    )
    max_pixels: int = Field(300_000_000, gt=0, description="larger images are refused before they are decoded")
    um_per_px: float | None = Field(
        None, gt=0, description="microns per pixel of the images as stored: slides are then read at the same scale"
    )
    metadata: tuple[str, ...] = Field((), description="table columns that must not predict the label")
    exclude: Path | None = Field(None, description="CSV with a column image_id: these images are used nowhere")
    max_unreadable: Fraction = Field(0.01, description="fraction of unreadable files above which prepare stops")
    test: Path | None = Field(None, description="external test set: a folder per class, or a table")
    notice: str | None = Field(None, description="a sentence that the report shows above all numbers")

    @field_validator("intensity")
    @classmethod
    def _is_a_window(cls, intensity: Intensity) -> Intensity:
        if not isinstance(intensity, str) and intensity[0] >= intensity[1]:
            raise ValueError(f"a window [low, high] needs low below high (given: {list(intensity)})")
        return intensity

    @field_validator("channels")
    @classmethod
    def _can_be_shown(cls, channels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if channels is not None and not (1 <= len(channels) <= 3 and min(channels) >= 0):
            raise ValueError(f"give one to three channel numbers, counted from 0 (given: {list(channels)})")
        return channels

    @model_validator(mode="after")
    def _has_a_source(self) -> Data:
        if self.root is None and self.table is None:
            raise ValueError("give data.root (a folder per class) or data.table (a CSV or Parquet file)")
        if self.metadata and self.table is None:
            raise ValueError("data.metadata names columns of a table: give data.table too, or remove data.metadata")
        return self


class Folds(Section):
    """Grouped cross-validation."""

    scheme: Scheme = Field(
        "stratified",
        description="stratified: num folds, class shares alike; leave_one_group_out: each declared group is a fold",
    )
    num: int = Field(5, ge=2, description="number of folds; not used by leave_one_group_out")
    repeats: int = Field(
        1,
        ge=1,
        le=20,
        description="how often all images are divided anew and all folds trained: costs as many times more",
    )
    seed: int = Field(0, ge=0, description="decides which group falls into which fold")
    group_near_duplicates: bool = Field(
        True, description="keep resized, mirrored, cropped copies of one picture together"
    )

    @model_validator(mode="after")
    def _can_be_repeated(self) -> Folds:
        if self.scheme == "leave_one_group_out" and self.repeats > 1:
            raise ValueError(
                f"leave_one_group_out divides the images in one way only: set repeats to 1 (given: {self.repeats}) or "
                "scheme to stratified"
            )
        return self


class Model(Section):
    """The network and the weights it starts from."""

    name: str = Field("resnext50_32x4d", description="a timm model that ends in one classifier on pooled features")
    weights: str = Field(
        "imagenet", description="imagenet, none (random start), a file or directory, hf-hub:OWNER/NAME"
    )
    partial_weights: bool = Field(False, description="of a file that does not fit whole, load the tensors that do")
    image_size_px: int = Field(224, ge=32, le=1024, description="side of the square input")
    resize: Resize = Field("stretch", description="to the square: stretch, pad (keeps proportions), crop (centre)")
    drop_path: Fraction = Field(0.0, description="stochastic depth")
    layers: Annotated[tuple[Positive, ...], Field(min_length=4, max_length=4)] | None = Field(
        None, description="blocks of the four stages of a ResNeXt; null: as its name says"
    )
    cardinality: Positive | None = Field(
        None, description="parallel paths of a ResNeXt's blocks; null: as its name says"
    )
    base_width: Positive | None = Field(
        None, description="channels of a path in a ResNeXt's first stage; null: as its name says"
    )
    shortcut: Shortcut = Field(
        "identity",
        description="how a ResNeXt's block adds its input: as it is; scaled, halved like the rest; gated by a sigmoid; "
        "projected by a 1 x 1 convolution",
    )
    activation: Activation = Field(
        "post", description="a ResNeXt's blocks normalise and rectify after each convolution (post) or before it (pre)"
    )

    @property
    def shape(self) -> dict[str, Any]:
        """What makes a ResNeXt of one's own: those of the five keys above that are given."""
        keys = {"layers", "cardinality", "base_width", "shortcut", "activation"}
        return self.model_dump(mode="json", include=keys, exclude_defaults=True)

    @property
    def title(self) -> str:
        """The name, and where it does not say it all, the shape."""
        given = ", ".join(f"{key} {value}" for key, value in self.shape.items())
        return f"{self.name} ({given})" if given else self.name


class Finetune(Section):
    """How the network is trained on each fold."""

    strategy: Strategy = Field(
        "full",
        description="full: all layers, later ones faster (layer_decay); probe: logistic regression on features of the "
        "frozen network, of the keys below only class_weights, effective_beta and, where torch computes the features, "
        "batch_size count; head_then_full: the probe's head, then all layers; gradual: from the classifier downwards, "
        "stage by stage",
    )
    stage_epochs: int = Field(1, ge=1, description="gradual: epochs until the next stage below is trained too")
    freeze_batch_norm: bool = Field(
        False, description="keep the batch norms' statistics as they came, as head_then_full always does"
    )
    epochs: int = Field(20, ge=1, description="passes over the training images")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="images a step, or auto")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the cosine schedule, at the head")
    fitted_head_rate: float = Field(
        0.2, gt=0, le=1, description="head_then_full: factor on learning_rate, so that the fitted head is not unlearned"
    )
    min_learning_rate: float = Field(1e-6, ge=0, description="end of the cosine schedule")
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up")
    layer_decay: float = Field(0.9, gt=0, le=1, description="learning-rate factor from each layer to the one below")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decoupled weight decay")
    label_smoothing: Fraction = Field(0.1, description="label smoothing")
    mixup: float = Field(0.0, ge=0, description="mixup's alpha; 0 is off")
    cutmix: float = Field(0.0, ge=0, description="CutMix's alpha; 0 is off")
    sampling: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class equally often in an epoch, rare images repeated"
    )
    class_weights: ClassWeights = Field(
        "none", description="of the loss; balanced: by inverse frequency; effective: by effective number of images"
    )
    effective_beta: Fraction = Field(
        0.999, description="effective: 1 / (1 - beta) images of a class are as good as any number of them"
    )
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="focal: images that are easy by now count less"
    )
    focal_gamma: float = Field(2.0, ge=0, description="focal: how much less; 0 is cross-entropy")
    logit_adjustment: float = Field(
        0.0,
        ge=0,
        description="margin for rare classes, times the log of their frequency; 1 is in theory best, 0 is off",
    )
    clip_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm; 0 is off")
    ema_decay: Fraction = Field(0.0, description="exponential moving average of weights; 0 is off")
    validation_fraction: float = Field(
        0.15, ge=0, le=0.5, description="part of the training groups that chooses the epoch; 0: the last epoch is taken"
    )
    patience: int = Field(0, ge=0, description="stop after so many epochs without a better validation loss; 0: never")

    @property
    def peak_rate(self) -> float:
        """The head's learning rate at the top of the schedule."""
        return self.learning_rate * (self.fitted_head_rate if self.strategy == "head_then_full" else 1.0)

    @model_validator(mode="after")
    def _balances_once(self) -> Finetune:
        used = {
            "sampling": self.sampling != "none",
            "class_weights": self.class_weights != "none",
            "logit_adjustment": self.logit_adjustment > 0,
        }
        chosen = [key for key, is_used in used.items() if is_used]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} each make up for rare classes, together too much: keep one")
        return self

    @model_validator(mode="after")
    def _focuses_on_hard_targets(self) -> Finetune:
        blurring = [key for key in ("label_smoothing", "mixup", "cutmix") if getattr(self, key)]
        if self.loss == "focal" and blurring:
            raise ValueError(f"loss focal needs certain labels, to tell easy from hard: set {', '.join(blurring)} to 0")
        return self

    @model_validator(mode="after")
    def _mixes_pairs(self) -> Finetune:
        mixing = [key for key in ("mixup", "cutmix") if getattr(self, key)]
        if mixing and self.batch_size != "auto" and self.batch_size % 2:
            raise ValueError(
                f"{' and '.join(mixing)} mix images in pairs: make batch_size even (given: {self.batch_size}), or set "
                f"{', '.join(mixing)} to 0"
            )
        return self

    @model_validator(mode="after")
    def _weighs_the_probe(self) -> Finetune:
        ignored = {
            "sampling": self.sampling != "none",
            "loss": self.loss != "cross_entropy",
            "logit_adjustment": self.logit_adjustment > 0,
        }
        chosen = [key for key, is_used in ignored.items() if is_used]
        if self.strategy == "probe" and chosen:
            raise ValueError(f"strategy probe knows no {' or '.join(chosen)}: weigh rare classes by class_weights")
        return self


class Augment(Section):
    """Random changes of the training images."""

    preset: Preset = Field("brightfield", description="what the imaging modality allows")
    strength: float = Field(
        1.0, ge=0, le=2, description="of the changes; a small set learns sooner from scratch at 0.5"
    )


class Evaluate(Section):
    """Out-of-fold figures, and the model that is kept."""

    bundle: Literal["folds", "refit"] = Field(
        "folds",
        description="what classifies later; folds: the tested members, averaged; refit: one more, trained on all "
        "images, which itself is never tested",
    )
    target_coverage: float = Field(0.9, gt=0, lt=1, description="coverage of the prediction sets")
    tta: bool = Field(False, description="average over mirrored views when the bundle predicts")
    slide_rule: SlideRule = Field(
        "mean",
        description="a slide's answer from its tiles: mean, top_k (the highest tenth of each class), majority (votes)",
    )
    positive_class: str | None = Field(None, description="of two classes: whose finding counts; null: the rarer")
    bootstrap_samples: int = Field(1000, ge=100, description="resamples of the groups for the 95 % intervals")


class Tracking(Section):
    """MLflow."""

    mlflow: bool = Field(True, description="log to MLflow")
    uri: str = Field("sqlite:///mlflow.db", description="MLflow's tracking store")


class Runtime(Section):
    """The machine. Device and workers do not change what a run is; they may change the last digits."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="processes that read and augment, or auto"
    )
    precision: Precision = Field("auto", description="auto: bf16 wherever the device gains from it")
    seed: int = Field(0, ge=0, description="initial weights, order and augmentation")


class Config(Section):
    """One experiment."""

    name: str = Field(pattern=NAME_PATTERN, description="names every folder and the experiment")
    data: Data
    folds: Folds = Folds()
    model: Model = Model()
    finetune: Finetune = Finetune()
    augment: Augment = Augment()
    search: Search = Search()
    evaluate: Evaluate = Evaluate()
    tracking: Tracking = Tracking()
    runtime: Runtime = Runtime()

    @field_validator("search")
    @classmethod
    def _searches_what_fits(cls, search: Search, info: ValidationInfo) -> Search:
        sections: Sections = {name: info.data[name] for name in ("model", "finetune", "augment") if name in info.data}
        return fitted(search, sections) if len(sections) == 3 else search  # else they have faults of their own

    @field_validator("evaluate")
    @classmethod
    def _refits_one_schedule(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        search: Search = info.data.get("search", Search())
        if evaluate.bundle == "refit" and search.trials and "finetune.epochs" in search.space:
            raise ValueError(
                "bundle refit trains as long as the folds' median best epoch, which says nothing where their schedules "
                "differ in length: take finetune.epochs out of search.space, or set evaluate.bundle to folds"
            )
        return evaluate

    @property
    def trained(self) -> Sections:
        """The sections whose keys may be searched, by name."""
        return {"model": self.model, "finetune": self.finetune, "augment": self.augment}

    def with_values(self, values: Mapping[str, Value]) -> Config:
        """The same with these values, by dotted key, as a search chose them."""
        return self.model_copy(update=replaced(self.trained, values))
