-- The clients and end users that cost most in the latest seven days, against the seven days before them
SELECT client_id, coalesce(end_user, '-') AS end_user,
  count(*) FILTER (WHERE age < 7) AS requests, count(*) FILTER (WHERE age >= 7) AS requests_before,
  sum(cost) FILTER (WHERE age < 7) AS cost, sum(cost) FILTER (WHERE age >= 7) AS cost_before,
  coalesce(sum(cost) FILTER (WHERE age < 7), 0) - coalesce(sum(cost) FILTER (WHERE age >= 7), 0) AS difference
FROM (
  SELECT *, date_diff('day', CAST(day AS date), CAST(max(day) OVER () AS date)) AS age
  FROM inferences
  WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
)
WHERE age < 14
GROUP BY client_id, coalesce(end_user, '-')
ORDER BY coalesce(sum(cost) FILTER (WHERE age < 7), 0) DESC, 3 DESC, 1, 2
LIMIT 20
