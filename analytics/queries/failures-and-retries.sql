-- What failed requests cost, and how often servers were called again
SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, count(*) AS requests,
  count(*) FILTER (WHERE outcome = 'failed') AS failed, sum(cost) FILTER (WHERE outcome = 'failed') AS cost_of_failed,
  sum(duration) FILTER (WHERE outcome = 'failed') AS seconds_of_failed,
  count(*) FILTER (WHERE attempts > 1) AS retried,
  count(*) FILTER (WHERE attempts > 1 AND outcome = 'completed') AS saved_by_retries,
  coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0) AS extra_calls,
  sum(cost) FILTER (WHERE attempts > 1) AS cost_of_retried
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY coalesce(server, '-'), coalesce(model, '-')
HAVING count(*) FILTER (WHERE outcome = 'failed' OR attempts > 1) > 0
ORDER BY coalesce(sum(cost) FILTER (WHERE outcome = 'failed'), 0) DESC, 4 DESC, 1, 2
