#!/bin/sh
# Compiles bpf/*.bpf.c reproducibly into the folder given, with a MANIFEST beside them.
# No path of this machine and no date gets in: relative names, DWARF stripped, BTF kept.
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
for source in bpf/*.bpf.c; do
    name=$(basename "$source" .c).o
    "$clang" -g -O2 -Wall -Werror -target bpfel -mcpu=v2 -I"$include" \
        -ffile-compilation-dir=. -fdebug-prefix-map="$PWD"=. -c "$source" -o "$out/$name"
    "$strip" --strip-debug "$out/$name"
    echo "$name: source $(sha256sum <"$source" | cut -d' ' -f1) object $(sha256sum <"$out/$name" | cut -d' ' -f1)" >>"$manifest"
done
