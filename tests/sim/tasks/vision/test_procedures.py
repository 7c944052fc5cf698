"""Videos of procedures, composed or read from files, and the samples that are drawn of them."""

import csv
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from basinet.sim.data.nests import leaves
from basinet.sim.data.rows import some
from basinet.sim.data.sampling import make_sampler
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Task
from basinet.sim.tasks.vision.procedures.clip_views import view_of
from basinet.sim.tasks.vision.procedures.composed import KINDS, SIDE, Composed, compose, region_of, tell
from basinet.sim.tasks.vision.procedures.interval_files import SmallVideos, read_folder, read_intervals, read_prompts
from basinet.sim.tasks.vision.procedures.labelled_frames import Labelled
from basinet.sim.tasks.vision.procedures.procedure_sets import composed_sets, read_sets
from basinet.sim.tasks.vision.procedures.procedure_stages import DIFFICULTIES
from basinet.sim.tasks.vision.procedures.told_videos import Alternation, Extent, Span, Told, ToldVideos
from basinet.sim.tasks.vision.procedures.vocabulary import PADDING, UNKNOWN, Words, split_words
from basinet.sim.tasks.vision.procedures.wording import PROMPTS
from basinet.sim.vision.codecs import encode
from basinet.sim.vision.video_files import duration

EXTENT = Extent(clip_frames=2, phase_frames=3, video_frames=4, candidates=2, steps=2, phases=3, words=4)


@pytest.fixture(scope="module")
def easy():
    return composed_sets("easy", videos=6, test_videos=4, extent=Extent(), alternation=Alternation())


class Numbered:
    """Videos of tiny frames that hold their own numbers."""

    def arrays(self, row):
        numbers = np.arange(100 * row, 100 * row + 30, dtype=np.uint8)
        return [numbers[:, None, None, None] * np.ones((3, 2, 2), np.uint8)]


def told(name):
    clips = [Span(a, a + 5, (f"{name} clip {a}", f"said {a}")) for a in range(0, 30, 5)]
    phases = [Span(0, 12, (f"{name} first",), (f"{name} key",)), Span(12, 30, (f"{name} second",))]
    return Told(name, tuple(clips), tuple(phases), (Span(0, 30, (f"{name} whole",)),))


@pytest.fixture(scope="module")
def numbered():
    said = (told("a"), told("b"))
    words = Words.of(text for video in said for text in video.texts)
    return ToldVideos(
        source=Numbered(), told=said, words=words, extent=EXTENT, alternation=Alternation(), origin="numbers"
    )


def test_a_sample_holds_a_clip_a_phase_and_a_video_with_their_own_texts(numbered):
    keys = torch.arange(200)
    clip, phase, video, weights = numbered.fetch(keys % 2, keys)
    say, seen = numbered.words.decode, set()
    for i in range(200):
        name, base = "ab"[i % 2], 100 * (i % 2)
        of_clip, of_phase, of_video = (level.frames[i, :, 0, 0, 0].tolist() for level in (clip, phase, video))
        start = (of_clip[0] - base) // 5 * 5
        assert [say(row) for row in clip.narrations[i].tolist()] == [f"{name} clip {start}", f"said {start}"]
        assert all(base + start <= t < base + start + 5 for t in of_clip)
        text, steps = say(phase.text[i].tolist()), [say(row) for row in phase.steps[i].tolist()]
        first, end = (0, 12) if text == f"{name} first" else (12, 30)
        assert all(base + first <= t < base + end for t in of_phase) and of_phase == sorted(of_phase)
        # Clips belong to the phase in which most of them lies.
        inside = [f"{name} key", *(f"{name} clip {a}" for a in (0, 5))] if not first else []
        inside = inside or [f"{name} clip {a}" for a in (10, 15, 20, 25)]
        assert {*steps} <= {*inside} and len({*steps}) == 2
        assert of_video == sorted({*of_video}) and say(video.abstract[i].tolist()) == f"{name} whole"
        assert [say(row) for row in video.phases[i].tolist()] == [f"{name} first", f"{name} second", ""]
        seen.add((name, start, text, *of_phase))
    assert len(seen) > 100  # most draws differ
    torch.testing.assert_close(weights, torch.tensor([1, 1 / 3, 1 / 5]).expand(200, 3))


def test_samples_depend_on_their_keys_alone(easy):
    rows, keys = torch.tensor([4, 0, 4]), torch.tensor([9, 8, 7])
    whole, alone = easy.train.fetch(rows, keys), easy.train.fetch(rows[2:], keys[2:])
    assert all(torch.equal(t[2:], one) for t, one in zip(leaves(whole), leaves(alone), strict=True))
    assert not torch.equal(whole[1].frames[0], whole[1].frames[2])
    measured = [pickle.loads(pickle.dumps(easy.train)).fetch(rows[:2]) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*map(leaves, measured), strict=True))
    assert whole[0].frames.dtype == torch.uint8
    placed = easy.train.to("cpu", torch.float64).read(rows)
    assert placed[2].frames.dtype == placed[3].dtype == torch.float64 and 0.5 < placed[2].frames.max() <= 1
    assert placed[2].abstract.dtype == torch.int64


def test_augmented_views_follow_the_frames_of_a_clip(easy):
    keys = torch.arange(6)
    plain = easy.train.fetch(keys, keys)
    augmented = replace(easy.train, extent=replace(Extent(), augmented=True))
    found = augmented.fetch(keys, keys)
    assert all(torch.equal(a, b) for a, b in zip(leaves(plain)[1:], leaves(found)[1:], strict=True))
    own, first, second = found[0].frames.unflatten(1, (3, 2)).unbind(1)
    assert torch.equal(own, plain[0].frames)
    changed = [(a != b).flatten(1).any(1).all() for a, b in ((own, first), (own, second), (first, second))]
    assert all(changed)
    assert torch.equal(augmented.fetch(keys[4:], keys[4:])[0].frames, found[0].frames[4:])
    assert not torch.equal(augmented.fetch(keys, keys + 9)[0].frames[:, 2:], found[0].frames[:, 2:])


def test_views_show_a_part_that_may_be_mirrored_in_another_light():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 10), dtype=np.uint8)
    same = np.array([0.5, 0.5, 1, 0, 0, 0.5, 0.5, 0.5])
    assert np.array_equal(view_of(frames, same), frames)
    mirrored = np.array([0.4, *same[1:]])
    assert np.array_equal(view_of(frames, mirrored), frames[..., ::-1])
    corner = view_of(frames, np.array([0.5, 0.5, 0, 1, 0, 0.5, 0.5, 0.5]))  # 0.6 of either side, at the bottom left
    assert np.array_equal(np.unique(corner[0, 0, -1]), np.unique(frames[0, 0, -1, :6]))
    dark = view_of(frames, np.array([0.5, 0, 1, 0, 0, 0.5, 0, 1]))
    for channel, gain in enumerate((0.6, 0.6 * 0.8, 0.6 * 1.2)):
        np.testing.assert_allclose(dark[:, channel], frames[:, channel] * gain, rtol=0, atol=0.5 + 1e-9)


@pytest.mark.parametrize("alternation", [Alternation(), Alternation(steps=2, clip=2, phase=4, video=3)])
def test_levels_count_in_their_epochs(numbered, alternation):
    for step in range(40):
        epoch = step // alternation.steps
        wanted = (
            epoch % alternation.clip == 0,
            *(epoch != 0 and epoch % distance == 0 for distance in (alternation.phase, alternation.video)),
        )
        assert alternation.at(step) == wanted
    data = replace(numbered, alternation=alternation)
    task = Task(train=data, num_outputs=1, classification=False)
    sampler = make_sampler(
        "independent", task, [np.array([0]), np.array([0, 1])], torch.arange(2), torch.tensor([3, 4]), 3, torch.float32
    )
    for step in (0, 3, 5, 15, 24):
        batch = sampler.batch(step)
        shapes = [part[1].shape for part in batch[:3]]
        lengths = [4 if counts else 0 for counts in alternation.at(step)]  # there is nothing of others
        assert shapes == [(2, 3, 2, lengths[0]), (2, 3, lengths[1]), (2, 3, lengths[2])]
        assert torch.equal(batch[3], torch.tensor(alternation.at(step)).float().expand(2, 3, 3))
    part = some(data, torch.tensor([1]))
    assert torch.equal(part.at_step(part.read(torch.tensor([0])), 0)[3], torch.tensor([[1.0, 0, 0]]))


def test_words_are_tokens():
    words = Words.of(["The hook, the ring!", "hook"], most=2)
    assert words.known == ("hook", "the") and words.size == 4
    assert words.encode("the red HOOK", 4).tolist() == [3, UNKNOWN, 2, PADDING]
    assert words.encode("the hook the hook", 2).tolist() == [3, 2] and not words.encode("", 2).any()
    assert words.encode_all([], 3).shape == (0, 3)


def test_words_of_another_run_are_taken(tmp_path):
    words, file = Words.of(["a hook", "hook"]), tmp_path / "words.json"
    file.write_text(words.kept.content)
    assert Words.read(file) == words and Words.read(file).kept.identity == words.kept.identity
    sets = composed_sets("easy", videos=2, test_videos=1, words=words, extent=EXTENT, alternation=Alternation())
    assert sets.train.words == words and sets.prompts.max() < 4
    for content, message in (("{", "cannot be read"), ('["A b"]', "something else"), ('["a", "a"]', "a word twice")):
        file.write_text(content)
        with pytest.raises(ValueError, match=f"words: .*words.json .*{message}"):
            Words.read(file)


def test_the_stages_of_the_hard_procedures_share_textures_and_tools():
    easy, hard = (DIFFICULTIES[name].stages for name in ("easy", "hard"))
    assert len({s.texture for s in easy}) == len({s.tool for s in easy}) == len({s.name for s in easy}) == 8
    assert len({(s.texture, s.tool) for s in hard}) == len({s.name for s in hard}) == 16
    for part in ("texture", "tool", "motion"):
        assert sorted(np.unique([getattr(s, part) for s in hard], return_counts=True)[1]) == [4] * 4


def test_test_videos_show_other_regions_of_the_photos():
    photo = np.arange(3 * 40 * 100, dtype=np.uint8).reshape(3, 40, 100)
    parts = [region_of(photo, part) for part in ("train", "test")]
    assert [part.shape[2] for part in parts] == [65, 35]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), photo)


def test_frames_are_labelled_by_the_stages_of_their_video(easy):
    for name, (kind, centre) in {
        "test": ("removal", "first"),
        "other kind": ("repair", "first"),
        "other centre": ("removal", "second"),
    }.items():
        found = easy.recognised[name]
        place = 0
        for number in range(4):
            procedure = compose("easy", kind, centre, "test", number)
            frames = torch.from_numpy(Composed([procedure]).arrays(0)[0].copy())
            wanted = [n for n, length in zip(procedure.stages, procedure.lengths, strict=True) for _ in range(length)]
            rows = slice(place, place := place + len(wanted))
            read = found.fetch(torch.arange(len(found))[rows])
            assert torch.equal(read.frames[:, 0], frames) and read.phase.tolist() == wanted
            assert read.video.tolist() == [number] * len(wanted)
        assert len(found) == place and frames.shape[1:] == (3, SIDE, SIDE)


def test_labelled_frames_are_read_when_they_are_needed():
    read = []

    class Videos(list):
        def arrays(self, row):
            read.append(row)
            return [self[row]]

    drawn = np.random.default_rng(0).integers(0, 256, (3, 9, 3, 4, 5), dtype=np.uint8)
    parts = Videos(drawn[:2]), Videos(drawn[2:])
    spans = [[(1, 3, 0), (5, 6, 1)], [(0, 2, 1)]], [[(7, 9, 0)]]
    found = Labelled.joined([Labelled.of(part, each) for part, each in zip(parts, spans, strict=True)])
    assert not read and len(found) == 7
    batch = found.fetch(torch.tensor([6, 1, 5, 2]))
    assert read == [0, 0] and batch.phase.tolist() == [0, 0, 0, 1] and batch.video.tolist() == [2, 0, 2, 0]
    wanted = [drawn[2, 8], drawn[0, 2], drawn[2, 7], drawn[0, 5]]
    assert torch.equal(batch.frames[:, 0], torch.from_numpy(np.stack(wanted)))


def test_phases_of_composed_videos_can_be_told_by_their_frames():
    """By the nearest mean colour of the phases of training videos, from other regions of the photos."""
    sets = composed_sets("easy", videos=24, test_videos=24, extent=EXTENT, alternation=Alternation())
    colours, stages = [], []
    for row in range(24):
        frames, told = sets.train.source.arrays(row)[0], sets.train.told[row]
        procedure = sets.train.source.procedures[row]
        colours += [frames[span.first : span.end].mean((0, 2, 3)) for span in told.phases]
        stages += procedure.stages
    means = np.stack([np.mean([c for c, s in zip(colours, stages, strict=True) if s == n], 0) for n in range(8)])
    shares = {}
    for name, found in sets.recognised.items():
        seen = found.fetch(torch.arange(len(found))).frames[:, 0].float().mean((2, 3)).numpy()
        guesses = np.linalg.norm(seen[:, None] - means, axis=2).argmin(1)
        shares[name] = (guesses == found.phase.numpy()).mean()
    assert shares["test"] > 3 / 8 and shares["other kind"] > 2 / 8, shares
    assert shares["other centre"] < shares["test"] - 0.1, shares


def test_kinds_have_their_own_order_and_frequencies():
    chosen = {kind: [compose("hard", kind, "first", "train", n).stages for n in range(40)] for kind in KINDS}
    rising = {kind: np.mean(np.concatenate([np.diff(stages) > 0 for stages in some])) for kind, some in chosen.items()}
    early = {kind: np.mean(np.concatenate(some) < 8) for kind, some in chosen.items()}
    assert rising["removal"] > 0.6 > 0.4 > rising["repair"]
    assert early["removal"] > 0.6 > 0.4 > early["repair"]


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_prompts_are_of_unseen_wording(difficulty):
    sets = composed_sets(difficulty, videos=40, test_videos=1, extent=Extent(), alternation=Alternation())
    stages, words = DIFFICULTIES[difficulty].stages, sets.train.words
    named = {word for stage in stages for word in vars(stage).values()}
    own = {word for prompt in PROMPTS for word in split_words(prompt)} - {"name", "tool", "texture"}
    assert own & {*words.known} == {"a"} and named <= {*words.known}
    assert sets.prompts.shape == (len(stages), len(PROMPTS), 16) and sets.phases == tuple(s.name for s in stages)
    for stage, rows in zip(stages, sets.prompts.tolist(), strict=True):
        for row in rows:
            said = {*words.decode(row).split()}
            assert stage.name in said <= {*vars(stage).values(), "a", "…"}
    assert all(len(split_words(text)) <= 16 for video in sets.train.told for text in video.texts)


def test_less_is_told_of_the_hard_procedures():
    def shares(difficulty):
        """Return the shares of narrations that name the right stage or its texture or tool, and only other ones."""
        stages, right, wrong, total = DIFFICULTIES[difficulty].stages, 0, 0, 0
        for number in range(40):
            procedure = compose(difficulty, "removal", "first", "train", number)
            said = tell(procedure, 2)
            for clip in said.clips:
                place = next(n for n, phase in enumerate(said.phases) if phase.holds(clip))
                for text in clip.texts:
                    spoken = {*split_words(text)}
                    own = {*vars(stages[procedure.stages[place]]).values()}
                    others = {word for stage in stages for word in vars(stage).values()} - own
                    right, wrong, total = right + len(spoken & own), wrong + bool(spoken & others), total + 1
        return right / total, wrong / total

    (easy_right, easy_wrong), (hard_right, hard_wrong) = shares("easy"), shares("hard")
    assert hard_right < easy_right - 0.3 and easy_wrong < 0.12 and easy_wrong < hard_wrong < 0.27


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kinds": ["removal", "repare"]}, "kinds: got 'repare'; allowed: removal, repair; did you mean 'repair'"),
        ({"centres": []}, r"centres: got \[\]; allowed are one or more different ones"),
        ({"kinds": ["repair", "repair"]}, "kinds: got .*different"),
    ],
)
def test_unknown_kinds_and_centres_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        composed_sets("easy", extent=EXTENT, alternation=Alternation(), **given)


def test_agents_may_own_kinds_or_centres():
    given = {"kinds": ["repair", "removal"], "centres": ["first", "second"], "videos": 8, "test_videos": 4}
    sets = composed_sets("easy", extent=EXTENT, alternation=Alternation(), **given)
    pairs = [*zip(sets.columns["kind"], sets.columns["centre"], strict=True)]
    assert len({*pairs}) == 4 and all(pairs.count(pair) == 2 for pair in pairs)
    assert {*sets.recognised} == {"test"}  # nothing else is left
    assert (
        sets.train.fingerprint
        != composed_sets("hard", extent=EXTENT, alternation=Alternation(), **given).train.fingerprint
    )


RATE, LENGTH = 10, 20
HEAD = ("start", "end", "text")


def write(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def made_files(path, brightest):
    """Two videos that get brighter, in which clips, phases and the whole are told."""
    shades = torch.linspace(20, brightest, LENGTH).byte()
    for name in ("one", "two"):
        (path / f"{name}.mp4").write_bytes(encode(shades[:, None, None, None].expand(-1, 3, 48, 64), "x264", 10))
        seconds = duration(path / f"{name}.mp4")
        at = [seconds * part for part in (0, 0.25, 0.5, 1)]
        write(path / "clips" / f"{name}.csv", HEAD, (at[2], at[3], "late"), (0, at[1], "early"), (0, at[1], "sooner"))
        steps = [(0, at[2], "hold the hook", f"{name} begins"), (0, at[2], "cut, then", f"{name} begins")]
        write(path / "phases" / f"{name}.csv", ("start", "end", "step", "text"), *steps, (at[2], at[3], "", "it ends"))
        write(path / "abstracts" / f"{name}.csv", HEAD, (0, seconds, f"A video of {name}."))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_files(tmp_path_factory.mktemp("procedures"), 230)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return made_files(tmp_path_factory.mktemp("held"), 200)


def read_files(path, test_path, prompts):
    settings = {"frames": 8, "side": 16, "extent": EXTENT, "alternation": Alternation()}
    return read_sets(path, test_path, prompts, cache=path / "cache", **settings)


def test_videos_and_intervals_are_read(folder, held, tmp_path):
    files, said = read_folder(folder, frames=8)
    assert [file.name for file in files] == ["one.mp4", "two.mp4"]
    assert said[0] == Told(
        "one",
        (Span(0, 2, ("early", "sooner")), Span(4, 8, ("late",))),
        (Span(0, 4, ("one begins",), ("hold the hook", "cut, then")), Span(4, 8, ("it ends",))),
        (Span(0, 8, ("A video of one.",)),),
    )
    # Of five frames the first is at a tenth of the video, and the second at three tenths, behind the first quarter.
    assert read_folder(folder, frames=5)[1][0].clips[0][:2] == (0, 1)
    write(
        tmp_path / "prompts.csv",
        ("phase", "prompt"),
        ("one begins", "at first"),
        ("two begins", "the cut"),
        ("it ends", "late"),
        ("it ends", "the hook is gone"),
    )
    sets = read_files(folder, held, tmp_path / "prompts.csv")
    video = sets.train.read(torch.tensor([0, 1]), torch.tensor([5, 6]))[2]
    assert video.frames.shape == (2, 4, 3, 16, 16)
    shades = video.frames.mean((2, 3, 4))
    assert (shades.diff() > 0.05).all()
    labels = sets.recognised["test"]
    assert labels.phase.tolist() == [0] * 4 + [2] * 4 + [1] * 4 + [2] * 4
    assert labels.video.tolist() == [0] * 8 + [1] * 8
    assert sets.phases == ("one begins", "two begins", "it ends")
    assert [sets.train.words.decode(row) for row in sets.prompts[2].tolist()] == ["late", "the hook … …"]
    assert sets.train.words.decode(sets.train.fetch(torch.tensor([0]))[2].phases[0, 0].tolist()) == "one begins"


def test_mistakes_in_sets_are_told(folder, held, tmp_path):
    def refused(message, path, *prompts):
        write(tmp_path / "prompts.csv", ("phase", "prompt"), *prompts)
        with pytest.raises(ValueError, match=f"^{message}"):
            read_files(folder, path, tmp_path / "prompts.csv" if prompts else None)

    refused("prompts: is missing; test videos need prompts", held)
    pair = ("a", "b")
    refused(f"video_language: 'one.mp4' is a training video in {folder}, and a test video in {folder};", folder, pair)
    copied = tmp_path / "copied"
    copied.mkdir()
    shutil.copy(folder / "two.mp4", copied / "TWO.MP4")
    refused("video_language: 'one.mp4' is a training video .*, and a test video of the name 'TWO.MP4' in", copied, pair)
    refused(
        "video_language: line 2 of .*one.csv has the text 'one begins', which has no prompts, nor has 'two begins';"
        " allowed: it ends",
        held,
        ("it ends", "late"),
    )
    one = tmp_path / "one"
    shutil.copytree(held, one)
    for name in ("one", "two"):
        write(one / "phases" / f"{name}.csv", HEAD, (0, 0.5, "it ends"))
    refused("video_language: .*prompts.csv has prompts of 1 phase, 'it ends'; at least two", one, ("it ends", "late"))


def test_frames_of_files_are_squares_of_the_middle(folder, tmp_path):
    source = SmallVideos([folder / "one.mp4"], 4, 16)
    bright = torch.zeros(4, 3, 48, 64, dtype=torch.uint8)
    bright[..., 4:60] = 200
    (tmp_path / "bright.mp4").write_bytes(encode(bright, "x264", 10))
    frame = SmallVideos([tmp_path / "bright.mp4"], 4, 16)[0][0].float()
    assert (frame - frame.flip(-1)).abs().max() < 30 and frame.mean() > 150
    assert source[0].shape == (4, 3, 16, 16) and source[0].dtype == torch.uint8
    assert source.keys != SmallVideos([folder / "one.mp4"], 4, 8).keys


def test_a_broken_video_is_told_without_a_line_of_a_package(tmp_path, make_setup):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ExperimentError, match=r"^task: video_language: .*bad.mp4 cannot be read as a video: [^()]+$"):
        make_setup(task={"name": "video_language", "path": str(tmp_path)}, model="video_text")


INTERVALS = {
    "text": ("clips", [(0, 1, "well"), (1, 2, " … ")], "line 3 of {} has the text '…'; allowed are texts"),
    "reversed": ("phases", [(2, 1, "well")], "line 2 of {} is of 2 to 1 s; the end has to be behind the start"),
    "empty": ("clips", [(1, 1, "well")], "line 2 of {} is of 1 to 1 s; the end has to be behind"),
    "overlap": (
        "clips",
        [(1, 3, "b"), (0, 2, "a")],
        "line 2 of {} is of 1 to 3 s, which overlaps 0 to 2 s in line 3; other narrations of a clip have the same",
    ),
    "phases twice": (
        "phases",
        [(0, 2, "a"), (0, 2, "b")],
        "line 3 of {} is of 0 to 2 s, which overlaps 0 to 2 s in line 2$",
    ),
    "abstracts twice": ("abstracts", [(0, 2, "a"), (0, 2, "a")], "line 3 of {} is .* overlaps"),
    "beyond": ("phases", [(0, 2, "a"), (2, 4.5, "b")], "line 3 of {} is of 2 to 4.5 s, and the video lasts 4 s"),
    "behind": ("clips", [(4.01, 4.05, "a")], "line 2 of {} is of 4.01 to 4.05 s, and the video lasts 4 s"),
    "no number": ("clips", [("0:30", 2, "a")], "line 2 of {} has the start '0:30'; allowed are seconds from 0 on"),
    "negative": ("clips", [(-1, 2, "a")], "line 2 of {} has the start '-1'"),
    "nothing": ("clips", [], "{} has no rows"),
    "short row": ("clips", [(1, 2)], "line 2 of {} has 2 values for 3 columns"),
}


@pytest.mark.parametrize(("level", "rows", "message"), INTERVALS.values(), ids=INTERVALS)
def test_mistakes_in_intervals_name_file_and_line(level, rows, message, tmp_path):
    write(tmp_path / "x.csv", HEAD, *rows)
    with pytest.raises(ValueError, match="video_language: " + message.format(".*x.csv")):
        read_intervals(tmp_path / "x.csv", level, 4.0)


@pytest.mark.parametrize(
    ("level", "header"),
    [("clips", (*HEAD, "step")), ("phases", ("start", "text")), ("phases", ("Start", "end", "text"))],
)
def test_other_columns_are_refused(level, header, tmp_path):
    write(tmp_path / "x.csv", header)
    with pytest.raises(ValueError, match=r"video_language: the columns of .*needed are start and end and text"):
        read_intervals(tmp_path / "x.csv", level, 4.0)


def test_intervals_may_end_a_little_behind_the_video(tmp_path):
    write(tmp_path / "x.csv", HEAD, (0, 4.05, "a"))
    assert read_intervals(tmp_path / "x.csv", "clips", 4.0)[0].end == 4.0


def test_mistakes_in_folders_are_told(folder, tmp_path):
    def refused(message, **given):
        with pytest.raises(ValueError, match=f"video_language: {message}"):
            read_folder(**{"folder": tmp_path, "frames": 8, **given})

    refused(".*holds no videos; allowed are")
    refused(".*cannot be read: No such file", folder=tmp_path / "none")
    refused(
        "line 2 of .*one.csv has the text 'one begins', which has no prompts, nor has 'it ends'; allowed: two begins",
        folder=folder,
        phases=["two begins"],
    )
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    refused(".*bad.mp4 cannot be read as a video")
    (tmp_path / "bad.mp4").write_bytes((folder / "one.mp4").read_bytes())
    refused(".*clips/bad.csv cannot be read: No such file")
    (tmp_path / "bad.MKV").write_bytes(b"")
    refused("holds two videos of the name 'bad'".join((".*", ".*")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("phase", "text"), ("a", "b")], "the columns of .*needed are phase and prompt"),
        ([("phase", "prompt"), ("a", "b"), ("a", "")], "line 3 of .* has the prompt ''; a word is needed"),
    ],
)
def test_mistakes_in_prompts_are_told(rows, message, tmp_path):
    write(tmp_path / "p.csv", *rows)
    with pytest.raises(ValueError, match=f"video_language: .*{message}"):
        read_prompts(tmp_path / "p.csv")
