"""The one Accelerator: what it is told on a GPU, though there is none here; the environment has no say in it."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from accelerate import DistributedType
from accelerate.state import AcceleratorState
from accelerate.utils import reduce

from restok_cli.accelerator import Sharding, make_accelerator
from restok_cli.errors import RestokError
from restok_cli.processes import connect, joined


@pytest.fixture
def a_gpu(monkeypatch, tmp_path):
    """A machine that looks as if it had a GPU, and a process group of one; what it was started with."""
    started = {}
    join = dist.init_process_group

    def join_alone(**options):
        started.update(options, local_rank=os.environ["LOCAL_RANK"])
        join("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)

    monkeypatch.setattr(dist, "init_process_group", join_alone)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: started.update(device=device))
    monkeypatch.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    AcceleratorState._reset_state(True)
    yield started
    AcceleratorState._reset_state(True)
    dist.destroy_process_group()


@pytest.mark.parametrize("sharding", [None, Sharding("HarBlock", True)])
def test_on_a_gpu_it_has_the_device_and_the_group_that_restok_chooses(a_gpu, monkeypatch, sharding):
    monkeypatch.setenv("LOCAL_RANK", "3")  # of four tasks of SLURM, each of which sees one GPU
    launched = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true", "FSDP_BACKWARD_PREFETCH": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    device = torch.device("cuda", 0)
    made = make_accelerator(device, sharding)
    assert dict(os.environ) == before
    assert made.device == a_gpu["device"] == device
    assert (a_gpu["backend"], a_gpu["local_rank"]) == ("cpu:gloo,cuda:nccl", "0")
    assert made.local_process_index == 0  # the GPU of a copy
    assert made.ddp_handler.to_kwargs() == {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    assert made.mixed_precision == "no" and made.scaler is None
    if sharding is None:
        assert made.distributed_type == DistributedType.MULTI_GPU
    else:
        policy = made.state.fsdp_plugin.mixed_precision_policy
        assert made.is_fsdp2 and made.state.fsdp_plugin.transformer_cls_names_to_wrap == ["HarBlock"]
        assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert reduce(torch.tensor([2, 3]), "sum").tolist() == [2, 3]


def test_processes_that_count_otherwise_than_restok_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("atexit.register", lambda _: None)
    others = SimpleNamespace(process_index=3, num_processes=4)
    monkeypatch.setattr("restok_cli.accelerator.make_accelerator", lambda *_: others)
    with pytest.raises(RestokError, match=r"takes this for process 3 of 4, and RANK and WORLD_SIZE for 0 of 2; start"):
        connect(torch.device("cpu"))
    assert not joined
