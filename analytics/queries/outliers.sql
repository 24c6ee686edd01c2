-- Days on which a client cost far more than on its own days before: above their mean by three standard deviations
SELECT day, client_id, requests, cost, round(usual, 9) AS usual_cost,
  round(CAST(cost AS double) / usual, 2) AS times_usual, days_before
FROM (
  SELECT day, client_id, requests, cost,
    avg(CAST(cost AS double))
      OVER (PARTITION BY client_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS usual,
    stddev_samp(CAST(cost AS double))
      OVER (PARTITION BY client_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS deviation,
    count(*) OVER (PARTITION BY client_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS days_before
  FROM (
    SELECT day, client_id, count(*) AS requests, sum(cost) AS cost
    FROM inferences
    WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
      AND cost IS NOT NULL
    GROUP BY day, client_id
  )
)
WHERE days_before >= 5 AND usual > 0 AND CAST(cost AS double) > usual + 3 * deviation
ORDER BY CAST(cost AS double) / usual DESC, 1, 2
