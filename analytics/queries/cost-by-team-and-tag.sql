-- What each team cost by the tag feature; another tag is another name in the brackets
SELECT coalesce(team, '-') AS team, coalesce(try(tags['feature']), '-') AS feature, count(*) AS requests,
  count(DISTINCT client_id) AS clients, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
  sum(cost) AS cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY coalesce(team, '-'), coalesce(try(tags['feature']), '-')
ORDER BY coalesce(sum(cost), 0) DESC, 1, 2
