"""Codes and their words: a code is a text, and each one says what it means and what to do."""

from __future__ import annotations

import json
import pickle

import pytest

from secost.glossary import CAUTIONS, NOTES, SERIOUS, Caution, Code, Note


@pytest.mark.parametrize("code", [*Caution, *Note])
def test_a_code_is_a_text_with_words(code: Code) -> None:
    assert code.meaning and code.next_step and not code.meaning.endswith(".")
    assert str(code) == f"{code}" == json.loads(json.dumps([code]))[0] and code in {str(code)}
    assert pickle.loads(pickle.dumps(code)) is code


def test_codes_are_found_by_the_text_that_a_record_holds() -> None:
    assert CAUTIONS["control-failed"] is Caution.CONTROL_FAILED and NOTES["baseline-moved"] is Note.BASELINE_MOVED
    assert "one-process" in SERIOUS and "drift" not in SERIOUS and "made-up" not in CAUTIONS


def test_a_code_of_both_lists_has_words_for_each() -> None:
    assert CAUTIONS.keys() & NOTES.keys() == {"one-process"}
    assert Caution.ONE_PROCESS == Note.ONE_PROCESS and Caution.ONE_PROCESS.meaning != Note.ONE_PROCESS.meaning
