#!/bin/sh
# Streams an answer as server-sent events: one line "data: {…}" for each piece, and "data: [DONE]" at the end.
# Needs OPENAI_BASE_URL and OPENAI_API_KEY, the client key. `sh chat.sh "Your question"`
set -eu

# A question may hold quotes and line breaks: only a JSON encoder can be trusted to put it into a body.
body=$(python3 -c 'import json, sys; print(json.dumps({
  "model": sys.argv[1], "stream": True, "messages": [{"role": "user", "content": sys.argv[2]}]}))' \
  "${OPENAI_MODEL:-demo}" "${1:-Tell me about proxies}")

# -N shows every piece when it comes. --fail-with-body makes a refusal both readable and a failure of this script.
# The key goes in by standard input (-K -), because every user of a machine can read the arguments of a command.
printf 'header = "Authorization: Bearer %s"\n' "$OPENAI_API_KEY" |
  curl -N -sS --fail-with-body -K - "$OPENAI_BASE_URL/chat/completions" -H 'Content-Type: application/json' -d "$body"
