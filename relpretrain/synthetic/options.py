"""Everything that can be chosen of a generated world."""

from __future__ import annotations

from dataclasses import dataclass

from relpretrain.synthetic.relations import RELATIONS


@dataclass(frozen=True)
class WorldOptions:
    """How much a generated world holds, what is seen and said in it, what is held out, and how it is packed.

    `relpretrain data synthetic --help` shows the same texts.

    Args:
        seed: Where everything is drawn from.
        images_captions: Images with captions.
        images_regions: Images with boxes.
        images_graphs: Images with scene graphs.
        images_validation: Held-out images with all of these.
        items_vsr: VSR items: a third in dev, the rest in test.
        items_valse: Items in each VALSE file, but fewer in actant-swap where a scene holds only relations that are the
            same from both sides. A file on counting is among them where scenes differ in their number of objects.
        items_svo: SVO items, a third each with another subject, relation and object in the negative image.
        items_hard_positives: Hard positives: a relation, the same from the other side, and a text that is false.
        items_attribution: Items of ARO's attribution: two things, and the two with each other's colours.
        items_retrieval: Images in each of the galleries val and test, all with different captions that name what is
            there: no more than the world has of them (15 for two objects of six kinds); `world.json` tells how many.
        items_paragraphs: Likewise with texts that also tell every annotated relation.
        one_corpus: Whether regions and graphs are those of the first images with captions, under keys of their own, as
            Visual Genome is a part of a web corpus; else they are of other scenes.
        alike: How many neighbouring images of a shard show the same things, standing otherwise. A stream that draws as
            many `neighbours` together then has batches in which only relations tell images apart, however many kinds
            there are.
        mirrored: Fraction of those neighbours that mirror the image before them, so that no left, right, above
            or below of it stays true: two things in the direction in which they lie further apart, more in both. Fewer
            where that would show what is held out.
        shard_size: Samples in a shard, a multiple of `alike`. The first shards are a fraction of the images: a recipe
            takes five of them as `graphs/shard-{000000..000004}.tar`. With `one_corpus`, these are of the images of the
            first five of `captions/`, and the fraction of images with graphs is `images_graphs` / `images_captions`, or
            less.
        image_size: Side of the square images in pixels.
        objects: Objects in a scene, all of different kinds: a number, or the smallest and the largest one, between
            which each scene's is drawn.
        shapes: Shapes, of square, circle, triangle, diamond, cross.
        colors: Colours, of red, green, blue, yellow, purple, orange, cyan, black, white, pink, brown, lime, navy, teal.
            White is faint where the ground is bright, and lime near yellow.
        sizes: Sizes: any, or several of small, medium, large, which are then part of an object's label.
        textures: Textures, of plain, striped, dotted, checked; part of the label where there are several.
        noise: Largest deviation of a background pixel, of 255.
        clutter: Small marks on the ground that no text names.
        occlusion: Largest fraction of an object that another one may hide, up to 0.5; boxes are of whole objects.
        relations: Relations, of left of, right of, above, below, inside, around, on, carrying, near, far from,
            touching, bigger than, smaller than (`relations.true_relations` says when each is true). Where others than
            the first four are named, several may be true of two objects, and most scenes are arranged for one of them.
        mutual: Whether both directions of a relation are annotated, or always the same one for equal scenes.
        relational_captions: Fraction of the captions that mention a relation.
        relational_sentences: Fraction of the captions with a relation that say it in a sentence ("The red square
            is above the blue square."); the others are phrases, as in graphs ("red square above blue square").
        counting_captions: Fraction of the captions that tell the number of objects.
        caption_noise: Fraction of the captions in `captions/` that are another scene's.
        label_noise: Fraction of the relations in `graphs/` that are replaced by a false one.
        omitted_relations: Fraction of the relations that `graphs/` does not tell, as people annotate some of what they
            see; of each scene it tells one at least.
        hold_out_pairs: Fraction of the pairs of kinds that stand together in no shard; a kind keeps half of its pairs.
        hold_out_combinations: Fraction of the compositions of the other pairs ("red square left of blue square") that
            are true in no shard; two kinds that stand together keep some relations.
    """

    seed: int = 0
    images_captions: int = 6000
    images_regions: int = 3000
    images_graphs: int = 6000
    images_validation: int = 600
    items_vsr: int = 600
    items_valse: int = 400
    items_svo: int = 0
    items_hard_positives: int = 0
    items_attribution: int = 0
    items_retrieval: int = 0
    items_paragraphs: int = 0
    one_corpus: bool = False
    alike: int = 1
    mirrored: float = 0.0
    shard_size: int = 1000
    image_size: int = 32
    objects: int | tuple[int, int] = 2
    shapes: tuple[str, ...] = ("square",)
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "cyan")
    sizes: tuple[str, ...] = ("any",)
    textures: tuple[str, ...] = ("plain",)
    noise: int = 6
    clutter: int = 0
    occlusion: float = 0.0
    relations: tuple[str, ...] = RELATIONS
    mutual: bool = False
    relational_captions: float = 0.1
    relational_sentences: float = 0.5
    counting_captions: float = 0.0
    caption_noise: float = 0.0
    label_noise: float = 0.0
    omitted_relations: float = 0.0
    hold_out_pairs: float = 0.0
    hold_out_combinations: float = 0.0
