from openai_proxy.backoff import pause_before_retry


def test_a_pause_doubles_up_to_a_second_and_is_drawn_from_all_of_it():
    longest = dict.fromkeys(range(1, 9), 0.0)
    for attempt in longest:
        pauses: list[float] = []
        for _ in range(300):
            pause_before_retry(attempt, 0.05, pauses.append)
        assert min(pauses) < 0.2 * max(pauses), "who failed together tries again at another time"
        longest[attempt] = max(pauses)

    assert all(longest[attempt] <= min(1.0, 0.05 * 2**attempt) for attempt in longest)
    assert longest[1] < longest[2] < longest[3] < longest[4]
