from tests.house import count_house


def test_the_house_keeps_its_limits() -> None:
    broken = [str(count) for count in count_house() if count.limit is not None and count.found > count.limit]
    assert not broken, "\n".join(broken)
