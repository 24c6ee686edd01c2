-- What each model of each server cost
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  count(*) FILTER (WHERE outcome = 'failed') AS failed, count(*) FILTER (WHERE pricing = 'unpriced') AS unpriced,
  sum(input_tokens) AS input_tokens, sum(cache_read_input_tokens) AS cache_read_input_tokens,
  sum(output_tokens) AS output_tokens, sum(cost) AS cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY coalesce(server, '-'), coalesce(model, '-')
ORDER BY coalesce(sum(cost), 0) DESC, 1, 2
