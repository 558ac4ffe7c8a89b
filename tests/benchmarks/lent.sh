#!/usr/bin/env bash
# gpu.py on a machine that is lent for minutes, and may have neither restok's packages nor a network.
#
#   tests/benchmarks/lent.sh pack                       # here: .whl, wheels of what such a machine (Python 3.12) lacks
#   OUT=results tests/benchmarks/lent.sh compiled 7     # there, with .whl and restok.egg-info: at most 7 minutes of what
#                                                       # needs a compiler, with tests/test_devices.py beside it
#   OUT=results tests/benchmarks/lent.sh eager 4.5      # there: all else
#
# Further words go to gpu.py.
set -eu
cd "$(dirname "$0")/../.."
part=${1:?pack, compiled or eager}

if [ "$part" = pack ]; then
    to="-q -d .whl --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64"
    rm -f .whl/*.whl
    python3 -m pip download $to pydantic # with what it needs, of the versions it needs
    python3 -m pip download $to --no-deps webdataset braceexpand torch-fidelity zlib-ng
    python3 -c 'from setuptools import setup; setup()' -q egg_info # restok.egg-info says restok's version
    exit
fi

minutes=$2
shift 2
mkdir -p "$OUT/$part"
export PYTHONPATH=$PWD:/tmp/site PYTHONUNBUFFERED=1
has="import importlib.util as i; exit(not all(map(i.find_spec, ('pydantic', 'webdataset', 'torch_fidelity', 'zlib_ng'))))"
python3 -c "$has" ||
    python3 -m pip install -q --no-index --no-deps --target /tmp/site .whl/*.whl
python3 -m restok_cli doctor || true # names what is missing
if [ "$part" = compiled ]; then
    sections="compiled compiled_use"
    # what an earlier machine of the kind has compiled spares most of the minutes
    if [ -f .whl/compiler.tar.xz ]; then
        export TORCHINDUCTOR_CACHE_DIR=/tmp/compiler
        mkdir -p /tmp/compiler
        tar -xJf .whl/compiler.tar.xz -C /tmp/compiler
    fi
    python3 -m pytest -q -n 0 -p no:cacheprovider tests/test_devices.py >"$OUT/devices.log" 2>&1 &
else
    sections="step decoding drawing deterministic inception rates"
fi
# it begins no section too late, but one may hang
timeout "$(python3 -c "print(int(60 * $minutes + 30))")" \
    python3 tests/benchmarks/gpu.py --out "$OUT/$part" --minutes "$minutes" --only $sections "$@" || true
wait
[ "$part" = eager ] || tail -n 20 "$OUT/devices.log"
