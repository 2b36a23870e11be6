"""Loading a model from a directory or the Hub, and the messages if there is no model."""

import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from openlum.errors import InputError
from openlum.model import LargeUserModel

httpx2 = pytest.importorskip("httpx2")
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any connection to the network fails the test."""

    def connect(*_: Any) -> None:
        raise AssertionError("a connection to the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr("openlum.model.pretrained.snapshot_download", connect)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", connect)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "market/model", "market/deep/model", "model", "./model", "../model", ".", "~/model", "/nowhere/model",
        Path("owner/model"), "owner/model/", "a/b/c", "/",
    ],
)  # fmt: skip
def test_a_path_is_never_looked_up_on_the_hub(tmp_path: Path, name: str | Path) -> None:
    (tmp_path / "market").mkdir()
    with pytest.raises(InputError, match="lum pretrain"):
        LargeUserModel.from_pretrained(name)


def test_a_file_is_refused_as_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"model\.safetensors: is a file; pass the directory"):
        LargeUserModel.from_pretrained("model.safetensors")


def test_the_home_directory_is_expanded(model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(LargeUserModel.from_pretrained("~/model").items(), model.items())


RESPONSE = httpx2.Response(401, request=httpx2.Request("GET", "https://huggingface.co"))
REQUEST = RESPONSE.request


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found", response=RESPONSE),
            "no model of this name",
        ),
        (GatedRepoError("403 Client Error.\n\nCannot access", response=RESPONSE), "must grant access"),
        (HfHubHTTPError("500 Server Error\nfor url", response=RESPONSE), "HfHubHTTPError: 500 Server Error"),
        (httpx2.ConnectError("[Errno -2] Name or service not known"), "ConnectError: .*Name or service"),
        (httpx2.ConnectTimeout("timed out"), "ConnectTimeout"),
        (httpx2.ProxyError("407 Proxy Authentication Required"), "ProxyError: 407"),
        (httpx2.RemoteProtocolError("closed"), "RemoteProtocolError"),
        (OfflineModeIsEnabled("offline mode is enabled"), "offline mode"),
        (OSError("certificate verify failed"), "certificate"),
        (ValueError("odd"), "odd"),
    ],
)
def test_every_failure_of_the_hub_gives_one_line_after_one_request(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """Without a connection, only earlier downloads are searched."""
    downloads: list[bool] = []

    def fail(*_: Any, **__: Any) -> None:
        raise error

    def download(*_: Any, local_files_only: bool, **__: Any) -> None:
        downloads.append(local_files_only)
        raise huggingface_hub.errors.LocalEntryNotFoundError("Cannot find a cached snapshot\nfolder")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    monkeypatch.setattr("openlum.model.pretrained.snapshot_download", download)
    with pytest.raises(InputError, match=rf"^owner/model: no such directory, and .*{reason}.*lum pretrain") as raised:
        LargeUserModel.from_pretrained("owner/model")
    assert "\n" not in str(raised.value)
    assert downloads in ([], [True])


def test_a_downloaded_model_is_loaded_without_a_connection(
    model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "copy")
    requests: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        requests.append({"name": name} | options)
        return str(tmp_path / "copy")

    def fail(*_: Any, **__: Any) -> None:
        raise httpx2.ConnectError("no network")

    monkeypatch.setattr("openlum.model.pretrained.snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    assert torch.equal(LargeUserModel.from_pretrained("owner/model", revision="v1").items(), model.items())
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    assert torch.equal(LargeUserModel.from_pretrained("owner/model").items(), model.items())
    assert [request["name"] for request in requests] == ["owner/model"] * 2
    assert requests[0]["revision"] == "v1"
    assert "local_files_only" not in requests[0]
    assert requests[1]["local_files_only"]


def test_the_message_names_an_unknown_option() -> None:
    for name in ("owner/model", "."):
        with pytest.raises(
            InputError, match=r"revison: unknown option of from_pretrained; choose from map_location and, .*revision"
        ):
            LargeUserModel.from_pretrained(name, revison="v1")


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:7", "mps", "meta", "nonsense", torch.device("cuda", 3), None, 1.5, [], 0]
)
def test_a_missing_device_is_refused(
    model: LargeUserModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Any
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    model.save_pretrained(tmp_path / "model")
    for load in (LargeUserModel.load, LargeUserModel.from_pretrained):
        with pytest.raises(
            InputError, match=r"map_location: the device .* is missing or cannot be used \(.*\); choose from: cpu"
        ):
            load(tmp_path / "model", map_location=device)
