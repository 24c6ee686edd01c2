-- What each end user cost, and what a request and a day of use cost
SELECT client_id, end_user, count(*) AS requests, count(DISTINCT day) AS days,
  sum(input_tokens + output_tokens) AS tokens, sum(cost) AS cost,
  round(CAST(sum(cost) AS double) / count(cost), 9) AS cost_per_request,
  round(CAST(sum(cost) AS double) / count(DISTINCT day), 9) AS cost_per_day
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  AND end_user IS NOT NULL
GROUP BY client_id, end_user
ORDER BY coalesce(sum(cost), 0) DESC, 1, 2
LIMIT 100
