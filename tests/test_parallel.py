"""What several processes share in training: gradients, exchanged once a step, and sums."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from restok_cli.errors import UsageError
from restok_cli.training.parallel import gather_in_turn, micro_batch_numbers, sync_gradients


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradients_are_exchanged_in_the_last_micro_batch_alone(group):
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2), broadcast_buffers=False)
    exchanges = []

    def hook(_state, bucket):
        exchanges.append(bucket.buffer())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    model.register_comm_hook(None, hook)
    counts = []
    for wanted in (False, False, True):
        with sync_gradients(model, wanted):
            model(torch.ones(1, 2)).sum().backward()
        counts.append(len(exchanges))
    assert counts == [0, 0, 1]
    assert torch.equal(model.module.bias.grad, torch.full((2,), 3.0))


# Each of two processes takes every second of four micro-batches; the gradients must be those of all four in one.
TWO_PROCESSES = """
import torch
from torch import nn
from torch.nn.functional import mse_loss
from restok_cli.processes import connect, gather, rank
from restok_cli.training.parallel import wrap_ddp, micro_batch_numbers, shard, sync_gradients, all_reduce

connect(torch.device("cpu"))
torch.manual_seed(0)
inputs, targets = torch.randn(8, 4), torch.randn(8, 4)

def make():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
    return model, nn.ModuleList([model[0], model[2]])

expected, _ = make()
mse_loss(expected(inputs), targets).backward()
copied, _ = make()
sharded, blocks = make()
shard(sharded, blocks)
for model, in_training in ((copied, wrap_ddp(copied)), (sharded, sharded)):
    size, numbers = micro_batch_numbers(8, 2)
    assert list(numbers) == [rank(), rank() + 2]
    for number in numbers:
        rows = slice(number * size, (number + 1) * size)
        with sync_gradients(in_training, number == numbers[-1]):
            (mse_loss(in_training(inputs[rows]), targets[rows]) / len(numbers)).backward()
    grads = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in model.parameters()]
    everywhere = gather(grads)
    for i, parameter in enumerate(expected.parameters()):
        assert torch.equal(everywhere[0][i], everywhere[1][i])
        torch.testing.assert_close(grads[i], parameter.grad)
assert all_reduce(torch.tensor(rank() + 1)) == 3
"""


@pytest.mark.slow
def test_gradients_agree_in_all_processes_and_equal_those_of_one(tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    run = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "two.py"))
    result = subprocess.run((sys.executable, "-m", *run), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_what_was_dealt_out_in_turn_comes_back_in_order(monkeypatch):
    monkeypatch.setattr("restok_cli.training.parallel.gather", lambda mine: [mine, [1, 3]])
    assert gather_in_turn([0, 2, 4]) == [0, 1, 2, 3, 4]


def test_micro_batches_are_dealt_out_in_turn(monkeypatch):
    assert micro_batch_numbers(8, None) == (8, range(1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    size, numbers = micro_batch_numbers(8, 2)
    assert size == 2 and list(numbers) == [1, 3]
    with pytest.raises(UsageError, match="a batch of 8 cannot be cut into micro-batches of 3 for 2 processes"):
        micro_batch_numbers(8, 3)
