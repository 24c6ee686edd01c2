-- What each client has spent in the latest month and will have at its end, with a band for 19 of 20 months
SELECT client_id, spent, days, days_left, round(mean, 9) AS cost_per_day,
  round(CAST(spent AS double) + mean * days_left, 6) AS forecast,
  round(CAST(spent AS double) + greatest(mean * days_left - 1.96e0 * deviation * sqrt(days_left), 0e0), 6) AS low,
  round(CAST(spent AS double) + mean * days_left + 1.96e0 * deviation * sqrt(days_left), 6) AS high
FROM (
  SELECT client_id, spent, days, days_left, CAST(spent AS double) / days AS mean,
    -- Days without a request cost nothing, and count.
    CASE WHEN days < 2 THEN 0e0
      ELSE sqrt(greatest(squares - CAST(spent AS double) * CAST(spent AS double) / days, 0e0) / (days - 1)) END
      AS deviation
  FROM (
    SELECT client_id, sum(cost) AS spent, sum(CAST(cost AS double) * CAST(cost AS double)) AS squares,
      date_diff('day', max(since), max(latest)) + 1 AS days,
      date_diff('day', max(latest), CAST(date_trunc('month', max(latest)) + INTERVAL '1' MONTH AS date)) - 1
        AS days_left
    FROM (
      SELECT client_id, day, coalesce(sum(cost), 0) AS cost, max(latest) AS latest,
        greatest(max(earliest), CAST(date_trunc('month', max(latest)) AS date)) AS since
      FROM (
        SELECT client_id, day, cost, CAST(max(day) OVER () AS date) AS latest,
          CAST(min(day) OVER () AS date) AS earliest
        FROM inferences
        WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
      )
      WHERE substr(day, 1, 7) = substr(CAST(latest AS varchar), 1, 7)
      GROUP BY client_id, day
    )
    GROUP BY client_id
  )
)
ORDER BY forecast DESC, client_id
