import torch

from undertone.training.checkpoint import KEPT, Progress, load_checkpoint, save_checkpoint


def make():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    return module, torch.optim.AdamW(module.parameters(), lr=0.1)


def update(module, optimizer, step):
    torch.manual_seed(step)
    optimizer.zero_grad()
    module(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()


def test_resumed_training_gives_the_same_weights_bit_for_bit(tmp_path):
    module, optimizer = make()
    for step in range(6):
        update(module, optimizer, step)
        if step == 2:
            save_checkpoint(tmp_path, module, optimizer, Progress(step=3, best=[(0.5, 3)], history=[{"step": 3}]))
    again, other = make()
    progress = load_checkpoint(tmp_path, again, other)
    assert progress == Progress(step=3, best=[(0.5, 3)], history=[{"step": 3}])
    for step in range(progress.step, 6):
        update(again, other, step)
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_last_two_are_kept_and_a_half_written_one_is_not_read(tmp_path):
    module, optimizer = make()
    for step in range(5):
        update(module, optimizer, step)
        save_checkpoint(tmp_path, module, optimizer, Progress(step=step))
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == [f"step-{step:09d}" for step in (3, 4)][-KEPT:]
    half = tmp_path / ".step-000000009.abc.tmp" / "step-000000009"
    half.mkdir(parents=True)
    (half / "weights.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path, module, optimizer).step == 4


def test_nothing_there_starts_afresh(tmp_path):
    assert load_checkpoint(tmp_path / "none", *make()) == Progress()


def test_only_json_and_safetensors_are_written(tmp_path):
    module, optimizer = make()
    update(module, optimizer, 0)
    save_checkpoint(tmp_path, module, optimizer, Progress(step=1))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
