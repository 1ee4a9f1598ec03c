"""The note beside an exported model: all that a program must know to use it."""

from __future__ import annotations

from collections.abc import Sequence

from microscopy_cls import __version__
from microscopy_cls.inference.portable.check import TOLERANCE, Difference
from microscopy_cls.inference.portable.recipes import HINT, LIBRARIES, RULE, SETS, resizing, usage
from microscopy_cls.model.bundle import BundleInfo, Member, Preprocessing
from microscopy_cls.model.export import MODEL_FILE, Format


def note(
    info: BundleInfo, members: Sequence[Member], num_views: int, kind: Format, num_features: int, found: Difference
) -> str:
    """Markdown; its blocks of Python, one after the other, are a program that runs in the folder.

    Args:
        info: of the bundle.
        members: those in the graph.
        num_views: of each image, that the graph averages over.
        kind: of the graph.
        num_features: of an image.
        found: the difference from torch.
    """
    sections = [
        _head(info, members, num_views, kind),
        _ports(info, members, num_features),
        _pixels(info.preprocessing, kind),
        _usage(kind),
        _sets(info),
        _limits(found),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(info: BundleInfo, members: Sequence[Member], num_views: int, kind: Format) -> str:
    folds = ", ".join(member.name for member in members)
    views = f" Each image is seen in {num_views} mirrored views, inside the graph." if num_views > 1 else ""
    return f"""\
# {info.name} as `{MODEL_FILE[kind]}`

{info.architecture}, {len(members)} of {len(info.members)} members ({folds}), normalisation and calibration inside.\
{views} Written by microscopy-cls {__version__}. Research software, **not a medical device**."""


def _ports(info: BundleInfo, members: Sequence[Member], num_features: int) -> str:
    side, num = info.preprocessing.size_px, len(info.classes)
    classes = "\n".join(f"{place}. `{name}`" for place, name in enumerate(info.classes))
    return f"""\
## Input and outputs

| name | type | shape | meaning |
|---|---|---|---|
| `image` (input) | uint8 | (n, {side}, {side}, 3) | RGB, 0 to 255, resized as below; n is any number from 1 |
| `probabilities` | float32 | (n, {num}) | mean of the members' calibrated probabilities, in the order of the classes |
| `features` | float32 | (n, {num_features}) | pooled features of the member {members[0].name} |

The classes, counted from 0 (also a line each in `classes.txt`):

{classes}"""


def _pixels(settings: Preprocessing, kind: Format) -> str:
    return f"""\
## How to read and resize

The side is {settings.size_px} px. {RULE[settings.resize]} An axis that shrinks takes the mean over the covered area \
(OpenCV's `INTER_AREA`), first and alone; an axis that grows is bicubic (`INTER_CUBIC`). With \
`pip install {LIBRARIES[kind]}`:

```python
{resizing(settings.size_px, settings.resize)}
```

`read` gives what training saw of 8-bit files with one page and without transparency. {_reading(settings)} \
Transparency went on white. `microscopy_cls.read_image` reads all of it."""


def _reading(settings: Preprocessing) -> str:
    """How other files were read."""
    rule = settings.intensity
    if rule == "percentile":
        told = "each image's 0.1 and 99.9 percentiles (a DICOM's own window) became 0 and 255"
    elif rule == "full":
        told = "the whole range of the type became 0 to 255"
    else:
        told = f"the values {rule[0]:g} and {rule[1]:g} became 0 and 255"
    channels = "" if settings.channels is None else f" Shown were the channels {list(settings.channels)}, from 0."
    return f"Above 8 bits, {told}; of several pages, page {settings.page} was taken, from 0.{channels}"


def _usage(kind: Format) -> str:
    return f"""\
## Use

Save both blocks as one program, `classify.py`, and run it in this folder: `python classify.py one.png two.png`.

```python
{usage(kind)}
```{HINT[kind]}"""


def _sets(info: BundleInfo) -> str:
    if info.conformal is None:
        return ""
    return f"""\
## Prediction sets

A set holds each class whose probability reaches the threshold of that class in `prediction_sets.json`. For one member \
and images like the training's, the right class is inside for {info.conformal.target_coverage:.0%} of each class. At \
the end of the program:

```python
{SETS}
```"""


def _limits(found: Difference) -> str:
    return f"""\
## What was checked, and what is not inside

On {found.num_images} of the training's images, the first alone and the others in batches, the largest difference of a \
probability from torch was {found}; above {TOLERANCE:.0e} the export is refused. Reading and resizing of files, and \
the novelty that tells images unlike the training's, are not in the graph."""
