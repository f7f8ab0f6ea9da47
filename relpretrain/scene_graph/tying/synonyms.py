"""Nouns of captions that are kinds of what detection data sets label, or other names of it."""

from __future__ import annotations

from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma

_NOUNS = {
    "person": "man woman boy girl child kid baby toddler infant guy lady gentleman fellow adult teenager teen human "
    "player skier snowboarder surfer skateboarder skater rider cyclist biker bicyclist motorcyclist pedestrian "
    "passenger driver batter pitcher catcher umpire athlete worker chef cook waiter waitress officer "
    "policeman policewoman police_officer soldier student teacher tourist bride groom husband wife mother father "
    "son daughter brother sister friend dancer singer musician farmer fisherman vendor shopper spectator swimmer "
    "runner jogger hiker climber golfer referee firefighter fireman pilot doctor nurse tennis_player "
    "baseball_player soccer_player young_man young_woman",
    "man": "guy gentleman fellow businessman policeman fireman fisherman groom husband father",
    "woman": "lady businesswoman policewoman waitress bride wife mother",
    "child": "kid toddler boy girl baby",
    "bike": "bicycle cycle",
    "bicycle": "bike cycle mountain_bike",
    "car": "automobile sedan suv taxi cab minivan jeep convertible hatchback police_car",
    "motorcycle": "motorbike scooter moped dirt_bike",
    "airplane": "plane aeroplane jet airliner jetliner aircraft biplane fighter_jet",
    "plane": "airplane aeroplane jet airliner jetliner aircraft biplane",
    "bus": "coach double_decker school_bus double-decker",
    "train": "locomotive subway tram passenger_train freight_train",
    "truck": "lorry pickup pickup_truck van fire_truck firetruck tow_truck dump_truck semi trailer",
    "boat": "ship sailboat canoe kayak yacht ferry rowboat raft speedboat gondola tugboat vessel",
    "traffic light": "stoplight traffic_signal stop_light traffic_lamp",
    "fire hydrant": "hydrant",
    "stop sign": "stopsign",
    "bird": "pigeon seagull gull duck goose swan parrot owl eagle hawk sparrow chicken rooster hen peacock flamingo "
    "pelican crow ostrich penguin turkey parakeet",
    "cat": "kitten kitty tabby",
    "dog": "puppy hound poodle terrier dachshund bulldog labrador retriever corgi pug chihuahua",
    "horse": "pony foal mare stallion colt",
    "sheep": "lamb ram ewe",
    "cow": "bull ox calf cattle steer bison buffalo",
    "elephant": "baby_elephant",
    "bear": "polar_bear grizzly brown_bear grizzly_bear cub",
    "backpack": "rucksack knapsack bookbag",
    "umbrella": "parasol",
    "handbag": "purse bag tote",
    "bag": "purse handbag backpack tote sack",
    "tie": "necktie bow_tie bowtie",
    "suitcase": "luggage baggage trunk",
    "frisbee": "disc disk",
    "skis": "ski",
    "sports ball": "ball baseball basketball football soccer_ball tennis_ball volleyball",
    "ball": "baseball basketball football soccer_ball tennis_ball volleyball",
    "baseball bat": "bat",
    "baseball glove": "glove mitt",
    "surfboard": "surf_board board",
    "skateboard": "skate_board board",
    "snowboard": "board",
    "tennis racket": "racket racquet tennis_racquet",
    "bottle": "flask",
    "wine glass": "glass goblet wineglass",
    "glass": "wine_glass goblet tumbler",
    "cup": "mug teacup",
    "knife": "blade",
    "couch": "sofa loveseat settee",
    "sofa": "couch loveseat settee",
    "chair": "armchair seat stool recliner",
    "potted plant": "plant houseplant pot_plant",
    "plant": "houseplant potted_plant shrub",
    "dining table": "table desk",
    "table": "desk dining_table coffee_table",
    "desk": "writing_table",
    "toilet": "commode lavatory",
    "tv": "television tv_screen monitor television_set telly",
    "monitor": "screen computer_screen computer_monitor",
    "laptop": "laptop_computer notebook_computer macbook computer",
    "computer": "laptop pc desktop",
    "mouse": "computer_mouse",
    "remote": "remote_control controller wii_remote",
    "cell phone": "phone cellphone smartphone mobile_phone mobile iphone telephone",
    "phone": "cellphone cell_phone smartphone mobile_phone iphone telephone",
    "refrigerator": "fridge freezer",
    "oven": "stove range",
    "stove": "oven range",
    "sink": "basin washbasin",
    "donut": "doughnut",
    "cake": "cupcake cheesecake",
    "sandwich": "burger hamburger sub",
    "hot dog": "hotdog frankfurter",
    "teddy bear": "teddy stuffed_bear stuffed_animal",
    "hair drier": "hair_dryer hairdryer blow_dryer",
    "jacket": "coat parka blazer windbreaker",
    "coat": "jacket overcoat",
    "shirt": "t-shirt tee blouse top tshirt polo",
    "pants": "trousers jeans slacks",
    "shoe": "sneaker boot sandal trainer",
    "shoes": "sneakers boots sandals sneaker boot",
    "hat": "cap beanie",
    "cap": "hat baseball_cap",
    "glasses": "eyeglasses spectacles sunglasses",
    "road": "street highway lane roadway",
    "street": "road avenue",
    "sidewalk": "pavement walkway footpath",
    "grass": "lawn turf grassland",
    "building": "house skyscraper tower church barn store shop",
    "house": "home cottage",
    "picture": "photo photograph painting portrait",
    "trash can": "garbage_can bin trash_bin wastebasket trashcan",
    "post": "pole",
    "pole": "post",
    "sea": "ocean",
    "ocean": "sea",
    "hill": "hillside slope",
    "mountain": "hill peak",
    "rock": "stone boulder",
    "carpet": "rug",
    "rug": "carpet",
    "curtain": "drape",
    "ramp": "skate_ramp",
}


def _narrower() -> dict[str, frozenset[str]]:
    labels: dict[str, set[str]] = {}
    for label, nouns in _NOUNS.items():
        for noun in map(_spaced, nouns.split()):
            labels.setdefault(noun_lemma(noun), set()).add(noun_lemma(label))
    return {noun: frozenset(found) for noun, found in labels.items()}


def _spaced(noun: str) -> str:
    return noun.replace("_", " ")


NARROWER = _narrower()
"""Labels that a noun fits, by the noun: of equal or narrower meaning, all as lemmas."""

MISLEADING = frozenset(
    {"hot dog", "hotdog", "teddy bear", "stuffed bear", "gummy bear", "sea horse", "rocking horse", "hobby horse"}
    | {"horse fly", "cat fish", "dog house", "sea lion", "guinea pig", "prairie dog", "power plant", "egg plant"}
    | {"stuffed dog", "stuffed cat", "toy dog", "toy car", "toy train", "toy truck", "sand castle", "model train"}
)
"""Names that are no kind of their last word."""
