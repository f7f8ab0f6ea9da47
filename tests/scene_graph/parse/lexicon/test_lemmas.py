import pytest

from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, participle, verb_lemma

NOUNS = (
    "cats cat, boxes box, benches bench, ladies lady, women woman, firemen fireman, knives knife, shoes shoe, "
    "grass grass, buses bus, people people, sheep sheep, glasses glasses, octopus octopus, children child, "
    "tomatoes tomato"
)
VERBS = (
    "sit sitting sits sat, hold holding holds held, ride riding rides rode, hang hanging hangs hung, lie lying lies, "
    "carry carrying carries carried, swim swimming swims swam, watch watching watches watched, use using uses used, "
    "run running runs ran, cut cutting cuts, surround surrounding surrounds surrounded, fill filling fills filled, "
    "park parking parks parked, attach attaching attaches attached, tie tying ties tied, eat eating eats ate, "
    "graze grazing grazes grazed, see seeing sees saw, play playing plays played, lean leaning leans leaned, "
    "raise raising raises raised, use using uses used, "
    "share sharing shares shared, rake raking rakes raked, strike striking strikes, rise rising rises, "
    "stop stopping stops stopped, box boxing boxes boxed, snow snowing snows snowed, visit visiting visits visited"
)


@pytest.mark.parametrize("pair", NOUNS.split(", "))
def test_nouns(pair):
    plural, singular = pair.split()
    assert noun_lemma(plural) == singular == noun_lemma(singular)
    assert noun_lemma(f"toy {plural}") == f"toy {singular}"


@pytest.mark.parametrize("row", VERBS.split(", "))
def test_verbs(row):
    lemma, *forms = row.split()
    assert {verb_lemma(form) for form in forms} == {lemma}
    assert participle(lemma) == forms[0]
