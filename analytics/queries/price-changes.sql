-- When a model's price of input or output changed, and what the change has cost or saved since
SELECT server, model, price_rule, price_version, since, requests,
  round(input_before * 1e6, 6) AS input_before, round(input_price * 1e6, 6) AS input_after,
  round(output_before * 1e6, 6) AS output_before, round(output_price * 1e6, 6) AS output_after,
  round(coalesce((input_price - input_before) * fresh, 0e0)
    + coalesce((output_price - output_before) * written, 0e0), 6) AS effect
FROM (
  SELECT *,
    lag(input_price) OVER (PARTITION BY server, model, price_rule ORDER BY since, price_version) AS input_before,
    lag(output_price) OVER (PARTITION BY server, model, price_rule ORDER BY since, price_version) AS output_before
  FROM (
    SELECT server, model, price_rule, price_version, min(day) AS since, count(*) AS requests, sum(fresh) AS fresh,
      sum(written) AS written, CAST(sum(cost_input) AS double) / nullif(sum(fresh), 0) AS input_price,
      CAST(sum(cost_output) AS double) / nullif(sum(written), 0) AS output_price
    FROM (
      SELECT coalesce(server, '-') AS server, coalesce(model, '-') AS model, price_rule, price_version, day, cost_input,
        cost_output,
        greatest(input_tokens - cache_read_input_tokens - cache_creation_input_tokens - input_audio_tokens
          - CASE WHEN cost_image_input IS NULL THEN 0 ELSE input_image_tokens END, 0) AS fresh,
        output_tokens - reasoning_output_tokens - output_audio_tokens
          - CASE WHEN cost_image_output IS NULL THEN 0 ELSE output_image_tokens END AS written
      FROM inferences
      WHERE day >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
        AND pricing = 'priced' AND coalesce(cache_status, '-') <> 'HIT'
    )
    GROUP BY server, model, price_rule, price_version
  )
)
WHERE abs(input_price - input_before) > 1e-12 OR abs(output_price - output_before) > 1e-12
ORDER BY since, server, model, price_rule, price_version
