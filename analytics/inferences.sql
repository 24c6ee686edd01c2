-- The view `inferences`: every inference once, with money as decimal(38,18) and times as timestamps (UTC).
-- record_cost may send an entry twice, and `costs reprice` sends a corrected one: the highest revision holds, and of
-- equals the first, as in the ledger.
SELECT
  id, day, CAST(replace(replace(occurred_at, 'T', ' '), 'Z', '') AS timestamp) AS occurred_at,
  request_id, response_id, outcome,
  client_id, key_id, client_name, client_owner, tags, end_user, team,
  door, operation, method, path, server, request_model, model, stream,
  status_code, upstream_status, error_type, error_source, finish_reasons,
  usage_source, usage_reason, service_tier, input_tokens, cache_read_input_tokens, cache_creation_input_tokens,
  cache_creation_1h_input_tokens, output_tokens,
  reasoning_output_tokens, input_audio_tokens, output_audio_tokens, input_image_tokens, output_image_tokens,
  audio_duration, units,
  cache_status, pricing, unpriced_reason, unpriced_units, price_version, price_rule, currency,
  CAST(cost AS decimal(38,18)) AS cost,
  CAST(cost_input AS decimal(38,18)) AS cost_input,
  CAST(cost_cached_input AS decimal(38,18)) AS cost_cached_input,
  CAST(cost_cache_write AS decimal(38,18)) AS cost_cache_write,
  CAST(cost_audio_input AS decimal(38,18)) AS cost_audio_input,
  CAST(cost_cached_audio_input AS decimal(38,18)) AS cost_cached_audio_input,
  CAST(cost_image_input AS decimal(38,18)) AS cost_image_input,
  CAST(cost_cached_image_input AS decimal(38,18)) AS cost_cached_image_input,
  CAST(cost_output AS decimal(38,18)) AS cost_output,
  CAST(cost_reasoning AS decimal(38,18)) AS cost_reasoning,
  CAST(cost_audio_output AS decimal(38,18)) AS cost_audio_output,
  CAST(cost_image_output AS decimal(38,18)) AS cost_image_output,
  CAST(cost_request AS decimal(38,18)) AS cost_request,
  CAST(cost_audio_duration AS decimal(38,18)) AS cost_audio_duration,
  CAST(cost_units AS decimal(38,18)) AS cost_units,
  CAST(cost_saved AS decimal(38,18)) AS cost_saved,
  CAST(cost_reported AS decimal(38,18)) AS cost_reported,
  request_size, response_size, chunks, attempts,
  duration, time_to_first_chunk, time_per_output_token, authorization_duration, upstream_duration, proxy_duration,
  revision
FROM (
  SELECT *, row_number() OVER (PARTITION BY day, id ORDER BY revision DESC, recorded_at) AS copy_number
  FROM entries
  WHERE dt >= '2026-01-01' AND outcome <> 'throttled'
)
WHERE copy_number = 1
