"""What several processes share in training: gradients, exchanged once a step, and sums."""

import subprocess
import sys

import pytest

from restok_cli.errors import UsageError
from restok_cli.training.parallel import gather_in_turn, micro_batch_numbers

# Each of two processes takes every second of four micro-batches; the gradients must be those of all four in one.
TWO_PROCESSES = """
import atexit
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn.functional import mse_loss
from restok_cli.accelerator import Sharding
from restok_cli.processes import connect, gather, joined, leave, rank
from restok_cli.training.parallel import wrap_ddp, micro_batch_numbers, shard_trained, sync_gradients, all_reduce

torch.manual_seed(0)
inputs, targets = torch.randn(8, 4), torch.randn(8, 4)

def make():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))

def mean(bucket):
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0] / 2)

def check(sharding):
    joined.clear()
    atexit.unregister(torch.distributed.destroy_process_group)  # one for all of the groups, not one for each
    AcceleratorState._reset_state(True)
    connect(torch.device("cpu"), sharding)
    expected, model, exchanges = make(), make(), []
    mse_loss(expected(inputs), targets).backward()
    if sharding:
        shard_trained(model)
        in_training = model
    else:
        in_training = wrap_ddp(model)
        in_training.register_comm_hook(None, lambda _, bucket: exchanges.append(1) or mean(bucket))
    size, numbers = micro_batch_numbers(8, 2)
    assert list(numbers) == [rank(), rank() + 2]
    for number in numbers:
        rows = slice(number * size, (number + 1) * size)
        with sync_gradients(in_training, number == numbers[-1]):
            loss = mse_loss(in_training(inputs[rows]).float(), targets[rows])
            (loss / len(numbers)).backward()
        if sharding:
            assert all((p.grad is None) == (number == numbers[0]) for p in model.parameters())
        else:
            assert len(exchanges) == (number == numbers[-1])
    grads = [p.grad.full_tensor() if sharding else p.grad for p in model.parameters()]
    everywhere = gather(grads)
    close = {"rtol": 0.05, "atol": 0.01} if sharding and sharding.in_16_bits else {}
    for i, parameter in enumerate(expected.parameters()):
        assert grads[i].dtype == torch.float32
        assert torch.equal(everywhere[0][i], everywhere[1][i])
        torch.testing.assert_close(grads[i], parameter.grad, **close)

for sharding in (None, Sharding("Linear", False), Sharding("Linear", True)):
    check(sharding)
assert all_reduce(torch.tensor(rank() + 1)) == 3
leave(0)
"""


@pytest.mark.slow
def test_gradients_agree_in_all_processes_and_equal_those_of_one(tmp_path):
    """Copied, in shards, and in shards gathered in 16 bits; exchanged in the last micro-batch alone."""
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
