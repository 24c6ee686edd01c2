-- How much of each client's input the servers' prompt caches knew already
SELECT client_id, coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  count(*) FILTER (WHERE cache_read_input_tokens > 0) AS with_cached_input,
  sum(input_tokens) AS input_tokens, sum(cache_read_input_tokens) AS cache_read_input_tokens,
  sum(cache_creation_input_tokens) AS cache_creation_input_tokens,
  round(100e0 * sum(cache_read_input_tokens) / nullif(sum(input_tokens), 0), 2) AS percent_of_input
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND coalesce(cache_status, '-') <> 'HIT' AND input_tokens > 0
GROUP BY client_id, coalesce(server, '-'), coalesce(model, '-')
ORDER BY 6 DESC, 1, 2, 3
