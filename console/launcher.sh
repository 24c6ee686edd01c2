#!/bin/sh
# Starts `openai-proxy` of a checkout: `make` copies it beside the Python of that checkout, as an installer has its own.
# Python itself answers Ctrl-C in its first moments with a traceback. So the signal is held back, where `env` can do
# that, until the command has said what is to happen then.
here=${0%/*}
[ -x "$here/python" ] || here=$(dirname "$(readlink -f "$0")")
env --block-signal=INT true 2>/dev/null && exec env --block-signal=INT "$here/python" -P -m console "$@"
exec "$here/python" -P -m console "$@"
