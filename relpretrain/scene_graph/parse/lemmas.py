"""English lemmas by rule: of nouns and of verbs, with tables for the irregular ones."""

from __future__ import annotations

from functools import lru_cache

from relpretrain.scene_graph.parse.words import lexicon

_IRREGULAR_NOUNS = {
    plural: singular
    for pair in (
        "men man, women woman, children child, people people, feet foot, teeth tooth, geese goose, mice mouse, "
        "oxen ox, leaves leaf, knives knife, wives wife, lives life, loaves loaf, halves half, shelves shelf, "
        "wolves wolf, calves calf, scarves scarf, hooves hoof, elves elf, thieves thief, selves self, dice die, "
        "buses bus, gases gas, lenses lens, quizzes quiz, cacti cactus, fungi fungus, movies movie, cookies cookie, "
        "brownies brownie, smoothies smoothie, selfies selfie, zombies zombie, pies pie, ties tie, shoes shoe, "
        "toes toe, canoes canoe, skies sky, skis ski, taxis taxi, bikinis bikini, axes axe, headaches headache, "
        "moustaches moustache, mustaches mustache, quiches quiche, dyes dye, eyes eye, waves wave, gloves glove, "
        "sleeves sleeve, olives olive, stoves stove, doves dove, valves valve, caves cave, graves grave, "
        "curves curve, grooves groove, hives hive, chives chive, cloves clove, slaves slave, archives archive, "
        "natives native, zucchinis zucchini, paparazzi paparazzi, spaghetti spaghetti"
    ).split(", ")
    for plural, singular in [pair.split()]
}  # fmt: skip
_ALIKE = frozenset(
    "glasses sunglasses eyeglasses goggles pants jeans shorts trousers scissors tongs pliers tweezers binoculars "
    "headphones clothes pajamas series species sheep bus gas lens cactus glass grass dress brass bass boss cross "
    "compass canvas christmas tennis news mattress princess waitress actress goddess mass moss pass class process "
    "iris debris walrus octopus virus menus campus circus citrus lotus asparagus hummus platypus hippopotamus "
    "rhinoceros chess molasses tights leggings overalls binoculars this its his pus thus us plus yes is was has as".split()
) - {"menus"}  # fmt: skip

_IRREGULAR_VERBS = {
    form: forms.split()[0]
    for forms in (
        "be is are was were been being am, have has had having, do does did done doing, go goes went gone, "
        "hold held, wear wore worn, sit sat sitting, stand stood, ride rode ridden, eat ate eaten, drive drove driven, "
        "fly flew flown flies, lie lying lies lay, lay laid, hang hung, throw threw thrown, catch caught, "
        "take took taken, give gave given, make made, build built, write wrote written, draw drew drawn, "
        "wind wound, bind bound, grow grew grown, feed fed, lead led, read read, run ran, swim swam swum, "
        "sing sang sung, ring rang rung, drink drank drunk, sink sank sunk, stick stuck, strike struck, swing swung, "
        "sling slung, cling clung, spin spun, dig dug, wrap wrapped, leave left, come came, become became, see saw seen, "
        "say said, keep kept, sleep slept, sweep swept, weep wept, creep crept, leap leapt, kneel knelt, bend bent, "
        "lend lent, send sent, spend spent, lean leant, burn burnt, light lit, bite bit bitten, hide hid hidden, "
        "slide slid, break broke broken, wake woke woken, steal stole stolen, freeze froze frozen, choose chose chosen, "
        "shake shook shaken, fall fell fallen, rise rose risen, blow blew blown, know knew known, show shown, "
        "sew sewn, mow mown, tear tore torn, bear bore borne, swear swore sworn, shoot shot, get got gotten, "
        "win won, buy bought, bring brought, think thought, fight fought, teach taught, sell sold, tell told, "
        "find found, grind ground, tie tying ties tied, die dying, dye dyeing dyed dyes, pay paid, lose lost, "
        "meet met, speak spoke spoken, weave wove woven, spread spread, put put, cut cut, hit hit, set set, shut shut, "
        "let let, split split, cast cast, shed shed, prepare prepares, string strung, tread trod trodden, "
        "overlook overlooked, ski skis skied skiing, begin began begun, shine shone, hear heard, forget forgot"
    ).split(", ")
    for form in forms.split()
}  # fmt: skip
IRREGULAR_FORMS = {form: "VBD" for form, lemma in _IRREGULAR_VERBS.items() if form != lemma}
"""Irregular forms of verbs with a tag for those that no list of words has."""
_VOWELS = frozenset("aeiouy")


def is_plural(word: str) -> bool:
    """Whether a noun is one of several, by its form."""
    return noun_lemma(word) != word


@lru_cache(1 << 16)
def noun_lemma(word: str) -> str:
    """The singular of a noun in lower case; of a compound, that of its last word: "coffee cups" gives "coffee cup"."""
    before, space, last = word.rpartition(" ")
    if space:
        return f"{before} {noun_lemma(last)}"
    if word in _IRREGULAR_NOUNS:
        return _IRREGULAR_NOUNS[word]
    if word in _ALIKE or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("men"):
        return word[:-2] + "an"
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
