"""The limits table: what the proxy takes and gives back there, settle_limits settles, and `openai-proxy keys` shows.

    limits#<limits_id>    minute, requests, tokens     of the current minute; tokens are estimates until an answer is
                                                       complete
      of a key, or of a   live                         {lease: its end (Unix)} of requests that run, of keys that are
      line of rotated                                  given something back at their end; of keys with a budget
      keys                                             {lease: {end, cost, at}}: what is reserved (USD), and when
                          took                         {lease: its end} of other keys: requests of a moment ago
                          day, day_cost, day_spent     of the day (UTC) of the latest take: with what is reserved, and
                                                       settled alone; month, month_cost, month_spent likewise
                          r_<yyyymmdd>_<quarter>       cost of requests that were taken in that quarter of an hour,
                                                       that have ended, and are not settled yet
                          told_day, told_day_budget    the highest threshold that was told, and of which budget
    settled#<ulid>        expires_at                   is there when the inference is settled
    price#<server>#<model>  input, output, answer      USD per token, and the tokens that an answer usually has

A lease is called by the last characters of its inference's id. Its one rule: a reservation belongs to the day, the
month and the quarter in which it was taken, whenever it is settled.
"""
