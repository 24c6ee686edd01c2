-- The keys and end users with the most tokens, and their part of all tokens in percent
SELECT client_id, coalesce(key_id, '-') AS key_id, coalesce(end_user, '-') AS end_user, count(*) AS requests,
  sum(input_tokens + output_tokens) AS tokens,
  round(100e0 * sum(input_tokens + output_tokens)
    / nullif(sum(sum(input_tokens + output_tokens)) OVER (), 0), 2) AS percent_of_tokens,
  sum(cost) AS cost
FROM inferences
WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY client_id, coalesce(key_id, '-'), coalesce(end_user, '-')
ORDER BY tokens DESC, client_id, 2, 3
LIMIT 20
