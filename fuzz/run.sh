#!/bin/sh
# Runs fuzz targets one after the other: run.sh SECONDS TARGET…
# Seeds are the transcripts under conformance/ without what they expect; the corpus stays in fuzz/corpus, outside of git.
set -eu
seconds=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
seeds() {
    for file in $1; do
        grep -v ' [<x]\( \|$\)' "$file" >"$2/$(basename "$(dirname "$file")")-$(basename "$file")" || :
    done
}
for target in "$@"; do
    corpus=$here/corpus/$target
    mkdir -p "$corpus"
    case $target in
    session_open_agi) seeds "$here/../conformance/open-agi/*.txt" "$corpus" ;;
    session_*) seeds "$here/../conformance/${target#session_}/*.txt" "$corpus" ;;
    rest) seeds "$here/../conformance/*/[lrva]*s*t*.txt" "$corpus" ;;
    esac
    [ ! -d "$here/seeds/$target" ] || cp "$here/seeds/$target"/* "$corpus"
    echo "== $target"
    (cd "$here" && nice -n 19 cargo +nightly fuzz run "$target" "$corpus" -- -max_total_time="$seconds" \
        -dict="$here/words.dict" -max_len=16384 -timeout=20 -malloc_limit_mb=64 -rss_limit_mb=2048 -print_final_stats=1)
done
