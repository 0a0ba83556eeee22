"""Prepared pictures: what is decoded, when, and that training sees the same pixels."""

import itertools
import os
import pickle
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
import torch

from mprnet import UserError
from mprnet.data import cache as cache_module
from mprnet.data import preparation_plan, preparing, tiles
from mprnet.data.cache import PictureCache, pictures_of
from mprnet.data.paired import get_training_data
from mprnet.data.pairs import Pair
from mprnet.data.preparation_plan import Plan, plan_preparation, plan_tiles
from mprnet.data.preparing import prepare_pictures
from mprnet.data.reading import read_pair
from mprnet.errors import NotPreparedError


@pytest.fixture
def pairs(tmp_path) -> list[Pair]:
    """Four pairs, PNG and JPEG, of 20x30 to 23x30 pixels."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(4):
        paths = [tmp_path / "set" / side / f"{number}.{kind}" for side, kind in (("input", "jpg"), ("target", "png"))]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 256, (20 + number, 30, 3), np.uint8))
        pairs.append(Pair(str(number), *paths))
    return pairs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The pictures that are decoded for the cache, by name."""
    names: list[str] = []
    decode = preparing.decode_rgb
    monkeypatch.setattr(preparing, "decode_rgb", lambda data, path: names.append(path.name) or decode(data, path))
    return names


def prepare(pairs, folder, limit: int = 0, tiled: bool = False) -> PictureCache:
    """Prepare the pairs, and return the cache as another process reads it."""
    source = pairs[0].input.parents[1]
    cache = PictureCache.load(folder, source)
    prepare_pictures(plan_tiles(pairs, cache) if tiled else plan_preparation(pairs, cache, limit), cache)
    return PictureCache.load(folder, source)


def rewrite(path, level: int = 7) -> None:
    """Write another picture of the same size, in the same number of bytes if it is a PNG without compression."""
    cv2.imwrite(str(path), np.full_like(cv2.imread(str(path)), level), [cv2.IMWRITE_PNG_COMPRESSION, 0])


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("patch", "saturation"), [(24, (1.0, 1.0)), (24, (0.5, 1.5)), (17, (1.0, 1.0))])
def test_decoded_and_prepared_samples_are_the_same(pairs, folder, monkeypatch, patch, saturation, tiled):
    """Also of pictures that are smaller than the patch, and of patches that are larger than a tile."""
    monkeypatch.setattr(tiles, "_SIDE", 16)
    options = {"patch_size": patch, "seed": 3, "saturation": saturation}
    decoded, prepared = (get_training_data(pairs[0].input.parents[1], options) for _ in range(2))
    prepared.read_pair = prepare(pairs, folder, tiled=tiled).read_pair
    prepared = pickle.loads(pickle.dumps(prepared))  # as for a worker process that is not forked
    for epoch in range(12):
        for index in range(4):
            samples = zip(decoded.read_sample((epoch, index)), prepared.read_sample((epoch, index)), strict=True)
            assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in samples)


def test_pictures_are_read_only_maps_that_do_not_stay_open(pairs, folder):
    cache = prepare(pairs, folder)
    degraded, target = cache.read_pair(pairs[0])
    assert not degraded.flags.writeable
    assert all(np.array_equal(a, b) for a, b in zip((degraded, target), read_pair(pairs[0]), strict=True))
    del degraded, target
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, hard))
    try:
        for _ in range(100):
            cache.read_pair(pairs[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("tiled", [False, True])
def test_only_new_and_changed_pictures_are_decoded_again(pairs, folder, decoded, tiled):
    cache = prepare(pairs, folder, tiled=tiled)
    assert len(decoded) == 8
    assert not cache.find_unprepared(pictures_of(pairs))
    rewrite(pairs[0].input)
    pairs[1].target.rename(new := pairs[1].target.with_name("new.png"))
    rewrite(new)
    now = [pairs[0], *pairs[2:], Pair("new", pairs[1].input, new)]
    assert cache.find_unprepared(pictures_of(now)) == [pairs[0].input, new]
    decoded.clear()
    cache = prepare(now, folder, tiled=tiled)
    assert sorted(decoded) == ["0.jpg", "new.png"]
    assert not cache.find_unprepared(pictures_of(now))
    for pair in now:
        assert all(np.array_equal(a, b) for a, b in zip(cache.read_pair(pair), read_pair(pair), strict=True))
    assert len(list(folder.glob("*_*"))) == 8  # those that are not used any more have been removed


def test_a_file_with_another_time_is_compared_by_its_content(pairs, folder, decoded):
    rewrite(pairs[0].target, 1)
    cache = prepare(pairs, folder)
    size = pairs[0].target.stat().st_size
    os.utime(pairs[1].target, ns=(1, 1))
    assert not cache.find_unprepared(pictures_of(pairs))
    rewrite(pairs[0].target, 2)
    assert pairs[0].target.stat().st_size == size
    os.utime(pairs[0].target, ns=(1, 1))
    assert cache.find_unprepared(pictures_of(pairs)) == [pairs[0].target]
    decoded.clear()
    cache = prepare(pairs, folder)
    assert decoded == ["0.png"]
    assert cache.records[pairs[1].target].modified == 1


def test_preparing_finds_a_change_that_left_size_and_time_as_they_were(pairs, folder, decoded):
    rewrite(pairs[0].target, 1)
    prepare(pairs, folder)
    before = pairs[0].target.stat()
    rewrite(pairs[0].target, 2)
    os.utime(pairs[0].target, ns=(before.st_atime_ns, before.st_mtime_ns))
    decoded.clear()
    assert np.array_equal(prepare(pairs, folder).read_pair(pairs[0])[1], read_pair(pairs[0])[1])
    assert decoded == ["0.png"]


@pytest.mark.parametrize("tiled", [False, True])
def test_an_interrupted_preparation_continues(pairs, folder, decoded, monkeypatch, tiled):
    """What is decoded stays. A file that was written halfway does not count."""
    write = preparing.write_atomically

    def stop_at_the_fourth(path, data):
        if len(list(folder.glob("*_*"))) >= 3:
            path.write_bytes(data[:-1])
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(preparing, "available_processors", lambda: 1)
    monkeypatch.setattr(preparing, "write_atomically", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare(pairs, folder, tiled=tiled)
    monkeypatch.setattr(preparing, "write_atomically", write)
    cache = PictureCache.load(folder, pairs[0].input.parents[1])
    assert len(cache.find_unprepared(pictures_of(pairs))) == 8
    plan = plan_tiles(pairs, cache) if tiled else plan_preparation(pairs, cache)
    assert 0 < plan.missing < plan.total
    decoded.clear()
    cache = prepare(pairs, folder, tiled=tiled)
    assert len(decoded) == 5
    assert not cache.find_unprepared(pictures_of(pairs))
    assert len(list(folder.glob("*_*"))) == 8


def test_an_interruption_is_not_followed_by_the_pictures_that_are_left(pairs, folder, decoded, monkeypatch):
    cancelled = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, **options):
            super().shutdown(wait=False, **options)
            cancelled.set()
            super().shutdown(wait)

    def stop_at_the_third(outcomes, *arguments, **options):
        yield from itertools.islice(outcomes, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "available_processors", lambda: 1)
    monkeypatch.setattr(preparing, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(preparing, "write_atomically", lambda path, data: len(decoded) <= 3 or cancelled.wait())
    monkeypatch.setattr(preparing, "tqdm", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(pairs, folder)
    assert len(decoded) <= 4


def test_the_index_is_written_before_unused_pictures_are_removed(pairs, folder, monkeypatch):
    """After an interruption between the two, no picture of the index is missing."""

    def interrupt(cache):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "remove_unused_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(pairs, folder)
    assert not PictureCache.load(folder, pairs[0].input.parents[1]).find_unprepared(pictures_of(pairs))


def test_the_space_of_tiles_is_estimated_from_pictures_of_the_whole_set(pairs, folder, monkeypatch):
    monkeypatch.setattr(preparation_plan, "_COMPRESSED", 4)
    for path in pictures_of(pairs[:2]):
        rewrite(path)
    plan = plan_tiles(pairs, PictureCache(folder, folder))
    assert 0.4 < plan.missing / (8 * 4096) < 0.9  # half of them become no smaller


def test_a_picture_that_was_removed_meanwhile_does_not_stop_the_others(pairs, folder):
    pairs[1].input.unlink()
    cache = PictureCache.load(folder, pairs[0].input.parents[1])
    result = prepare_pictures(plan_preparation(pairs, cache), cache)
    assert result.problems == [f"{pairs[1].input}: cannot be read (No such file or directory)."]
    assert result.decoded == 7
    assert cache.find_unprepared(pictures_of(pairs)) == [pairs[1].input]


@pytest.mark.parametrize("tiled", [False, True])
def test_a_prepared_picture_that_is_missing_or_cut_short_is_noticed(pairs, folder, tiled):
    cache = prepare(pairs, folder, tiled=tiled)
    short, missing = (cache.file_of(cache.records[pair.input]) for pair in pairs[:2])
    short.write_bytes(short.read_bytes()[:-1])
    missing.unlink()
    assert cache.find_unprepared(pictures_of(pairs)) == [pairs[0].input, pairs[1].input]
    for pair in pairs[:2]:
        with pytest.raises(NotPreparedError, match=r"\.(rgb|tiles): missing or cut short: run train.py --prepare"):
            cache.read_pair(pair)
    cache = prepare(pairs, folder, tiled=tiled)
    assert all(np.array_equal(a, b) for a, b in zip(cache.read_pair(pairs[0]), read_pair(pairs[0]), strict=True))


def test_a_cache_in_the_other_form_is_made_again(pairs, folder, decoded):
    """A cache whose files a preparation in the other form has left there is valid until that has ended."""
    for tiled in (False, True, False):
        decoded.clear()
        cache = prepare(pairs, folder, tiled=tiled)
        assert len(decoded) == 8
        assert {path.suffix for path in folder.glob("*_*")} == {".tiles" if tiled else ".rgb"}
        assert not cache.find_unprepared(pictures_of(pairs))
        assert plan_tiles(pairs, cache).missing == 0 if tiled else plan_tiles(pairs, cache).missing > 0


def test_a_damaged_tile_is_not_skipped_as_a_broken_picture_is(pairs, folder):
    data = get_training_data(pairs[0].input.parents[1], {"patch_size": 8, "skip_broken": True})
    cache = prepare(pairs, folder, tiled=True)
    data.read_pair = cache.read_pair
    file = cache.file_of(cache.records[pairs[0].input])
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(NotPreparedError, match="damaged"):
        data[1, 0]


def test_a_missing_prepared_picture_is_not_skipped_as_a_broken_one_is(pairs, folder):
    data = get_training_data(pairs[0].input.parents[1], {"patch_size": 8, "skip_broken": True})
    cache = prepare(pairs, folder)
    data.read_pair = cache.read_pair
    cache.file_of(cache.records[pairs[0].input]).unlink()
    with pytest.raises(NotPreparedError):
        data[1, 0]


def test_broken_pictures_are_reported_and_raise_the_same_error_as_without_a_cache(pairs, folder, capsys):
    pairs[1].input.write_bytes(b"oops")
    pairs[2].input.write_bytes(b"")
    cv2.imwrite(str(pairs[3].input), np.zeros((5, 5, 3), np.uint8))
    source = pairs[0].input.parents[1]
    cache = PictureCache.load(folder, source)
    result = prepare_pictures(plan_preparation(pairs, cache), cache)
    assert [problem.split(": ")[1][:7] for problem in result.problems] == ["not a p", "the fil"]
    assert result.decoded == 6
    cache = PictureCache.load(folder, source)
    assert not cache.find_unprepared(pictures_of(pairs))
    for pair in pairs[1:]:
        with pytest.raises(UserError) as expected:
            read_pair(pair)
        with pytest.raises(UserError) as found:
            cache.read_pair(pair)
        assert str(found.value) == str(expected.value)
    options = {"patch_size": 8, "skip_broken": True}
    decoded, prepared = (get_training_data(source, options) for _ in range(2))
    prepared.read_pair = cache.read_pair
    assert torch.equal(decoded[1, 1][0], prepared[1, 1][0])


def test_a_repaired_picture_is_prepared(pairs, folder):
    content = pairs[1].input.read_bytes()
    pairs[1].input.write_bytes(b"")
    cache = prepare(pairs, folder)
    pairs[1].input.write_bytes(content)
    assert cache.find_unprepared(pictures_of(pairs)) == [pairs[1].input]
    assert cache.file_of(prepare(pairs, folder).records[pairs[1].input]).exists()


def test_with_a_limit_the_first_pairs_that_fit_are_prepared(pairs, folder, decoded):
    """Each picture takes a block of 4096 bytes."""
    cache = prepare(pairs, folder, limit=3 * 2 * 4096 + 100)
    assert sorted(decoded) == sorted(path.name for path in pictures_of(pairs[:3]))
    assert cache.left_out == {pairs[3].input, pairs[3].target}
    assert not cache.find_unprepared(pictures_of(pairs))
    assert all(np.array_equal(a, b) for a, b in zip(cache.read_pair(pairs[3]), read_pair(pairs[3]), strict=True))
    cache = prepare(pairs, folder, limit=2 * 4096)
    assert len(list(folder.glob("*.rgb"))) == 2
    assert len(cache.left_out) == 6


def test_a_shared_target_counts_once(pairs, folder):
    shared = [Pair("a", pairs[0].input, pairs[0].target), Pair("b", pairs[1].input, pairs[0].target)]
    plan = plan_preparation(shared, PictureCache(folder, folder))
    assert plan == Plan([pairs[0].input, pairs[0].target, pairs[1].input], [], 3 * 4096, 3 * 4096)
    assert len(plan_preparation(shared, PictureCache(folder, folder), 3 * 4096).pictures) == 3


def test_the_plan_counts_the_picture_of_a_tiff_and_not_its_preview(pairs, folder):
    path = pairs[0].input.with_name("a.tif")
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((4, 5, 3), np.uint8), photometric="rgb", subfiletype=1)
        file.write(np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    assert plan_preparation([Pair("a", path, pairs[0].target)], PictureCache(folder, folder)).total == 3 * 4096


def test_the_plan_counts_what_is_prepared(pairs, folder):
    cache = prepare(pairs, folder)
    plan = plan_preparation(pairs, cache)
    assert (plan.total, plan.missing) == (8 * 4096, 0)
    rewrite(pairs[0].input)
    assert plan_preparation(pairs, cache).missing == 4096


def test_a_data_set_that_was_moved_is_still_prepared(pairs, folder, tmp_path):
    prepare(pairs, folder)
    (tmp_path / "set").rename(tmp_path / "moved")
    cache = PictureCache.load(folder, tmp_path / "moved")
    moved = [tmp_path / "moved" / path.relative_to(tmp_path / "set") for path in pictures_of(pairs)]
    assert not cache.find_unprepared(moved)


def test_a_cache_of_another_data_set_is_an_error(pairs, folder, tmp_path):
    prepare(pairs, folder)
    with pytest.raises(UserError, match=r"holds the prepared pictures of .*set, not of .*other: name another folder"):
        PictureCache.load(folder, tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"decoder": "mprnet 1", "source": 3, "pictures": []}'])
def test_a_damaged_index_is_made_again(pairs, folder, decoded, content):
    prepare(pairs, folder)
    (folder / "index.json").write_bytes(content)
    decoded.clear()
    source = pairs[0].input.parents[1]
    assert len(PictureCache.load(folder, source).find_unprepared(pictures_of(pairs))) == 8
    assert not prepare(pairs, folder).find_unprepared(pictures_of(pairs))
    assert not decoded


def test_pictures_that_another_version_decoded_are_decoded_again(pairs, folder, decoded, monkeypatch):
    prepare(pairs, folder)
    monkeypatch.setattr(cache_module, "_DECODER", "mprnet 0")
    decoded.clear()
    assert len(PictureCache.load(folder, pairs[0].input.parents[1]).find_unprepared(pictures_of(pairs))) == 8
    prepare(pairs, folder)
    assert len(decoded) == 8
    assert len(list(folder.glob("*.rgb"))) == 8


def test_the_same_content_with_another_suffix_is_another_picture(pairs, folder, decoded):
    """Raw files and TIFFs can have the same content, but are decoded differently."""
    prepare(pairs[:1], folder)
    shutil.copy(pairs[0].input, copy := pairs[0].input.with_suffix(".tif"))
    decoded.clear()
    prepare([pairs[0], Pair("copy", copy, pairs[0].target)], folder)
    assert decoded == ["0.tif"]
