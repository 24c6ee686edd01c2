-- How much of the output was reasoning, by model, and what it cost
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  sum(output_tokens) AS output_tokens, sum(reasoning_output_tokens) AS reasoning_tokens,
  round(100e0 * sum(reasoning_output_tokens) / nullif(sum(output_tokens), 0), 2) AS percent_of_output,
  sum(cost_reasoning) AS cost_reasoning,
  round(100e0 * CAST(sum(cost_reasoning) AS double) / nullif(CAST(sum(cost) AS double), 0e0), 2) AS percent_of_cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND coalesce(cache_status, '-') <> 'HIT'
GROUP BY coalesce(server, '-'), coalesce(model, '-')
HAVING sum(reasoning_output_tokens) > 0
ORDER BY 5 DESC, 1, 2
