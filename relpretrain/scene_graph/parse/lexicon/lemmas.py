"""English lemmas by rule: of nouns and of verbs, with tables for the irregular ones."""

from __future__ import annotations

from functools import lru_cache

from relpretrain.scene_graph.parse.lexicon.words import lexicon, listed

_NOUNS = (
    "men man, women woman, children child, people people, feet foot, teeth tooth, geese goose, mice mouse, oxen ox, "
    "leaves leaf, knives knife, wives wife, lives life, loaves loaf, halves half, shelves shelf, wolves wolf, "
    "calves calf, scarves scarf, hooves hoof, elves elf, thieves thief, dice dice, buses bus, gases gas, lenses lens, "
    "quizzes quiz, cacti cactus, movies movie, cookies cookie, brownies brownie, smoothies smoothie, selfies selfie, "
    "zombies zombie, pies pie, ties tie, shoes shoe, toes toe, canoes canoe, taxis taxi, axes axe, quiches quiche, "
    "moustaches moustache, mustaches mustache"
)
_IRREGULAR_NOUNS = {plural: singular for pair in _NOUNS.split(", ") for plural, singular in [pair.split()]}
_ALIKE = listed(
    "glasses sunglasses eyeglasses goggles pants jeans shorts trousers scissors tongs pliers tweezers binoculars "
    "headphones clothes pajamas series species bus gas lens canvas christmas tennis news mattress tights leggings "
    "overalls molasses"
)
"""Nouns that end in s and are the same in both numbers."""

_VERBS = (
    "be is are was were been being am, have has had having, do does did done doing, go goes went gone, hold held, "
    "wear wore worn, sit sat, stand stood, ride rode ridden, eat ate eaten, drive drove driven, fly flew flown flies, "
    "lie lying lies, lay laid, hang hung, throw threw thrown, catch caught, take took taken, give gave given, "
    "make made, build built, write wrote written, draw drew drawn, wind wound, bind bound, grow grew grown, feed fed, "
    "lead led, read, run ran, swim swam swum, sing sang sung, ring rang rung, drink drank drunk, sink sank sunk, "
    "stick stuck, strike struck, swing swung, sling slung, cling clung, spin spun, dig dug, leave left, come came, "
    "become became, see saw seen, say said, keep kept, sleep slept, sweep swept, creep crept, leap leapt, kneel knelt, "
    "bend bent, send sent, spend spent, burn burnt, light lit, bite bit bitten, hide hid hidden, slide slid, "
    "break broke broken, wake woke woken, steal stole stolen, freeze froze frozen, choose chose chosen, "
    "shake shook shaken, fall fell fallen, rise rose risen, blow blew blown, know knew known, show shown, sew sewn, "
    "mow mown, tear tore torn, bear bore borne, shoot shot, get got gotten, win won, buy bought, bring brought, "
    "think thought, fight fought, teach taught, sell sold, tell told, find found, grind ground, tie tying ties tied, "
    "die dying, dye dyeing dyed dyes, pay paid, lose lost, meet met, speak spoke spoken, weave wove woven, put, "
    "spread, cut, hit, set, shut, let, split, string strung, "
    "ski skis skied skiing, begin began begun, shine shone, hear heard"
)
_IRREGULAR_VERBS = {form: row.split()[0] for row in _VERBS.split(", ") for form in row.split()}
IRREGULAR_FORMS = {form: "VBD" for form, lemma in _IRREGULAR_VERBS.items() if form != lemma}
"""Irregular forms of verbs with a tag for those that no list of words has."""

_VOWELS = frozenset("aeiouy")


@lru_cache(1 << 16)
def noun_lemma(word: str) -> str:
    """The singular of a noun in lower case; of a compound, that of its last word: "coffee cups" gives "coffee cup"."""
    before, space, last = word.rpartition(" ")
    if space:
        return f"{before} {noun_lemma(last)}"
    if word in _IRREGULAR_NOUNS:
        return _IRREGULAR_NOUNS[word]
    if word.endswith("men"):
        return word[:-2] + "an"
    if word in _ALIKE or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


@lru_cache(1 << 16)
def verb_lemma(word: str) -> str:
    """The infinitive of a verb form in lower case: "sitting", "sits" and "sat" give "sit"."""
    if word in _IRREGULAR_VERBS:
        return _IRREGULAR_VERBS[word]
    if word.endswith("ing") and len(word) > 4 and _VOWELS & set(word[:-3]):
        return _stem(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 3 and _VOWELS & set(word[:-2]):
        return _stem(word[:-2])
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def _stem(stem: str) -> str:
    """The infinitive of what stands before "ing" or "ed": a known verb if one fits, else by its letters."""
    single = stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _VOWELS else stem
    for candidate in (f"{stem}e", stem, single):
        if candidate in lexicon().verbs:
            return candidate
    if single != stem and stem[-2:] not in ("ll", "ss", "ff", "zz"):
        return single
    if stem.endswith(
        (
            "ais",
            "eas",
            "ois",
            "los",
            "pos",
            "us",
            "v",
            "c",
            "u",
            "dg",
            "rg",
            "at",
            "iz",
            "bl",
            "dl",
            "gl",
            "kl",
            "pl",
            "fl",
            "tl",
        )
    ):
        return f"{stem}e"
    # A short stem would have its last letter twice before "ing" and "ed" ("stopping"), had it no e ("sharing").
    vowels = [letter in _VOWELS for letter in stem]
    if vowels[-3:] == [False, True, False] and sum(vowels) == 1 and stem[-1] not in "wx":
        return f"{stem}e"
    return stem


@lru_cache(1 << 16)
def participle(lemma: str) -> str:
    """The present participle of an infinitive: "sit" gives "sitting"."""
    if lemma in ("be", "see", "flee", "ski", "dye"):
        return lemma + "ing"
    if lemma.endswith("ie"):
        return lemma[:-2] + "ying"
    if lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye")):
        return lemma[:-1] + "ing"
    vowels = [letter in "aeiou" for letter in lemma]
    if len(lemma) > 2 and vowels[-3:] == [False, True, False] and lemma[-1] not in "wxy" and sum(vowels) == 1:
        return lemma + lemma[-1] + "ing"
    return lemma + "ing"
