"""Tiny repositories that lie as the public sets do, served over file://."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from microscopy_cls.dataset.catalogue import Entry, find_entry, load_catalogue
from microscopy_cls.dataset.catalogue.layouts import shipped_table

LINK = "120000"
SMEAR = """<annotation><size><width>640</width><height>480</height></size>
<object><name>WBC</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>60</xmax><ymax>90</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>600</xmin><ymin>400</ymin><xmax>650</xmax><ymax>480</ymax></bndbox></object>
<object><name>Platelets</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


def entry_of(name: str, revision: str) -> Entry:
    """The catalogue's entry, its pin moved to a tiny repository."""
    return find_entry(name, load_catalogue()).model_copy(update={"revision": revision})


def repository(folder: Path, files: Mapping[str, bytes], modes: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Make a repository with one commit; returns its address and the commit."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "config", "uploadpack.allowFilter", "true"], check=True)
    stream = b"commit refs/heads/master\ncommitter a <a@b> 0 +0000\ndata 0\n"
    for path, content in files.items():
        mode = (modes or {}).get(path, "100644")
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        stream += f'M {mode} inline "{quoted}"\ndata {len(content)}\n'.encode() + content + b"\n"
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet"], input=stream, check=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "master"], check=True, capture_output=True, text=True)
    return folder.as_uri(), done.stdout.strip()


def picture(seed: int) -> bytes:
    done, data = cv2.imencode(".png", np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8))
    assert done
    return data.tobytes()


def pollen_files() -> dict[str, bytes]:
    files = {f"Data/Raw/pollen23e/type_{number % 3}/grain_{number:02d}.png": picture(number) for number in range(12)}
    other = {"Data/Processed/train/type_0/grain_00.png": picture(0), "Data/Raw/pollen23e/type_0/.hidden.png": b"x"}
    return files | other | {"README.md": b"a set\n", "Data/Raw/pollen23e/type_0/notes.csv": b"a,b\n"}


def xray_files() -> dict[str, bytes]:
    root = "X-Ray Image DataSet"
    files = {
        f"{root}/Covid-19/{name}": picture(number) for number, name in enumerate(list(shipped_table("covid-xray3"))[:6])
    }
    for number, label in enumerate(["No_findings"] * 6 + ["Pneumonia"] * 6):
        files[f"{root}/{label}/{number % 4:08d}_{number:03d}.png"] = picture(100 + number)
    return files | {f"{root}/label.txt": b"x", "DarkCovidNet.ipynb": b"{}"}


def plankton_files() -> dict[str, bytes]:
    one = picture(0)
    files = {f"data/{file}": one for file in shipped_table("plankton12")}
    return files | {"data/Blob/SPC-PWSSC-1-000076-007-610-1756-44-48.png": one, "augment.py": b"pass\n"}


def ct_files() -> dict[str, bytes]:
    files = {}
    for number, (name, group) in enumerate(shipped_table("covid-ct").items()):
        folder = "NonCOVID" if group.startswith("non_") else "COVID"
        files[f"Data/master-data/{folder}/{name}"] = picture(number % 7)
    return files | {"Data/Meta/COVID-CT-MetaInfo.xlsx": b"PK", "Data/master-data/README.md": b"x"}


def bccd_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {"BCCD/ImageSets/Main/train.txt": b"x"}
    for number in range(4):
        files[f"BCCD/JPEGImages/BloodImage_{number:05d}.jpg"] = smear(number)
        files[f"BCCD/Annotations/BloodImage_{number:05d}.xml"] = SMEAR.encode()
    return files | {"BCCD/Annotations/BloodImage_00099.xml": SMEAR.encode()}


def chula_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {"Dataset/.DS_Store": b"x", "RBC Diseases/HE/sampleA0001.JPG": b"x"}
    for number in range(4):
        files[f"Dataset/{number}.jpg"] = smear(number)
        files[f"Label/{number}.txt"] = b"100 100 0\n200 100 4\n300 120 10\n10 10 0\n320 240 12\n\n"
    return files


def smear(seed: int) -> bytes:
    done, data = cv2.imencode(
        ".jpg", np.kron(np.random.default_rng(seed).integers(0, 255, (6, 8, 3)), np.ones((80, 80, 1)))
    )
    assert done
    return data.tobytes()


UPSTREAM = {
    "pollen23e": (pollen_files, 12, 0),
    "covid-xray3": (xray_files, 18, None),
    "pwssc-plankton12": (plankton_files, 1597, 205),
    "covid-ct-ucsd": (ct_files, 746, 213 + 171),
    "bccd-cells": (bccd_files, 8, 4),
    "chula-rbc12": (chula_files, 12, 4),
}
"""Of each set that can be fetched: its imitation, the images that are laid out of it, and their groups."""
