set -eu
# settings
cat > opencode.json <<JSON
{"provider": {"proxy": {"npm": "@ai-sdk/openai-compatible", "models": {"$1": {}},
  "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"}}}}
JSON
# end
echo "Rain in Paris" > example
case $2 in
  stream) said=Hello ;;
  tool) said="Use the tool read." ;;
  *) [ "$1" = demo ] && exit 3; said=Hello ;;  # it only streams
esac
npx opencode run -m "proxy/$1" "$said" < /dev/null
