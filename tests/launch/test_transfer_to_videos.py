"""Models of videos that start from pre-training with images, by the command line."""

import pytest
import torch

import basinet
from basinet.launch.cli import main
from basinet.sim.models.vision.masked.hivit_video import inflated

COMMON = ["topology.agents=2", "strategy=isolated", "steps=1", "replicas=1", "batch_size=2", "evaluate_every=1"]
COMMON += ["analysis=[]", "schedule=constant", "runtime.device=cpu", "runtime.engine=loop", "--quiet"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The folder of a run that has learned from images of 32 × 32 pixels."""
    out = tmp_path_factory.mktemp("masked")
    photos = ["task.train_photos=[coffee]", "task.test_photos=[coins]", "task.size=32", "task.crops=4"]
    model = ["model.width=4", "model.depths=[1,0,1]", "model.contrast=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder)
        words = [*photos, "task.degradations=[blur]", "task.partition=iid", *model, *COMMON]
        assert main(["run", "quality_pretraining", *words, "--out", str(out)]) == 0
    return out / "isolated"


@pytest.mark.parametrize("inputs", [["inputs=frames"], ["inputs=fragments", "task.grid=2", "task.patch=16"]])
def test_frozen_encoders_stay_inflated(pretrained, inputs, tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder)
    cache = tmp_path_factory.getbasetemp() / "clips"
    clips = ["task.contents=10", "task.size=32", "task.frames=2", "task.key_frames=1", "task.partition=iid"]
    clips = [f"task.{inputs[0]}", *inputs[1:], *clips, f"task.cache={cache}"]
    model = ["model=hivit_video", "model.width=4", "model.depths=[1,0,1]", "frozen=[encoder.*]"]
    start = [f"start.run={pretrained}", "start.reinitialize=[head.*]", "start.strict=false"]
    words = [*clips, *model, *start, *COMMON]
    assert main(["run", "video_quality", *words, "--out", str(tmp_path / "rated")]) == 0
    image, video = (
        basinet.load(folder).model(folder.name).state_dict() for folder in (pretrained, tmp_path / "rated" / "isolated")
    )
    names = [name for name in video if name.startswith("encoder.")]
    assert len(names) > 10
    for name in names:
        wanted = inflated(image[name], 2, "mean") if name == "encoder.embedding.0.weight" else image[name]
        torch.testing.assert_close(video[name], wanted, rtol=0, atol=0)
