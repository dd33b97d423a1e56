import pytest
import torch

from batchdigit import DeviceError, UsageError
from batchdigit.backends.torch_device import choose_device, describe_device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Fast One")


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert choose_device("auto") == torch.device("cpu")
    assert describe_device(torch.device("cpu")) == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_auto_prefers_cuda() -> None:
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert describe_device(torch.device("cuda:1")) == "cuda:1 (Fast One)"


def test_auto_takes_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_named_device_that_is_missing_is_an_error(name: str) -> None:
    with pytest.raises(DeviceError, match=name):
        choose_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_named_device_beyond_the_last_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"cuda:2 is not here; usable CUDA devices: 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "xla", "meta", "cpu:3", "mps:7"]
)
def test_name_of_no_device_is_an_error(name: str) -> None:
    with pytest.raises(UsageError):
        choose_device(name)
