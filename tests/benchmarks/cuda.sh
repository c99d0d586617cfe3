#!/usr/bin/env bash
# What only a CUDA device can show, in seven minutes: speed, the CUDA tests, a sweep. On a bare
# machine with torch, and the dependencies on PYTHONPATH:
#     tests/benchmarks/cuda.sh [folder for its files]
# On any machine, with tiny models on the CPU:  tests/benchmarks/cuda.sh --smoke
# Each part has its own limit, so that one that hangs costs no other.
set -u
cd "$(dirname "$0")/../.." || exit
smoke= scale=1
if [ "${1:-}" = --smoke ]; then
    smoke=--smoke scale=3
    shift
fi
out=${1:-$(mktemp -d)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHONPATH=$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}
failed=0

part() { # name, seconds, command: its output goes to the screen and into a file
    local name=$1 seconds=$2 began=$SECONDS
    shift 2
    echo "=== $name"
    timeout --kill-after=5 $((scale * seconds)) "$@" >"$out/$name.txt" 2>&1
    local code=$?
    tail -n "${LINES_SHOWN:-40}" "$out/$name.txt"
    echo "=== $name: exit code $code after $((SECONDS - began)) s"
    [ $code = 0 ] || failed=1
}

speeds() { # groups: lines into speeds.jsonl, also of a group that was cut off
    local name=$1 seconds=$2 began=$SECONDS
    timeout --kill-after=5 $((scale * seconds)) "$python" tests/benchmarks/cuda_speed.py \
        "$name" $smoke \
        >>"$out/speeds.jsonl" 2>"$out/$name.txt"
    local code=$?
    [ $code = 0 ] || { failed=1; tail -n 5 "$out/$name.txt"; }
    echo "=== speed of $name: exit code $code after $((SECONDS - began)) s"
}

part machine 30 "$python" -c '
import platform, torch
print(platform.python_version(), torch.__version__)
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device")'

: >"$out/speeds.jsonl"
speeds gpt 50
speeds context_vector 70
speeds plain 70
part speed 15 "$python" tests/benchmarks/cuda_speed.py table <"$out/speeds.jsonl"

# The files that hold CUDA tests alone: the others need what a bare machine lacks. Its versions may
# warn of what ours do not.
mapfile -t tests < <(grep -rlE 'mark\.cuda|needs_cuda' tests --include='test_*.py' | sort -r)
LINES_SHOWN=100 part tests 105 "$python" -m pytest -m cuda -v -W default -o timeout=60 \
    -p no:cacheprovider "${tests[@]}"

work=$(mktemp -d)
device=cuda trials=6
settings=()
if [ "$smoke" ]; then
    device=cpu trials=2
    settings=(--set data.train_sequences=4096 --set data.validation_sequences=200)
fi
sweep() { (cd "$work" && exec "$python" -m sweep "$@"); }
export -f sweep
export work python
part sweep 75 bash -c 'sweep "$@"' sweep run --device "$device" --data docstrings --batch 2048 \
    --precision fp16 --trials "$trials" --epochs 3 "${settings[@]}"
LINES_SHOWN=80 part report 15 bash -c 'sweep report'
[ -f "$work/sweep.db" ] && cp "$work/sweep.db" "$out/"
rm -rf "$work"

echo "=== all of it: $SECONDS s; files in $out"
exit $failed
