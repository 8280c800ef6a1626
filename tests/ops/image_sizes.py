#!/usr/bin/env python3
"""Prints the table of sizes in docs/deploy/image.md from the images that are built: make image-sizes

A test compares the page with the images. A compiler of another version changes a size a little, so 5 % are allowed.
"""

import os
import re

from containers import IMAGES, Image
from ops import TOP

PAGE = os.path.join(TOP, "docs", "deploy", "image.md")
NAMES = [f"xchgd{kind}-{architecture}" for kind in ("", "-plugins") for architecture in ("amd64", "arm64")]
TOLERANCE = 0.05


def measure(name):
    """Megabytes of the program, of all files and of the archive."""
    path = os.path.join(IMAGES, f"{name}.tar")
    members = Image(path).members()
    program = [member.size for member in members if os.path.basename(member.name) == "xchgd" and member.isreg()]
    sizes = program[-1], sum(member.size for member in members if member.isreg()), os.path.getsize(path)
    return [size / 1e6 for size in sizes]


def documented():
    """{name: three numbers} of the page's table."""
    with open(PAGE, encoding="utf-8") as stream:
        rows = re.findall(r"^\| `(xchgd[\w-]*)` \| ([\d.]+) MB \| ([\d.]+) MB \| ([\d.]+) MB \|$", stream.read(), re.M)
    return {name: list(map(float, sizes)) for name, *sizes in rows}


def table_faults(names):
    """What the page says wrongly about these images."""
    faults, page = [], documented()
    for name in names:
        sizes = measure(name)
        if name not in page or any(abs(said - size) > size * TOLERANCE for said, size in zip(page[name], sizes)):
            faults.append(f"{name}: the page says {page.get(name)}, measured {[round(size, 2) for size in sizes]}")
    return faults


def main():
    print("| image | program | all files | archive |\n|---|---|---|---|")
    for name in NAMES:
        if os.path.exists(os.path.join(IMAGES, f"{name}.tar")):
            print(f"| `{name}` | " + " | ".join(f"{size:.2f} MB" for size in measure(name)) + " |")


if __name__ == "__main__":
    main()
