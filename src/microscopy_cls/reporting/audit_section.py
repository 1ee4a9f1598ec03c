"""What the audit found in the data: shortcuts, leakage, copies, disputed labels, faulty pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microscopy_cls.reporting.montage import Album, Thumbnail
from microscopy_cls.reporting.numbers import Estimate, finite, named
from microscopy_cls.reporting.verdict import WORDS

NUM_CLUSTERS = 12
NUM_OF_CLUSTER = 6
NUM_OF_FLAG = 8
NUM_MIXED = 50
CLUSTER_PX = 96
FAMILIES = {
    "together": "all judged kinds at once",
    "size": "width, height and their ratio",
    "format": "file format, channels and bits",
    "bytes": "size of the file",
    "compression": "how strongly it was compressed",
    "border": "the outermost pixels",
    "corners": "the four corners, where marks are burnt in",
    "metadata": "columns that must not predict the label",
    "grey": "brightness and contrast of the whole picture",
}
OCCLUSIONS = {
    "whole": ("Whole picture", "as everywhere else on this page"),
    "centre_hidden": ("Centre hidden", "should be far lower, if the subject is in the middle"),
    "border_hidden": ("Border hidden", "should hardly be lower, if the subject is in the middle"),
}
FLAGS = {
    "blurred": "hardly any fine detail",
    "dark": "far darker than the others, or nearly black",
    "bright": "far brighter than the others, or nearly white",
    "saturated": "many pixels at the end of the scale",
    "empty": "nothing but background",
    "constant": "one grey value",
}


@dataclass(frozen=True)
class Family:
    """How well one kind of artefact alone names the class; `told` is its verdict, or why there is none."""

    name: str
    meaning: str
    accuracy: Estimate
    balanced: Estimate
    ratio: float | None
    state: str
    told: str


@dataclass(frozen=True)
class Shortcuts:
    """Artefacts against the model; `ratio` compares the skill of the most telling ones above chance with its own.

    `decisive` names these, and the class that they tell, if it is one; empty where the audit does not say.
    """

    accuracy: Estimate
    balanced: Estimate
    chance: float | None
    p_value: float | None
    model: Estimate
    own_model: bool
    ratio: Estimate
    decisive: str
    warn: float | None
    fail: float | None
    families: list[Family]
    features: list[dict[str, Any]]
    occlusion: list[tuple[str, str, Estimate]]


@dataclass(frozen=True)
class Leakage:
    """What a simple classifier gains when images of one group are on both sides."""

    rows: list[tuple[str, str, Estimate]]
    inflation: Estimate
    classifier: str

    @property
    def is_shown(self) -> bool:
        """Whether the gain is more than chance."""
        return self.inflation.low is not None and self.inflation.low > 0


@dataclass(frozen=True)
class Pictures:
    """Pictures that belong together, each with a class or a word, and how many more there are."""

    title: str
    members: list[tuple[Thumbnail, str]]
    num_more: int


@dataclass(frozen=True)
class Duplicates:
    """Clusters of copies, pictures under several labels, groups of several classes."""

    counts: list[tuple[str, int, str]]
    clusters: list[Pictures]
    num_clusters: int
    conflicts: list[Pictures]
    num_conflicts: int
    mixed: list[tuple[str, str]]
    num_mixed: int


@dataclass(frozen=True)
class Quality:
    """Pictures that stand out, by what is wrong with them."""

    share: float | None
    flags: list[Pictures]


def shortcuts(audit: Mapping[str, Any]) -> Shortcuts | None:
    """From the audit; None where it did not look."""
    found = audit.get("shortcuts")
    if not found:
        return None
    limits, model = found.get("thresholds") or {}, found.get("model") or {}
    occlusion = found.get("occlusion") or {}
    families = [_family(name, entry) for name, entry in (found.get("by_family") or {}).items()]
    return Shortcuts(
        *_both(found),
        finite(found.get("chance")),
        finite(found.get("p_value")),
        Estimate.read(model.get("accuracy"), "percent"),
        model.get("name") == "model",
        Estimate.read(found.get("ratio"), "percent"),
        _decisive(found.get("decisive") or {}),
        finite(limits.get("warn")),
        finite(limits.get("fail")),
        sorted(families, key=lambda family: -(family.accuracy.value or 0)),
        [_feature(one) for one in found.get("top_features") or ()],
        [(*told, Estimate.read(occlusion.get(key), "percent")) for key, told in OCCLUSIONS.items() if key in occlusion],
    )


def _decisive(entry: Mapping[str, Any]) -> str:
    if not entry.get("family"):
        return ""
    return f"{entry['family']}, at telling {named(entry['class'])}" if entry.get("class") else str(entry["family"])


def _feature(entry: Mapping[str, Any]) -> dict[str, Any]:
    """With the sentence alone, where that repeats the feature's name."""
    told = str(entry.get("told") or "").removeprefix(f"{entry['feature']}: ")
    return {**entry, "told": told, "importance": finite(entry.get("importance"))}


def _both(entry: Mapping[str, Any]) -> tuple[Estimate, Estimate]:
    return Estimate.read(entry.get("accuracy"), "percent"), Estimate.read(entry.get("balanced_accuracy"), "percent")


def _family(name: str, entry: Mapping[str, Any]) -> Family:
    state = entry.get("verdict") if entry.get("judged") and entry.get("verdict") in WORDS else "unknown"
    told = WORDS[state] if state != "unknown" else "Shown only"  # type: ignore[index]
    return Family(name, FAMILIES.get(name, ""), *_both(entry), finite(entry.get("ratio")), str(state), told)


def leakage(audit: Mapping[str, Any]) -> Leakage | None:
    """From the audit; None where it did not look."""
    found = audit.get("leakage")
    if not found:
        return None
    rows = [
        ("Random folds", "images of one group may be on both sides", Estimate.read(found.get("random"), "percent")),
        ("Grouped folds", "as on this page", Estimate.read(found.get("grouped"), "percent")),
    ]
    return Leakage(rows, Estimate.read(found.get("inflation"), "points"), str(found.get("classifier") or ""))


def duplicates(audit: Mapping[str, Any], album: Album) -> Duplicates | None:
    """From the audit; None where it did not look."""
    if audit.get("duplicates") is None:
        return None
    clusters = sorted(audit["duplicates"], key=lambda ids: (-len(ids), ids))
    conflicts, mixed = audit.get("conflicts") or [], audit.get("mixed_groups") or []
    counts = [
        ("clusters", len(clusters), "of two or more copies"),
        ("exact", int(audit.get("num_exact") or 0), "clusters of the same pixels"),
        ("near", int(audit.get("num_near") or 0), "clusters of altered copies: resized, recompressed, adjusted"),
        ("across groups", int(audit.get("clusters_across_groups") or 0), "clusters: groups that may be one"),
        ("across folds", int(audit.get("clusters_across_folds") or 0), "clusters: tested on what was learnt"),
    ]
    return Duplicates(
        counts,
        [_pictures(f"Cluster of {len(ids)}", ids, album) for ids in clusters[:NUM_CLUSTERS]],
        len(clusters),
        [
            _pictures(" or ".join(map(named, one["labels"])) + "?", one["image_ids"], album)
            for one in conflicts[:NUM_CLUSTERS]
        ],
        len(conflicts),
        [(str(one["group"]), _labels(one["labels"])) for one in mixed[:NUM_MIXED]],
        len(mixed),
    )


def _labels(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{named(label)} ({num})" for label, num in counts.items())


def _pictures(title: str, ids: list[str], album: Album, num: int = NUM_OF_CLUSTER) -> Pictures:
    shown = album.named(ids[:num], CLUSTER_PX)
    return Pictures(title, [(one, album.label_of(one.image_id)) for one in shown], max(0, len(ids) - num))


def quality(audit: Mapping[str, Any], album: Album) -> Quality | None:
    """From the audit; None where it did not look."""
    found = audit.get("quality")
    if found is None:
        return None
    flags = [_pictures(flag, ids, album, NUM_OF_FLAG) for flag, ids in found.items() if ids]
    return Quality(finite(audit.get("quality_share")), flags)
