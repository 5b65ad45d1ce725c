"""purebpf as one executable file: `python .ci/pyz.py WHEEL… OUTPUT` puts the wheels into a zipapp.

What it writes depends on the wheels alone (and zlib): not on time, umask, time zone or the order of a folder. It does
what zipapp does; zipapp itself writes times and modes of the files that it finds (and __main__.py's time is now).
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile

MAIN = b"from purebpf.cli import main\n\nmain()\n"
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say


def contents(wheels: list[str]) -> dict[str, bytes]:
    """Each file of the wheels by its name; without scripts of theirs, which nobody could run."""
    files = {"__main__.py": MAIN}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and ".data/" not in name:
                    files[name] = archive.read(name)
    return files


def zipapp(files: dict[str, bytes]) -> bytes:
    """An executable archive."""
    written = io.BytesIO()
    written.write(SHEBANG)
    with zipfile.ZipFile(written, "a") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, whose modes follow
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED, 9)
    return written.getvalue()


def main(wheels: list[str], output: str) -> None:
    """Write the file, executable."""
    made = zipapp(contents(wheels))
    os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    with open(output, "wb") as file:
        file.write(made)
    os.chmod(output, 0o755)
    print(f"{output}: {len(made):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
