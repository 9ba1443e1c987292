#!/usr/bin/env bash
# ./run.sh [preset] [key=value ...]: the four stages; ./run.sh sweep ...: many runs; ./run.sh test: the tests
set -euo pipefail
[ -e /dev/fd/1 ] || exec >/dev/null # stdout is closed
script="${BASH_SOURCE[0]}"
while [ -L "$script" ]; do # called through a link
    target="$(readlink "$script")"
    case "$target" in /*) script="$target" ;; *) script="$(dirname "$script")/$target" ;; esac
done
unset CDPATH PYTHONPATH PYTHONHOME PYTHONSAFEPATH # the last three of another Python, conda's for example
called_from="$PWD"
cd "$(dirname "$script")"

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
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user "${files[@]}" \
            ${extra:+"$extra"}
    fi || fail "installing $* failed; look at the message above and run the command again"
    printf '%s' "$(cat "$@") $extra" > ".venv/$stamp"
}

show_help() {
    if [ -e .venv/runtime ] && venv_works; then exec .venv/bin/python -m "joanna.$module" --help; fi
    echo "usage: ./run.sh [preset | settings.yaml | clip.wav] [key=value ...], ./run.sh sweep ..., or ./run.sh test"
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

# whether .venv is complete (activate is written last) and was made for its Python, which may have been
# replaced since
venv_works() {
    [ -e .venv/bin/activate ] && .venv/bin/python -c '
import glob, importlib.util, shutil, sys
packages = glob.glob(f"{sys.prefix}/lib*/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")
sys.exit(not (packages and (shutil.which("uv") or importlib.util.find_spec("pip"))))
' 2>/dev/null
}

from_caller() { # a path that may be relative to the folder of the call
    case "$1" in
        "" | /*) ;;
        *) if [ -e "${called_from%/}/$1" ]; then printf '%s/' "${called_from%/}"; fi ;;
    esac
    printf '%s' "$1"
}

if [ "$called_from" != "$PWD" ]; then
    for argument in "$@"; do
        shift
        case "$argument" in
            source=* | seed-source=*) argument="${argument%%=*}=$(from_caller "${argument#*=}")" ;;
            *=*) ;;
            *.yaml | *.yml | *.wav) argument="$(from_caller "$argument")" ;;
        esac
        set -- "$@" "$argument"
    done
fi

module=pipeline
if [ "${1-}" = sweep ]; then module=sweep; fi
for argument in "$@"; do
    case "$argument" in -h | --help) show_help ;; esac
done
trap 'exit 130' INT # Python that gets Ctrl-C early exits with 1, as if .venv did not work
if ! venv_works; then
    python="$(find_python)"
    if [ -e .venv ]; then echo "== .venv is incomplete or of another Python: making it again"; fi
    rm -rf .venv
    trap 'rm -rf .venv' EXIT # an incomplete one would be used
    trap 'exit 143' TERM
    make_venv "$python" ||
        fail "could not make .venv; on Debian or Ubuntu: sudo apt install python3-venv, then run it again"
    trap - EXIT TERM
fi
trap - INT
cuda=""
if [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; then
    cuda="$(sed -n 's/^tensorflow==/tensorflow[and-cuda]==/p' requirements.txt)"
fi
install runtime "$cuda" requirements.txt

if [ "${1-}" = test ]; then
    install tests "" requirements-test.txt requirements-tensorboard.txt requirements-ray.txt
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    exec .venv/bin/python -m pytest "${@:2}"
fi

# large arrays on huge pages; ignored where malloc is not glibc's
export GLIBC_TUNABLES="${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}"
blocked="env --block-signal=INT" # until Python can handle it; not every env has the option
$blocked true 2>/dev/null || blocked=""
if [ "$module" = sweep ]; then shift; fi
exec $blocked .venv/bin/python -m "joanna.$module" "$@"
