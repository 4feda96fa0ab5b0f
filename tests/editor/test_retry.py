"""How long a server asks to be left alone."""

from monoglot.editor.retry import retry_after


def test_a_date_without_a_zone_and_numbers_that_are_none() -> None:
    assert retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0
    assert [retry_after(text) for text in ("-1", "nan", "1e9", "²", None)] == [None] * 5
