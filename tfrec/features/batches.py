"""The prepared data as tensors in memory, and batches gathered from them by row."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.schema import Batch


class InputTables:
    """Everything a tower reads, indexed by item, user or text; row 0 is unknown or empty.

    Args:
        data: The prepared data set.
        item_tokens: int32 [num_items + 1, length].
        text_tokens: int32 [num_texts, length], row 0 the empty text.

    Attributes:
        item_tokens, text_tokens: As given, as tensors.
        item_id_rows: int32 [num_items + 1], row of the id table; 0 for items without training
            targets.
        user_id_rows: int32 [num_users + 1], likewise.
        item_features: Feature name to [num_items + 1, ...].
        user_features: Feature name to [num_users + 1, ...].
    """

    def __init__(
        self, data: PreparedData, item_tokens: np.ndarray, text_tokens: np.ndarray
    ) -> None:
        self._data = data
        self._context_features = data.context_inputs
        self.item_tokens = tf.constant(item_tokens)
        self.text_tokens = tf.constant(text_tokens)
        self.item_id_rows = tf.constant(data.item_id_rows)
        self.user_id_rows = tf.constant(data.user_id_rows)
        self.item_features = {name: tf.constant(v) for name, v in data.item_inputs.items()}
        self.user_features = {name: tf.constant(v) for name, v in data.user_inputs.items()}

    def requests(self, contexts: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers n requests.

        Args:
            contexts: int [n], rows of the prepared contexts.

        Returns:
            ``user_index`` and ``text_index``, int32 [n], ``history``, int32 [n, max_history], and
            the request features under their names.
        """
        return {
            **self.request_rows(contexts),
            Batch.TEXT_INDEX: self._data.contexts["text_index"].to_numpy()[contexts],
            Batch.HISTORY: self._data.histories(contexts),
        }

    def request_rows(self, contexts: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers what `request_features` needs: ``user_index`` and the request features."""
        return {
            Batch.USER_INDEX: self._data.contexts["user_index"].to_numpy()[contexts],
            **{name: values[contexts] for name, values in self._context_features.items()},
        }

    def request_features(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Joins the attributes of a batch's users to its request features."""
        of_user = {
            name: tf.gather(values, batch[Batch.USER_INDEX])
            for name, values in self.user_features.items()
        }
        return of_user | {name: batch[name] for name in self._context_features}


def trim(tokens: tf.Tensor) -> tf.Tensor:
    """Cuts trailing padding columns that no row needs; int32 [n, length] to [n, shorter]."""
    lengths = tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1)
    return tokens[:, : tf.maximum(tf.reduce_max(lengths), 1)]
