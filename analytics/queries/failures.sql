-- What failed, whose fault it was, and whom it hit
SELECT coalesce(error_source, '-') AS error_source, coalesce(error_type, '-') AS error_type, status_code,
  upstream_status, coalesce(server, '-') AS server, coalesce(model, '-') AS model,
  count(*) AS requests, count(DISTINCT client_id) AS clients, max(occurred_at) AS last_time, sum(cost) AS cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND outcome = 'failed'
GROUP BY coalesce(error_source, '-'), coalesce(error_type, '-'), status_code, upstream_status,
  coalesce(server, '-'), coalesce(model, '-')
ORDER BY requests DESC, 1, 2, 3, 4, 5, 6
