from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfrec.errors import ExportError
from tfrec.export.saved_model import _compare

WANTED = {
    "item_id": [["a", "b", "c"]],
    "score": [[0.5, 0.5, 0.25]],
    "probability": [[0.1, 0.2, 0.3]],
}


def compare(**came: list[list[object]]) -> dict[str, object]:
    signature = SimpleNamespace(
        name="recommend", function=lambda request: {n: tf.constant(v) for n, v in WANTED.items()}
    )
    answers = {
        f"recommend/{name}": np.array(rows, str if name == "item_id" else np.float32)
        for name, rows in {**WANTED, **came}.items()
    }
    return _compare(signature, {"query": np.array(["x"])}, answers)


def test_equal_answers_count_their_rows_and_largest_difference():
    assert compare() == {"rows": 1, "largest_difference": 0.0}
    found = compare(probability=[[0.1, 0.2, 0.30005]])
    assert found["largest_difference"] == pytest.approx(5e-5, rel=1e-2)


def test_items_of_equal_score_may_change_places():
    swapped = compare(item_id=[["b", "a", "c"]], probability=[[0.2, 0.1, 0.3]])
    assert swapped == {"rows": 1, "largest_difference": 0.0}


@pytest.mark.parametrize(
    "came",
    [
        {"item_id": [["a", "d", "c"]], "score": [[0.5, 0.49, 0.25]]},
        {"item_id": [["a", "c", "b"]], "score": [[0.5, 0.25, 0.5]]},
        {"score": [[0.5, 0.4, 0.25]]},
        {"probability": [[0.1, 0.2, np.nan]]},
    ],
)
def test_other_items_and_other_numbers_are_told(came):
    with pytest.raises(ExportError, match="signature 'recommend', output"):
        compare(**came)
