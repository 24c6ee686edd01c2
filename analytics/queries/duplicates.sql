-- How many copies the view leaves out, by the day they arrived
SELECT dt, count(*) AS arrived, count(*) - count(DISTINCT id) AS copies_of_the_same_day,
  count(*) FILTER (WHERE revision > 0) AS priced_again, count(*) FILTER (WHERE day < dt) AS of_earlier_days
FROM entries
WHERE dt >= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)
GROUP BY dt
ORDER BY dt
