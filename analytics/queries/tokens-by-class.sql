-- Tokens of each class, each token counted once, and what each class cost
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model,
  sum(greatest(fresh, 0)) AS fresh_input_tokens, sum(cache_read_input_tokens - special) AS cached_input_tokens,
  sum(cache_creation_input_tokens) AS cache_write_tokens,
  sum(input_audio_tokens - least(special, input_audio_tokens)) AS audio_input_tokens,
  sum(least(special, input_audio_tokens)) AS cached_audio_input_tokens,
  sum(seen - greatest(special - input_audio_tokens, 0)) AS image_input_tokens,
  sum(greatest(special - input_audio_tokens, 0)) AS cached_image_input_tokens,
  sum(output_tokens - reasoning_output_tokens - output_audio_tokens - drawn) AS text_output_tokens,
  sum(reasoning_output_tokens) AS reasoning_tokens, sum(output_audio_tokens) AS audio_output_tokens,
  sum(drawn) AS image_output_tokens,
  sum(cost_input) AS cost_input, sum(cost_cached_input) AS cost_cached_input, sum(cost_cache_write) AS cost_cache_write,
  sum(cost_audio_input) AS cost_audio_input, sum(cost_cached_audio_input) AS cost_cached_audio_input,
  sum(cost_image_input) AS cost_image_input, sum(cost_cached_image_input) AS cost_cached_image_input,
  sum(cost_output) AS cost_output, sum(cost_reasoning) AS cost_reasoning, sum(cost_audio_output) AS cost_audio_output,
  sum(cost_image_output) AS cost_image_output
FROM (
  SELECT *, -least(fresh, 0) AS special
  FROM (
    SELECT *, coalesce(input_image_tokens, 0) AS seen, coalesce(output_image_tokens, 0) AS drawn,
      input_tokens - cache_read_input_tokens - cache_creation_input_tokens - input_audio_tokens
        - coalesce(input_image_tokens, 0) AS fresh
    FROM inferences
  )
)
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY coalesce(server, '-'), coalesce(model, '-')
ORDER BY 1, 2
