-- What each conversation cost that requests name in their tag conversation
SELECT client_id, try(tags['conversation']) AS conversation, count(*) AS requests,
  count(*) FILTER (WHERE outcome = 'failed') AS failed, min(day) AS first_day, max(day) AS last_day,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost) AS cost,
  round(CAST(sum(cost) AS double) / count(cost), 9) AS cost_per_request
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND try(tags['conversation']) IS NOT NULL
GROUP BY client_id, try(tags['conversation'])
ORDER BY coalesce(sum(cost), 0) DESC, 1, 2
LIMIT 100
