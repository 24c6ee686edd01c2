-- What has no price, and why; none of it is in any cost
SELECT unpriced_reason, coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, min(day) AS first_day, max(day) AS last_day
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND pricing = 'unpriced'
GROUP BY unpriced_reason, coalesce(server, '-'), coalesce(model, '-')
ORDER BY requests DESC, 1, 2, 3
