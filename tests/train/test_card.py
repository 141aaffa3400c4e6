import hashlib

from tiny import tiny_config, tiny_method

from pellucid.train.card import write_card

ROWS = [{"step": 4, "seconds": 3600.0, "val_psnr": 21.5}, {"step": 8, "seconds": 7200.0, "val_psnr": 20.0}]


def test_a_card_tells_what_was_trained_and_what_it_reaches() -> None:
    card = write_card(
        "mine", tiny_config(), tiny_method(), ROWS, val_keys=("b", "a"), command="pellucid train x"
    )
    assert card.startswith("# mine\n")
    assert "587 parameters" in card  # 8 (5 9 + 1) + 3 (8 9 + 1)
    assert "B02, B03, B04, VV, VH" in card
    assert "pellucid train x" in card
    assert hashlib.sha256(b"a\nb").hexdigest() in card
    assert "those of step 4, 1.00 hours into the run" in card
    assert "| 4 | 21.5 |\n| 8 | 20 |" in card


def test_a_long_history_is_thinned_but_keeps_the_best_row() -> None:
    rows = [{"step": i, "seconds": 0.0, "val_psnr": 30.0 if i == 101 else 20.0} for i in range(200)]
    card = write_card("mine", tiny_config(), tiny_method(), rows)
    assert "| 101 | 30 |" in card
    assert card.count("| 20 |") == 20


def test_a_card_admits_that_nothing_was_measured() -> None:
    card = write_card("mine", tiny_config(), tiny_method(), [])
    assert "how good they are was not measured" in card
    assert "Validation" not in card


def test_a_card_explains_the_baselines_that_it_shows_and_no_others() -> None:
    plain = write_card("mine", tiny_config(), tiny_method(), ROWS)
    assert "val_psnr_input" not in plain
    compared = write_card("mine", tiny_config(), tiny_method(), [{**ROWS[0], "val_psnr_input": 20.0}])
    assert "`val_psnr_input` is that of the input" in compared
    assert "val_psnr_spectrum" not in compared
