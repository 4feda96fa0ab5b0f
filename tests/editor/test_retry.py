"""How long to wait: what a server asks for, else longer each time, and never too long."""

from monoglot.editor.retry import pause, retry_after


def test_a_date_without_a_zone_and_numbers_that_are_none() -> None:
    assert retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0
    assert [retry_after(text) for text in ("-1", "nan", "1e9", "²", None)] == [None] * 5


def test_waits_grow_and_are_bounded() -> None:
    for tried, longest in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (99, 60)):
        assert all(longest / 2 <= pause(tried, None) <= longest for _ in range(20))
    assert pause(1, 17.5) == 17.5
