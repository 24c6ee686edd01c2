-- How long completed requests took that a server answered, in seconds (nearest rank, so each was measured)
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  min(duration) FILTER (WHERE duration_rank >= 0.5) AS duration_p50,
  min(duration) FILTER (WHERE duration_rank >= 0.95) AS duration_p95,
  min(duration) FILTER (WHERE duration_rank >= 0.99) AS duration_p99,
  min(time_to_first_chunk) FILTER (WHERE first_chunk_rank >= 0.5) AS first_chunk_p50,
  min(time_to_first_chunk) FILTER (WHERE first_chunk_rank >= 0.95) AS first_chunk_p95,
  min(time_to_first_chunk) FILTER (WHERE first_chunk_rank >= 0.99) AS first_chunk_p99,
  min(proxy_duration) FILTER (WHERE proxy_rank >= 0.99) AS proxy_p99
FROM (
  SELECT server, model, duration, time_to_first_chunk, proxy_duration,
    cume_dist() OVER (PARTITION BY server, model ORDER BY duration) AS duration_rank,
    cume_dist() OVER (PARTITION BY server, model, time_to_first_chunk IS NULL ORDER BY time_to_first_chunk)
      AS first_chunk_rank,
    cume_dist() OVER (PARTITION BY server, model ORDER BY proxy_duration) AS proxy_rank
  FROM inferences
  WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
    AND outcome = 'completed' AND coalesce(cache_status, '-') <> 'HIT'
)
GROUP BY coalesce(server, '-'), coalesce(model, '-')
ORDER BY requests DESC, 1, 2
