-- What the response cache saved at the prices of the day, and prompt caches of servers, estimated from prices paid
SELECT server, model, requests, response_cache_hits, hits_without_price, response_cache_saved,
  cache_read_input_tokens,
  round(100e0 * cache_read_input_tokens / nullif(input_tokens, 0), 2) AS percent_of_input,
  round((cache_read_input_tokens + cache_creation_input_tokens) * paid_input / nullif(fresh_input_tokens, 0)
    - paid_cached, 6) AS prompt_cache_saved
FROM (
  SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
    count(*) FILTER (WHERE cache_status = 'HIT') AS response_cache_hits,
    count(*) FILTER (WHERE cache_status = 'HIT' AND cost_saved IS NULL) AS hits_without_price,
    sum(cost_saved) AS response_cache_saved,
    sum(input_tokens) FILTER (WHERE paid) AS input_tokens,
    sum(cache_read_input_tokens) FILTER (WHERE paid) AS cache_read_input_tokens,
    sum(cache_creation_input_tokens) FILTER (WHERE paid) AS cache_creation_input_tokens,
    sum(greatest(input_tokens - cache_read_input_tokens - cache_creation_input_tokens - input_audio_tokens
      - CASE WHEN cost_image_input IS NULL THEN 0 ELSE input_image_tokens END, 0))
      FILTER (WHERE paid) AS fresh_input_tokens,
    CAST(sum(cost_input) FILTER (WHERE paid) AS double) AS paid_input,
    CAST(sum(cost_cached_input + cost_cache_write) FILTER (WHERE paid) AS double) AS paid_cached
  FROM (SELECT *, pricing = 'priced' AND coalesce(cache_status, '-') <> 'HIT' AS paid FROM inferences)
  WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  GROUP BY coalesce(server, '-'), coalesce(model, '-')
)
WHERE response_cache_hits > 0 OR cache_read_input_tokens > 0
ORDER BY coalesce(prompt_cache_saved, 0) + coalesce(CAST(response_cache_saved AS double), 0) DESC, server, model
