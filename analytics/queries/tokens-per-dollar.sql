-- How many tokens a dollar bought, by model
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost) AS cost,
  round(sum(input_tokens + output_tokens) / CAST(sum(cost) AS double), 2) AS tokens_per_dollar,
  round(sum(output_tokens) / CAST(sum(cost) AS double), 2) AS output_tokens_per_dollar
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND pricing IN ('priced', 'reported') AND coalesce(cache_status, '-') <> 'HIT'
GROUP BY coalesce(server, '-'), coalesce(model, '-')
HAVING sum(cost) > 0
ORDER BY 7 DESC, 1, 2
