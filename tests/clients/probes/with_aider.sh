set -eu
# settings
export OPENAI_API_BASE="$OPENAI_BASE_URL"
model="openai/$1"
# end
case $2 in
  chat) stream=--no-stream ;;
  stream) stream=--stream ;;
  *) exit 3 ;;  # it changes files by what a text says, and offers no tool
esac
aider --model "$model" "$stream" --no-git --yes-always --no-check-update --analytics-disable --no-pretty \
  --no-show-model-warnings --message Hello < /dev/null
