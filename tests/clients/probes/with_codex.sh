set -eu
# settings
mkdir -p "$HOME/.codex" && cat > "$HOME/.codex/config.toml" <<TOML
model_provider = "proxy"
model_providers.proxy = {name = "proxy", base_url = "$OPENAI_BASE_URL", env_key = "OPENAI_API_KEY"}
TOML
# end
case $2 in
  stream) said=Hello ;;
  tool) said="Use the tool exec_command." ;;
  *) [ "$1" = demo ] && exit 3; said=Hello ;;  # it only streams
esac
npx codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m "$1" "$said" < /dev/null
