"""Several processes share gradients, exchanged once a step, and sums; what a checkpoint of them holds is checked."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from restok_cli.errors import UsageError
from restok_cli.settings.training import OptimizerConfig
from restok_cli.training.codebook_use import CodeCounts
from restok_cli.training.early_stopping import EarlyStopping
from restok_cli.training.monitor import Meter
from restok_cli.training.parallel import gather_in_turn, micro_batch_numbers
from restok_cli.training.update import Update

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


def stepped(steps=1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    update = Update(model, OptimizerConfig(), 10, "float32")
    for step in range(steps):
        update.backward(model(torch.ones(2, 3)).square().mean())
        update.step(step)
    return update


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda state, _: state["0.weight"].pop("exp_avg_sq"), "state of 0.weight lacks exp_avg_sq"),
        (lambda state, _: state["1.bias"].update(max_exp_avg_sq=torch.zeros(4)), "1.bias also has max_exp_avg_sq"),
        (lambda state, _: state["0.bias"].update(step=2.0), "step of 0.bias is float and not ()"),
        (lambda state, _: state["0.weight"].update(exp_avg=torch.zeros(3, 4)), "exp_avg of 0.weight is (3, 4)"),
        (lambda state, _: state.pop("1.weight"), "state lacks 1.weight"),
        (lambda state, _: state.update(other=state["0.bias"]), "state also has other"),
        (lambda _, groups: groups[1]["params"].remove("1.bias"), "list of weights lacks 1.bias"),
    ],
)
def test_the_state_of_an_optimizer_is_loaded_whole_or_refused(harm, words):
    saved = stepped().state_dict()
    harm(saved["optimizer"]["state"], saved["optimizer"]["param_groups"])
    with pytest.raises(RuntimeError, match=re.escape(words)):
        stepped(0).load_state_dict(saved)


def test_what_else_a_checkpoint_counts_has_its_shape_or_is_refused():
    meter, counts, early = Meter(torch.device("cpu")), CodeCounts(4, 8, torch.device("cpu")), EarlyStopping(2)
    with pytest.raises(RuntimeError, match="sum of loss is"):
        meter.load_state_dict(meter.state_dict() | {"sums": {"loss": torch.zeros(3)}})
    with pytest.raises(RuntimeError, match="counts of codes is"):
        counts.load_state_dict(torch.ones(8, dtype=torch.int64))  # which would be taken for each level
    with pytest.raises(KeyError, match="since"):
        early.load_state_dict({name: value for name, value in early.state_dict().items() if name != "since"})
