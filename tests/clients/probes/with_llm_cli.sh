set -eu
export LLM_USER_PATH="$PWD/llm"
mkdir -p "$LLM_USER_PATH"
# settings
cat > "$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- {model_id: proxy, model_name: $1, api_base: "$OPENAI_BASE_URL", api_key_name: proxy, supports_tools: true}
YAML
# end
tool='def get_weather(city: str) -> str: return "Rain in " + city'
case $2 in
  chat) llm -m proxy --key "$OPENAI_API_KEY" --no-stream Hello ;;
  stream) llm -m proxy --key "$OPENAI_API_KEY" Hello ;;
  tool) llm -m proxy --key "$OPENAI_API_KEY" --functions "$tool" "Use the tool get_weather." ;;
esac
