set -eu
# settings
cat > config.yaml <<YAML
{name: proxy, version: 1.0.0, schema: v1, models: [
  {name: proxy, provider: openai, model: $1, apiBase: "$OPENAI_BASE_URL", apiKey: $OPENAI_API_KEY}]}
YAML
# end
echo "Rain in Paris" > example
case $2 in
  stream) said=Hello ;;
  tool) said="Use the tool Read." ;;
  *) [ "$1" = demo ] && exit 3; said=Hello ;;  # it only streams
esac
npx cn -p --config config.yaml "$said" < /dev/null
