-- How much of each model's requests has no price or an estimated usage, so how far its cost can be trusted
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  count(*) FILTER (WHERE pricing = 'unpriced') AS unpriced,
  round(100e0 * count(*) FILTER (WHERE pricing = 'unpriced') / count(*), 2) AS percent_unpriced,
  count(*) FILTER (WHERE usage_source = 'estimated') AS estimated,
  round(100e0 * count(*) FILTER (WHERE usage_source = 'estimated') / count(*), 2) AS percent_estimated,
  count(*) FILTER (WHERE usage_source IN ('missing', 'invalid')) AS usage_unknown,
  sum(cost) AS cost, sum(cost) FILTER (WHERE usage_source = 'estimated') AS cost_estimated
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY coalesce(server, '-'), coalesce(model, '-')
ORDER BY 4 DESC, 6 DESC, 1, 2
