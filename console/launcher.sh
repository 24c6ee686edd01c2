#!/bin/sh
# Starts `openai-proxy`. Beside it, whoever installs the command puts `openai-proxy-python`, which starts the right Python.
# Python itself answers Ctrl-C in its first moments with a traceback. So the signal is held back, where `env` can do
# that, until the command has said what is to happen then; and until then this script answers it.
trap 'printf "\nopenai-proxy: interrupted.\n" >&2; exit 130' INT
here=${0%/*}
[ -x "$here/openai-proxy-python" ] || here=$(dirname "$(readlink -f "$0")")
env --block-signal=INT true 2>/dev/null && exec env --block-signal=INT "$here/openai-proxy-python" "$@"
exec "$here/openai-proxy-python" "$@"
