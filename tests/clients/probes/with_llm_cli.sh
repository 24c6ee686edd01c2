set -eu
export LLM_USER_PATH="$PWD/llm"
mkdir -p "$LLM_USER_PATH"
# settings
cat > "$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- {model_id: proxy, model_name: $1, api_base: "$OPENAI_BASE_URL", api_key_name: proxy}
YAML
# end
if [ "$2" = stream ]; then set -- ""; else set -- --no-stream; fi
llm -m proxy --key "$OPENAI_API_KEY" $1 Hello
