"""What retrieval is trained on: targets, packed sequences or users, with their negatives."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables, batch_signature
from tfrec.inputs.packed import PackedSequences
from tfrec.inputs.sequences import cut_sequences
from tfrec.inputs.user_rows import UserRows
from tfrec.schema import SPLITS, Batch, Columns
from tfrec.training.negatives import KnownPositives, PassedOver, mine


class Targets:
    """What is trained on, in units of which a batch takes some: targets, packed sequences, users.

    Attributes:
        num_units: Number of units.
        batch_size: Units of a batch.
        variables: What a checkpoint must hold besides the model.
    """

    def __init__(self, data: PreparedData, tables: InputTables, config: Config) -> None:
        self._data = data
        self._tables = tables
        self._loss = config.retrieval.loss
        self._seed = config.seed
        examples = data.examples
        self._context = examples["context"].to_numpy()
        self._item_index = examples["item_index"].to_numpy()
        self._weight = examples[Columns.WEIGHT].to_numpy()
        self._rating = _ratings(data) if self._loss.kind == "mse" else None
        self.rows = _rated_rows(data) if self._rating is not None else data.target_rows("train")
        masks = self._loss.mask_known_positives and self._loss.samples
        self._known = KnownPositives(data) if masks else None
        negatives = self._loss.negatives
        self._passed_over = PassedOver(data) if negatives.impressed else None
        self._mined: keras.Variable | None = None
        self._number_of = np.zeros(0, np.int64)
        if negatives.mined:
            self._mined = keras.Variable(
                np.zeros((len(self.rows), negatives.mined), np.int32),
                trainable=False,
                dtype="int32",
                name="mined",
            )
            self._mined_rows = keras.ops.convert_to_numpy(self._mined)
            self._number_of = np.zeros(examples.height, np.int64)
            self._number_of[self.rows] = np.arange(len(self.rows))
        self.num_units = len(self.rows)
        self._packed: PackedSequences | None = None
        if self._loss.targets == "positions":
            sequences = cut_sequences(data, self.rows, data.max_history)
            self._packed = PackedSequences(sequences, tables, config.seed)
            self.num_units = self._packed.num_rows
        self._of_users: UserRows | None = None
        if self._loss.targets == "users":
            _check_users_are_one_request(data)
            users = data.contexts[Batch.USER_INDEX].to_numpy()
            self._of_users = UserRows(self.rows, users[self._context[self.rows]])
            self.num_units = self._of_users.num_users
        self.batch_size = min(config.retrieval.batch_size, self.num_units)

    @property
    def variables(self) -> list[keras.Variable]:
        return [] if self._mined is None else [self._mined]

    def gather(self, units: np.ndarray) -> dict[str, np.ndarray]:
        """Gathers histories, targets, their requests and what they have to win against."""
        if self._of_users is not None:
            rows = self._of_users.gather(units)
            nothing = np.zeros((len(rows), 1), np.int32)
            requests = self._tables.request_fields(self._context[rows])
            return {**self._fields(rows), **requests, Batch.HISTORY: nothing}
        if self._packed is None:
            rows = self.rows[units]
            return {**self._fields(rows), **self._tables.requests(self._context[rows])}
        histories, rows = self._packed.gather(units)
        return {
            **histories,
            **self._fields(rows),
            **self._tables.request_fields(self._context[rows]),
        }

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Returns name, type and shape of what `gather` gives, any number of units."""
        return batch_signature(self.gather(np.zeros(0, np.int64)))

    def begin_round(self, embedder: Embedder, number: int, first_step: int) -> None:
        """Finds hard negatives with the model as it is at the beginning of a round.

        In the middle of one they are those that the checkpoint gave back.
        """
        if self._mined is None:
            return
        if first_step == 0:
            catalogue = embedder.catalogue()
            contexts = self._context[self.rows]
            users = self._data.contexts["user_index"].to_numpy()[contexts]
            found = mine(
                embedder.requests(contexts, catalogue),
                catalogue,
                KnownPositives(self._data).pairs(users),
                count=self._loss.negatives.mined,
                depth=self._loss.negatives.mined_depth,
                rng=np.random.default_rng([self._seed, number]),
            )
            self._mined.assign(found)
        self._mined_rows = keras.ops.convert_to_numpy(self._mined)

    def mean_rating(self) -> float:
        """Returns the mean of the ratings that are trained on, 0 without any."""
        return 0.0 if self._rating is None else float(self._rating[self.rows].mean())

    def _fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        fields = {
            Batch.ITEM_INDEX: self._item_index[rows],
            Batch.WEIGHT: self._weight[rows],
            Batch.NEGATIVES: self._hard_negatives(rows),
        }
        if self._rating is not None:
            fields[Batch.RATING] = self._rating[rows]
        if self._known is not None:
            users = self._data.contexts["user_index"].to_numpy()[self._context[rows]]
            fields[Batch.KNOWN_ROW], fields[Batch.KNOWN_ITEM] = self._known.pairs(users)
        return fields

    def _hard_negatives(self, rows: np.ndarray) -> np.ndarray:
        parts = [np.zeros((len(rows), 0), np.int32)]
        if self._passed_over is not None:
            rng = np.random.default_rng([self._seed, *rows[:1]])
            limit = self._loss.negatives.impressed
            parts.append(self._passed_over.of_contexts(self._context[rows], limit, rng))
        if self._mined is not None:
            parts.append(self._mined_rows[self._number_of[rows]])
        return np.concatenate(parts, axis=1)


def _check_users_are_one_request(data: PreparedData) -> None:
    """Raises where the requests of a user differ, so that one embedding cannot stand for all."""
    differs = sorted(data.context_inputs)
    if (data.contexts[Batch.TEXT_INDEX].to_numpy() != 0).any():
        differs.append("text")
    if differs:
        raise ConfigError(
            "retrieval.loss.targets: `users` wants requests that say nothing beside who asks, got "
            f"{', '.join(differs)}; take `requests`."
        )


def _ratings(data: PreparedData) -> np.ndarray:
    if Columns.RATING not in data.examples.columns:
        raise ConfigError("retrieval.loss.kind: `mse` needs a log with `data.events.rating`.")
    return data.examples[Columns.RATING].to_numpy()


def _rated_rows(data: PreparedData) -> np.ndarray:
    is_train = data.split_mask(SPLITS[0])
    return np.flatnonzero(is_train & np.isfinite(_ratings(data)))
