-- What each day cost
SELECT day, count(*) AS requests, count(*) FILTER (WHERE outcome = 'failed') AS failed,
  count(*) FILTER (WHERE pricing = 'unpriced') AS unpriced, count(DISTINCT client_id) AS clients,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost) AS cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY day
ORDER BY day
