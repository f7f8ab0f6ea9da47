import itertools
import pickle

import pytest
import torch
from torchvision import transforms
from transformers import CLIPImageProcessor

from relpretrain import RelationVocabulary, graph_loader
from relpretrain.data.pipeline.host_tokenizer import PlainTokenizer, SentenceEncoder, text_encoder
from relpretrain.data.pipeline.images import IMAGE_MEAN, IMAGE_STD
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.errors import ConfigError
from relpretrain.types import GraphBatch
from tests import two_ranks
from tests.data.small import picture, tokenizer, write_shards

STILL = {"min_scale": 1.0, "flip": 0.0, "color": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return write_shards(folder / "shards", count=24), tokenizer(folder)


def same(one, two):
    assert one.keys == two.keys
    assert one.step == two.step
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.pairs.text.masked_input_ids, two.pairs.text.masked_input_ids)
    assert torch.equal(one.entities.boxes, two.entities.boxes)
    assert one.relations == two.relations


def test_batches_for_ever(world):
    batches = list(itertools.islice(graph_loader(*world, 4, 32), 9))  # more than an epoch of six
    assert [batch.step for batch in batches] == list(range(9))
    assert all(isinstance(batch, GraphBatch) and batch.images.shape == (4, 3, 32, 32) for batch in batches)
    keys = [key for batch in batches[:6] for key in batch.keys]
    assert len(set(keys)) == 24


def test_passes(world):
    loader = graph_loader(*world, 5, 32, endless=False)
    assert len(loader) == 4
    assert [[batch.step for batch in loader] for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(TypeError, match="endless=False"):
        len(graph_loader(*world, 5, 32))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_position_is_exact(world, workers):
    expected = list(itertools.islice(graph_loader(*world, 4, 32, seed=3), 5))
    loader = graph_loader(*world, 4, 32, seed=3, num_workers=workers)
    for batch in itertools.islice(loader, 2):
        same(batch, expected[batch.step])
    again = graph_loader(*world, 4, 32, seed=3, num_workers=workers)
    again.load_state_dict(pickle.loads(pickle.dumps(loader.state_dict())))
    for batch, other in zip(again, expected[2:], strict=False):
        same(batch, other)


def test_a_break_in_the_middle_of_a_pass(world):
    loader = graph_loader(*world, 4, 32, endless=False)
    assert [batch.step for batch in itertools.islice(loader, 2)] == [0, 1]
    assert [batch.step for batch in loader] == [2, 3, 4, 5]
    loader.seek(4)
    assert [batch.step for batch in loader] == [4, 5]


def test_a_list_of_images_is_known_by_what_it_holds(world, tmp_path):
    """Not by its path: one that was moved changes nothing, and one that was changed does."""
    states = []
    for name, ids in (("a.json", "12"), ("b.json", "12"), ("a.json", "123")):
        Exclusion(frozenset(ids)).save(tmp_path / name)
        states.append(graph_loader(*world, 4, 32, exclude=str(tmp_path / name)).state_dict()["schedule"])
    assert states[0] == states[1] != states[2]


def test_another_plan_is_told(world):
    state = graph_loader(*world, 4, 32, seed=1).state_dict()
    with pytest.warns(UserWarning, match="graphs differ from the checkpoint's"):
        graph_loader(*world, 4, 32, seed=2).load_state_dict(state)


def _share(rank, world):
    loader = graph_loader(*world, 4, 32)
    return [batch.keys for batch in itertools.islice(loader, 2)]


def test_two_ranks_have_a_slice_each(world):
    whole, halves = _share(None, world), two_ranks.run(_share, world)
    assert [one + two for one, two in zip(*halves, strict=True)] == whole


def test_labels_end_with_a_separator_or_not_and_triplets_always_do(world):
    words = load_tokenizer(world[1])
    for separator in (True, False):
        batch = next(iter(graph_loader(*world, 4, 32, separator=separator)))
        for text, ends in ((batch.entities.text, separator), (batch.pairs.text, True)):
            last = text.input_ids[torch.arange(len(text)), text.attention_mask.sum(1) - 1]
            assert torch.all((last == words.sep_token_id) == ends)


def test_numbers_and_vocabulary(world):
    settings = {"relations_per_text": 1, "relations_per_image": 3, "vocabulary": RelationVocabulary(["on"])}
    batch = next(iter(graph_loader(*world, 4, 32, **STILL, **settings)))
    assert set(batch.relations) == {"on"}
    assert (batch.pairs.text.input_ids == load_tokenizer(world[1]).sep_token_id).sum(1).tolist() == [1] * 4
    assert len(next(iter(graph_loader(*world, 4, 32, **STILL, relations_per_image=3))).relations) == 12


def test_mean_and_std_are_the_hosts(world):
    ours = next(iter(graph_loader(*world, 4, 32))).model_images()
    theirs = next(iter(graph_loader(*world, 4, 32, mean=(0.5,) * 3, std=(0.5,) * 3))).model_images()
    pixels = ours * torch.tensor(IMAGE_STD)[:, None, None] + torch.tensor(IMAGE_MEAN)[:, None, None]
    torch.testing.assert_close(theirs, (pixels - 0.5) / 0.5)


def test_a_transform_is_the_hosts(world):
    """Its values, in our geometry: the same as our own normalisation."""
    plain = next(iter(graph_loader(*world, 4, 32))).model_images()
    normal = transforms.Normalize(IMAGE_MEAN, IMAGE_STD)
    evaluation = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor(), normal])
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    for transform in (evaluation, processor):
        batch = next(iter(graph_loader(*world, 4, 32, transform=transform)))
        torch.testing.assert_close(batch.images, plain, rtol=0, atol=1e-5)
        assert batch.model_images() is batch.images
    with pytest.raises(ValueError, match=r"transform gave \(3, 16, 16\) for an image of 32 pixels"):
        next(
            iter(
                graph_loader(
                    *world, 4, 32, transform=transforms.Compose([transforms.Resize(16), evaluation.transforms[2]])
                )
            )
        )


def test_problems_are_told_together(world, tmp_path):
    with pytest.raises(ConfigError) as error:
        graph_loader(str(tmp_path / "none"), tmp_path / "nothing", 4, 32, mask_fraction=2.0)
    message = str(error.value)
    assert "mask_fraction=2 must be a fraction" in message
    assert "none" in message
    assert "tokenizer" in message
    with pytest.raises(ConfigError, match="max_tokens=4 is too short for one triplet"):
        graph_loader(*world, 4, 32, max_tokens=4)
    captions = write_shards(tmp_path / "captions", count=3, graph=False)
    with pytest.raises(ConfigError, match="needs samples with relations"):
        graph_loader(captions, world[1], 2, 32)


def test_bad_samples_are_counted(tmp_path, world):
    def broken(i):
        return b"no image" if i == 1 else picture(i)

    shards = write_shards(tmp_path / "some", count=8, image=broken)
    loader = graph_loader(shards, world[1], 4, 32, endless=False, max_bad_fraction=0.5, **STILL)
    assert sum(len(batch) for batch in loader) == 8  # another in its place
    assert loader.report() == {"graphs": {"not_an_image": 1}}


def test_a_tokenizer_object_is_as_good_as_its_name(world):
    by_name = next(iter(graph_loader(*world, 4, 32)))
    given = next(iter(graph_loader(world[0], load_tokenizer(world[1]), 4, 32)))
    same(by_name, given)


class Slow:
    """A tokenizer in plain Python, as the official ALBEF code has one."""

    def __init__(self, fast):
        self.fast = fast
        names = ["cls", "sep", "mask", "pad", "unk"]
        for name in [f"{n}_token" for n in names] + [f"{n}_token_id" for n in names] + ["all_special_ids"]:
            setattr(self, name, getattr(fast, name))

    def __len__(self):
        return len(self.fast)

    def tokenize(self, text):
        return self.fast.tokenize(text)

    def convert_tokens_to_ids(self, tokens):
        return self.fast.convert_tokens_to_ids(tokens)


def test_a_slow_tokenizer_gives_the_same_tokens_and_words(world):
    fast = load_tokenizer(world[1])
    one, two = text_encoder(fast, 40, separator=False), text_encoder(Slow(fast), 40, separator=False)
    assert type(one) is type(two) is TextEncoder
    for text in ("a red cat", "the xylophone on a treehouse"):
        assert one.caption(text) == two.caption(text)
    assert one.triplets(["cat on dog", "dog under trees"]) == two.triplets(["cat on dog", "dog under trees"])


def test_openclip_texts_are_what_its_tokenizer_makes():
    theirs = pytest.importorskip("open_clip").get_tokenizer("ViT-B-32")
    encoder = text_encoder(theirs, 77)
    assert isinstance(pickle.loads(pickle.dumps(encoder)), SentenceEncoder)
    tokens = encoder.triplets(["a cat on a mat", "dogs beside an old tree"])
    expected = theirs(["a cat on a mat. dogs beside an old tree."])[0]
    assert tokens.ids == expected[: len(tokens.ids)].tolist()
    assert not expected[len(tokens.ids) :].any()
    assert encoder.caption("a cat").ids == theirs(["a cat"])[0][:4].tolist()
    assert not encoder.fits(["a cat on a mat"] * 20)
    with pytest.raises(ValueError, match="do not fit into 77 tokens"):
        encoder.triplets(["a cat on a mat"] * 20)


def test_openclips_loader_masks_no_words(world):
    theirs = pytest.importorskip("open_clip").get_tokenizer("ViT-B-32")
    batch = next(iter(graph_loader(world[0], theirs, 4, 32, max_tokens=77)))
    assert torch.all(batch.pairs.text.labels == -100)
    assert torch.all(batch.pairs.text.input_ids[:, 0] == 49406)
    assert torch.equal(batch.pairs.text.masked_input_ids, batch.pairs.text.input_ids)
    ends = (batch.pairs.text.input_ids == 49407).sum(1)
    assert ends.tolist() == [1] * 4


def test_what_ends_no_text_is_refused():
    with pytest.raises(ValueError, match="no token that ends a text"):
        PlainTokenizer(object())
