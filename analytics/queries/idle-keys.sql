-- Keys that were used, but not in the latest seven days
SELECT client_id, key_id, client_name, last_day, idle_days, requests, cost
FROM (
  SELECT client_id, key_id, max(client_name) AS client_name, max(day) AS last_day,
    date_diff('day', CAST(max(day) AS date), max(latest)) AS idle_days, count(*) AS requests, sum(cost) AS cost
  FROM (
    SELECT *, CAST(max(day) OVER () AS date) AS latest
    FROM inferences
    WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  )
  WHERE key_id IS NOT NULL
  GROUP BY client_id, key_id
)
WHERE idle_days >= 7
ORDER BY idle_days DESC, client_id, key_id
