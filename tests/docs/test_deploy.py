"""The files of deploy/ are what TensorFlow Serving and Compose read."""

from pathlib import Path

from google.protobuf import text_format
from ruamel.yaml import YAML
from tensorflow_serving.config import model_server_config_pb2

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_models_config_names_portable_exports_below_the_mounted_folder():
    text = (DEPLOY / "models.config").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    models = config.model_config_list.config
    assert models
    assert all(model.base_path.startswith("/models/") for model in models)
    assert all(model.base_path.endswith("-portable") for model in models)
    assert all(model.model_platform == "tensorflow" for model in models)


def test_compose_mounts_what_its_command_names():
    compose = YAML(typ="safe").load(DEPLOY / "docker-compose.yml")
    (service,) = compose["services"].values()
    targets = {volume.split(":")[1] for volume in service["volumes"]}
    assert "/models" in targets
    assert any(f"--model_config_file={target}" in service["command"] for target in targets)
    for volume in service["volumes"]:
        assert (DEPLOY / volume.split(":")[0]).resolve().exists()
