-- How long clients waited for the first chunk of a server's answer, by model and hour, in seconds (nearest rank)
SELECT hour, server, model, count(*) AS requests,
  min(time_to_first_chunk) FILTER (WHERE first_chunk_rank >= 0.5) AS first_chunk_p50,
  min(time_to_first_chunk) FILTER (WHERE first_chunk_rank >= 0.95) AS first_chunk_p95,
  max(time_to_first_chunk) AS first_chunk_max
FROM (
  SELECT *, cume_dist() OVER (PARTITION BY hour, server, model ORDER BY time_to_first_chunk) AS first_chunk_rank
  FROM (
    SELECT substr(CAST(date_trunc('hour', occurred_at) AS varchar), 1, 16) AS hour, coalesce(server, '-') AS server,
      coalesce(model, '-') AS model, time_to_first_chunk
    FROM inferences
    WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
      AND outcome = 'completed' AND coalesce(cache_status, '-') <> 'HIT' AND time_to_first_chunk IS NOT NULL
  )
)
GROUP BY hour, server, model
ORDER BY 1, 2, 3
