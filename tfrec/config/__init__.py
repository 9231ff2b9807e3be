"""One run, one YAML file: strict, typed, every key known.

A `Config` is built by `load_config` from a file and overrides (``retrieval.epochs=3``).
Unknown keys, wrong types and values out of range raise `ConfigError` with one line that names the
file and the key. The resolved form (`Config.to_yaml`) is written beside every artefact.
"""

from tfrec.config.candidates import Candidates, CandidateSource
from tfrec.config.cleaning import Cleaning, KCore, Privacy, Sessions, Split
from tfrec.config.data import Data
from tfrec.config.execution import Execution
from tfrec.config.features import Clip, Feature, Features, Missing
from tfrec.config.filters import Filters
from tfrec.config.models import (
    Encoder,
    Evaluation,
    Export,
    Index,
    Pretraining,
    Text,
)
from tfrec.config.ranking import Calibration, Head, Ranking, RankingNegatives, TargetAttention
from tfrec.config.reading import load_config, parse_config
from tfrec.config.retrieval import Adversarial, History, Loss, Negatives, Retrieval
from tfrec.config.roles import EventKind, Events, Items, Relations, Users
from tfrec.config.run import Config
from tfrec.config.stages import ExtraStage
from tfrec.config.tables import Join, Step, TableFile, TableFiles
from tfrec.config.tuning import Tuning, TuningRange

__all__ = [
    "Adversarial",
    "Calibration",
    "CandidateSource",
    "Candidates",
    "Cleaning",
    "Clip",
    "Config",
    "Data",
    "Encoder",
    "Evaluation",
    "EventKind",
    "Events",
    "Execution",
    "Export",
    "ExtraStage",
    "Feature",
    "Features",
    "Filters",
    "Head",
    "History",
    "Index",
    "Items",
    "Join",
    "KCore",
    "Loss",
    "Missing",
    "Negatives",
    "Pretraining",
    "Privacy",
    "Ranking",
    "RankingNegatives",
    "Relations",
    "Retrieval",
    "Sessions",
    "Split",
    "Step",
    "TableFile",
    "TableFiles",
    "TargetAttention",
    "Text",
    "Tuning",
    "TuningRange",
    "Users",
    "load_config",
    "parse_config",
]
