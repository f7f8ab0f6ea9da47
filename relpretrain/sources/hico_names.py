"""Names of HICO-DET: 117 verbs by their place (Chao et al., WACV 2018), and the categories of COCO by their numbers."""

from __future__ import annotations

import re

_VERBS = """
adjust assemble block blow board break brush_with buy carry catch chase check clean control cook cut
cut_with direct drag dribble drink_with drive dry eat eat_at exit feed fill flip flush fly greet grind
groom herd hit hold hop_on hose hug hunt inspect install jump kick kiss lasso launch lick lie_on lift
light load lose make milk move no_interaction open operate pack paint park pay peel pet pick pick_up
point pour pull push race read release repair ride row run sail scratch serve set shear sign sip sit_at
sit_on slide smell spin squeeze stab stand_on stand_under stick stir stop_at straddle swing tag talk_on
teach text_on throw tie toast train turn type_on walk wash watch wave wear wield zip
"""
VERBS = tuple(_VERBS.split())
"""A verb's number in the files is its place from 1."""

_NAMES = (
    "1 person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant",
    "13 stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe",
    "27 backpack,umbrella",
    "31 handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard",
    "42 surfboard,tennis racket,bottle",
    "46 wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake",
    "62 chair,couch,potted plant,bed",
    "67 dining table",
    "70 toilet",
    "72 tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator",
    "84 book,clock,vase,scissors,teddy bear,hair drier,toothbrush",
)
OBJECTS = {
    int(line.split(" ", 1)[0]) + place: name
    for line in _NAMES
    for place, name in enumerate(line.split(" ", 1)[1].split(","))
}
"""The 80 categories of COCO; its numbers have gaps."""

_DOUBLED = re.compile("control|cut|drag|flip|hit|hop|hug|pet|run|set|sip|sit|spin|stab|stir|stop|tag|zip")


def gerund(verb: str) -> str:
    """A verb as it stands between subject and object: "riding", "sitting on", "not interacting with"."""
    if verb == "no_interaction":
        return "not interacting with"
    word, *rest = verb.split("_")
    if word.endswith("ie"):
        word = word[:-2] + "y"
    elif word.endswith("e") and not word.endswith("ee"):
        word = word[:-1]
    elif _DOUBLED.fullmatch(word):
        word += word[-1]
    return " ".join([f"{word}ing", *rest])
