-- What was refused by limits, and about what it would have cost: as much as the client's answers of that model did
SELECT client_id, server, request_model, refused, answered,
  round(coalesce(of_client, of_model), 9) AS cost_of_one,
  round(refused * coalesce(of_client, of_model), 6) AS refused_cost
FROM (
  SELECT client_id, server, request_model, count(DISTINCT refused_id) AS refused,
    count(*) FILTER (WHERE refused_id IS NULL) AS answered,
    CAST(sum(cost) AS double) / nullif(count(cost), 0) AS of_client,
    CAST(sum(sum(cost)) OVER (PARTITION BY server, request_model) AS double)
      / nullif(sum(count(cost)) OVER (PARTITION BY server, request_model), 0) AS of_model
  FROM (
    SELECT day, client_id, coalesce(server, '-') AS server, coalesce(request_model, '-') AS request_model,
      CAST(NULL AS varchar) AS refused_id, cost
    FROM inferences
    WHERE outcome = 'completed' AND coalesce(cache_status, '-') <> 'HIT'
    UNION ALL
    SELECT day, client_id, coalesce(server, '-'), coalesce(request_model, '-'), id, CAST(NULL AS decimal(38,18))
    FROM entries
    WHERE dt >= '2026-01-01' AND outcome = 'throttled'
  )
  WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
  GROUP BY client_id, server, request_model
)
WHERE refused > 0
ORDER BY coalesce(refused * coalesce(of_client, of_model), 0) DESC, refused DESC, 1, 2, 3
