#!/usr/bin/env bash
# ./run.sh [preset] [key=value ...]   the four stages; ./run.sh test   the tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "run.sh: $1" >&2; exit 2; }

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.10 to 3.13; found none on the PATH: install one of them"
}

# install STAMP EXTRA FILE...: once, and again only when a FILE changes; EXTRA is one more package or empty
install() {
    local stamp="$1" extra="$2" file files=()
    shift 2
    for file in "$@"; do files+=(-r "$file"); done
    [ "$(cat ".venv/$stamp" 2>/dev/null)" = "$(cat "$@") $extra" ] && return
    echo "== installing $* (once; it may take some minutes)"
    if command -v uv >/dev/null; then
        uv pip install --quiet --python .venv/bin/python "${files[@]}" ${extra:+"$extra"}
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "${files[@]}" ${extra:+"$extra"}
    fi || fail "installing $* failed; look at the message above and run the command again"
    printf '%s' "$(cat "$@") $extra" > ".venv/$stamp"
}

show_help() {
    if [ -e .venv/runtime ]; then exec .venv/bin/python -m joanna.estimate --help; fi
    echo "usage: ./run.sh [preset | settings.yaml | clip.wav] [key=value ...], or ./run.sh test"
    echo "config.py lists presets and settings; --help does, too, once ./run.sh has installed the packages"
    exit
}

make_venv() {
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$1" .venv
    else
        "$1" -m venv .venv
    fi
}

for argument in "$@"; do
    case "$argument" in -h | --help) show_help ;; esac
done
if [ ! -x .venv/bin/python ]; then
    python="$(find_python)"
    rm -rf .venv # its Python is gone
    trap 'rm -rf .venv; exit 130' INT # an incomplete one would be used
    trap 'rm -rf .venv; exit 143' TERM
    if ! make_venv "$python"; then
        rm -rf .venv
        fail "could not make .venv; on Debian or Ubuntu: sudo apt install python3-venv, then run it again"
    fi
    trap - INT TERM
fi
cuda=""
if [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; then
    cuda="$(sed -n 's/^tensorflow==/tensorflow[and-cuda]==/p' requirements.txt)"
fi
install runtime "$cuda" requirements.txt

if [ "${1-}" = test ]; then
    install tests "" requirements-test.txt requirements-audio.txt requirements-tensorboard.txt
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    exec .venv/bin/python -m pytest "${@:2}"
fi

# Run a command and wait for its end. Ctrl-C reaches it directly, SIGTERM is passed on.
child=""
asked=""
trap 'asked=1' INT
trap '[ -n "$child" ] || exit 143; kill -TERM "$child"' TERM
run() {
    local code
    "$@" &
    child=$!
    while code=0; wait "$child" || code=$?; kill -0 "$child" 2>/dev/null; do :; done
    child=""
    if [ -n "$asked" ] && [ "$code" = 0 ]; then exit 130; fi # it came while Python started
    return "$code"
}

JOANNA_COMMAND="./run.sh$([ $# = 0 ] || printf ' %q' "$@")" # the command that a stopped stage prints
JOANNA_BEGAN="$(date +%s)" # the clock of minutes=...
export JOANNA_COMMAND JOANNA_BEGAN
run .venv/bin/python -m joanna.estimate "$@" || exit $?
times=""
for stage in preprocess autoencoder lstm generate; do
    printf '\n== %s\n' "$stage"
    began=$SECONDS
    run .venv/bin/python "$stage.py" "$@" || exit $?
    times+=" $stage $((SECONDS - began)) s,"
done
printf '\n== done:%s in all %d s\n' "$times" $(($(date +%s) - JOANNA_BEGAN))
.venv/bin/python -m joanna.estimate --outputs "$@"
