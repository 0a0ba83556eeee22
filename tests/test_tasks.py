import shutil

import pytest
from conftest import ROOT, TASKS

from mprnet import UserError, load_model, save_weights, tasks
from mprnet.model.local_pooling import training_patch


def test_the_tasks_are_the_folders_with_a_network(tmp_path):
    assert list(tasks.find_tasks()) == sorted(TASKS)
    (tmp_path / "Dehazing").mkdir()
    assert tasks.find_tasks(tmp_path) == {}
    (tmp_path / "Dehazing" / "MPRNet.py").touch()
    assert tasks.find_tasks(tmp_path) == {"Dehazing": tmp_path / "Dehazing"}
    assert tasks.find_task("Dehazing", tmp_path) == tmp_path / "Dehazing"
    with pytest.raises(UserError, match="task is one of Dehazing, not 'Deraining'"):
        tasks.find_task("Deraining", tmp_path)


def test_published_weights_come_before_bundled_ones(tmp_path):
    task = tmp_path / "Denoising"
    (task / "pretrained_models").mkdir(parents=True)
    with pytest.raises(UserError, match=r"put the published model_denoising\.pth there"):
        tasks.choose_weights(task)
    lite = task / "pretrained_models" / "model_denoising_lite.safetensors"
    lite.touch()
    path, line = tasks.choose_weights(task)
    assert path == lite
    assert "(a small network, not the paper's)" in line
    plus = task / "pretrained_models" / "model_denoising_plus.safetensors"
    plus.touch()
    path, line = tasks.choose_weights(task)
    assert path == plus
    assert "(a small network, not the paper's; --grade lite is faster)" in line
    plus.unlink()
    published = task / "pretrained_models" / "model_denoising.pth"
    published.touch()
    path, line = tasks.choose_weights(task)
    assert path == published
    assert "with the published weights" in line
    assert tasks.choose_weights(task, grade="published")[0] == published
    assert tasks.choose_weights(task, tmp_path / "own.pth")[0] == tmp_path / "own.pth"
    assert tasks.choose_weights(task, grade="lite")[0] == lite
    with pytest.raises(UserError, match=r"no model_denoising_plus\.safetensors in .*: choose another grade"):
        tasks.choose_weights(task, grade="plus")
    with pytest.raises(UserError, match=r"there is no huge in .*: choose another grade"):
        tasks.choose_weights(task, grade="huge")


def test_a_note_says_that_weights_are_of_another_task(tiny, tmp_path):
    tiny.metadata = {"task": "Deraining", "training_patch": "64"}
    save_weights(tiny, tmp_path / "w.pth")
    assert tasks.load_weights(tmp_path / "w.pth", ROOT / "Deraining")[1] == ""
    assert tasks.load_weights(tmp_path / "w.pth", tmp_path / "models")[1] == ""
    note = tasks.load_weights(tmp_path / "w.pth", ROOT / "Denoising")[1]
    assert note == f"note: {tmp_path / 'w.pth'} states that it was trained for Deraining"


def patch_of(path, folder) -> int:
    return training_patch(tasks.load_weights(path, folder)[0])


def test_the_training_patch_of_published_weights_is_the_tasks(tiny, tmp_path):
    save_weights(tiny, tmp_path / "silent.pth")
    save_weights(tiny, tmp_path / "stating.pth", {"training_patch": "64"})
    for task, patch in (("Deblurring", 256), ("Deraining", 256), ("Denoising", 128)):
        folder = tmp_path / task / "pretrained_models"
        folder.mkdir(parents=True)
        published = folder / f"model_{task.lower()}.pth"
        shutil.copy(tmp_path / "silent.pth", published)
        shutil.copy(ROOT / task / "pretrained_models" / "published.yml", folder)
        assert patch_of(published, tmp_path / task) == patch
        assert patch_of(tmp_path / "stating.pth", tmp_path / task) == 64
        # Nobody states it for weights from another place: whoever needs it is asked.
        with pytest.raises(UserError, match="do not state it: say --training_patch N"):
            patch_of(tmp_path / "silent.pth", tmp_path / task)


@pytest.mark.parametrize("content", ["", "- 1", "a: [b", "training_patch: some"])
def test_a_broken_statement_on_published_weights_is_a_sentence(tiny, tmp_path, content):
    folder = tmp_path / "Deraining" / "pretrained_models"
    folder.mkdir(parents=True)
    save_weights(tiny, folder / "model_deraining.pth")
    (folder / "published.yml").write_text(content)
    with pytest.raises(UserError, match=r"published\.yml does not say training_patch: NUMBER"):
        tasks.load_weights(folder / "model_deraining.pth", tmp_path / "Deraining")


def test_installed_tasks_work_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_INSTALLED", tmp_path / "site" / "_tasks")
    monkeypatch.chdir(tmp_path)
    assert tasks.working_folder(tmp_path / "site" / "_tasks" / "Denoising") == tmp_path / "Denoising"
    assert tasks.working_folder(tmp_path / "site" / "_tasks" / "Denoising" / "a") == tmp_path / "Denoising" / "a"
    assert tasks.working_folder(ROOT / "Denoising") == ROOT / "Denoising"


def test_a_model_is_loaded_by_its_task():
    model = load_model(task="Deraining", grade="lite")
    assert (model.config["n_feat"], model.metadata["task"]) == (16, "Deraining")
    plus = ROOT / "Deraining" / "pretrained_models" / "model_deraining_plus.safetensors"
    assert load_model(task="Deraining").config == load_model(plus).config == load_model(plus, task="Deraining").config
    with pytest.raises(UserError, match="say which weights to load: a file, or task=NAME"):
        load_model()
    with pytest.raises(UserError, match="task is one of Deblurring, Denoising, Deraining, not 'Dehazing'"):
        load_model(task="Dehazing")
