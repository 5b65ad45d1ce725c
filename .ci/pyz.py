"""purebpf as one executable file: `python .ci/pyz.py WHEEL… OUTPUT` puts the wheels into a zipapp.

What it writes depends on the packages in the wheels alone (and zlib): not on time, umask, time zone, the order of a folder
or what the tool that made a wheel says of itself there. It does what zipapp does; zipapp itself writes times and modes of
the files that it finds (and __main__.py's time is now).
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile

# For every Python that someone may try: what is before the import is Python 2, too. A Python without all of its standard
# library is what Debian calls python3-minimal, or one that was built where libffi or zlib was missing.
MAIN = b"""import signal
import sys

if sys.version_info < (3, 9):
    sys.exit("purebpf: needs Python 3.9 or newer; %s is %d.%d" % ((sys.executable,) + sys.version_info[:2]))
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C during the imports is no KeyboardInterrupt; main() catches it
try:
    from purebpf.cli import main

    main()
except ImportError as error:  # also zipimport's, without zlib
    if str(error.name).split(".")[0] in ("purebpf", "elftools"):
        raise
    sys.exit("purebpf: needs all of Python's standard library; %s: %s (Debian: apt install python3)" % (sys.executable, error))
"""
# The wheel of pyelftools lacks the licence of the library inside it, of which its own speaks.
LICENCES = {"elftools/construct/LICENSE": "construct-LICENSE"}
SHEBANG = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say


def is_wanted(name: str) -> bool:
    """Not scripts, which nobody could run, nor what is for pip alone."""
    top, _, inside = name.partition("/")
    if top.endswith((".data", ".dist-info")):
        return inside.endswith("LICENSE")
    return not name.endswith("/")


def contents(wheels: list[str]) -> dict[str, bytes]:
    """Each file of the wheels' packages, and each licence, by its name."""
    files = {"__main__.py": MAIN}
    for name, file in LICENCES.items():
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), file), "rb") as licence:
            files[name] = licence.read()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if is_wanted(name):
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
            stored = name == "__main__.py"  # so that without zlib it can say so
            archive.writestr(info, files[name], zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED, 9)
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
