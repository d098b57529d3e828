#!/bin/sh
# Serves log -> auth -> gzip -> middleware -> echo and shows what goes through. `make demo` calls it.
# Usage: demo.sh INTERFLOW GUESTS
set -eu
interflow=$1
guests=$2
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

chain="$guests/log.wasm $guests/auth.wasm $guests/gzip.wasm $guests/middleware.wasm $guests/echo.wasm"
echo "\$ interflow serve log.wasm auth.wasm gzip.wasm middleware.wasm echo.wasm --addr 127.0.0.1:0"
# shellcheck disable=SC2086 # one word per file
"$interflow" serve $chain --addr 127.0.0.1:0 >"$work/out" 2>"$work/err" &
server=$!

url=
for _ in $(seq 300); do
    url=$(sed -n 's|^serving .* on \(http://[^ ]*\) .*|\1|p' "$work/err")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/err" >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { echo "the server did not start" >&2; exit 1; }
grep '^serving' "$work/err" | sed "s|$guests/||g"

show() {
    echo
    echo "\$ curl $*" | sed "s|$url|$url|"
    curl --silent --show-error --max-time 10 "$@"
    echo
}
show "$url/" --include
show "$url/headers" --header 'authorization: Bearer letmein' --include
show "$url/echo" --header 'authorization: Bearer letmein' --data 'a body that flows through five components' --compressed
show "$url/drip/3/200" --header 'authorization: Bearer letmein' --http2-prior-knowledge

echo
echo "What the log component printed meanwhile:"
kill -TERM "$server"
wait "$server"
cat "$work/out"
