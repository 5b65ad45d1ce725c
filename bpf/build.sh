#!/bin/sh
# Compiles bpf/*.bpf.c reproducibly into the folder given, with a MANIFEST beside them.
# No path of this machine and no date gets in: relative names, DWARF stripped, BTF kept.
# NAME.bpf.o is for little-endian machines, NAME.bpfeb.o for big-endian ones.
set -eu
out=${1:?usage: build.sh FOLDER}
clang=${CLANG:-clang}
strip=${LLVM_STRIP:-llvm-strip}
mkdir -p "$out"
manifest=$out/MANIFEST
"$clang" --version | sed -n '1s/^/clang: /p' >"$manifest"
include=/usr/include/$(uname -m)-linux-gnu
for source in bpf/*.h; do
    echo "$(basename "$source"): source $(sha256sum <"$source" | cut -d' ' -f1)" >>"$manifest"
done
compile() { # SOURCE TARGET NAME
    "$clang" -g -O2 -Wall -Werror -target "$2" -mcpu=v2 -I"$include" \
        -ffile-compilation-dir=. -fdebug-prefix-map="$PWD"=. -c "$1" -o "$out/$3"
    "$strip" --strip-debug "$out/$3"
    echo "$3: source $(sha256sum <"$1" | cut -d' ' -f1) object $(sha256sum <"$out/$3" | cut -d' ' -f1)" >>"$manifest"
}
for source in bpf/*.bpf.c; do
    name=$(basename "$source" .bpf.c)
    compile "$source" bpfel "$name.bpf.o"
    compile "$source" bpfeb "$name.bpfeb.o"
done
