"""Is what training ended with sound? Asked of the finished model, told on every use of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.errors import TfrecError
from tfrec.metrics.diagnosis import OF_RANKING, Finding

if TYPE_CHECKING:  # an alarm is sounded without loading TensorFlow
    from tfrec.inference.embedder import Embedder

_ONLY_TOLD = ("level_with_popularity",)


class HealthError(TfrecError):
    """Training ended with a model that is not sound."""


def examine(embedder: Embedder, data: PreparedData, config: Config) -> list[Finding]:
    """Returns what a finished model shows that a sound one does not.

    Args:
        embedder: Runs the towers.
        data: The prepared data set.
        config: As for `Validation`.
    """
    from tfrec.training.validation import Validation

    validation = Validation(embedder, data, config)
    validation()
    assert validation.report is not None  # it has just been made
    findings = validation.report.findings
    if config.retrieval.loss.kind == "mse":  # made to predict ratings, not to rank the catalogue
        findings = [finding for finding in findings if finding.kind not in OF_RANKING]
    return findings


def sound_alarm(findings: Sequence[Finding], alarm: str, tell: Callable[[str], None]) -> None:
    """Raises or tells what a finished model should not show.

    Args:
        findings: From `examine`.
        alarm: ``error``, ``warn`` or ``off``; what is worth telling only is never an error.
        tell: Called with lines for people.

    Raises:
        HealthError: The model has collapsed, reads its labels or is worse than popularity.
    """
    if not findings or alarm == "off":
        return
    message = "\n".join(f"- {finding.message}" for finding in findings)
    if alarm == "error" and any(finding.kind not in _ONLY_TOLD for finding in findings):
        raise HealthError(
            f"retrieval: the finished model is not sound.\n{message}\n"
            "To go on all the same, with the weights as they are: run.health_alarm: warn."
        )
    tell(f"retrieval: warning: the finished model is not sound.\n{message}")
