import pytest

from sweep.url import StorageUrl, masked

WHOLE = "postgresql://me:two s3crets@host/base"


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r:>50}".format, "%s".__mod__])
def test_as_text_it_has_no_password(show) -> None:  # type: ignore[no-untyped-def]
    url = StorageUrl(WHOLE)
    assert "s3cret" not in show(url)
    assert "me:***@host/base" in show(url)


def test_what_opens_the_database_has_it() -> None:
    assert StorageUrl(StorageUrl(WHOLE)).revealed() == WHOLE
    assert StorageUrl(WHOLE) == StorageUrl(WHOLE)
    assert StorageUrl(WHOLE) != StorageUrl(masked(WHOLE))


def test_a_drivers_words_are_shown_without_it() -> None:
    url = StorageUrl("postgresql://me:s3cr%40et@host/base?passwd=0ther")
    said = url.hidden_in("no host 'et@host', 's3cr@et', s3cr%40et nor 0ther")
    assert said == "no host 'et@host', '***', *** nor ***"


@pytest.mark.parametrize(
    ("text", "unescaped"),
    [
        ("postgresql://me:a@b@host/base", True),
        ("postgresql://me:a%40b@host/base", False),
        ("postgresql://me@host/base?options=a@b", False),
        ("results@home/sweep.db", False),
    ],
)
def test_an_at_sign_within_is_seen(text: str, unescaped: bool) -> None:
    assert StorageUrl(text).unescaped == unescaped
