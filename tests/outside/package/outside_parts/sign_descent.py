"""An optimiser: steps of one length, in the direction of the gradient's sign."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("outside_parts")
class SignDescent(keras.optimizers.Optimizer):
    """Source: Bernstein et al., signSGD (2018)."""

    def __init__(self, learning_rate: Any = 0.001, *, share: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.share = share

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.sign(ops.convert_to_tensor(gradient))
        self.assign_sub(variable, self.share * rate * gradient)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"share": self.share}
