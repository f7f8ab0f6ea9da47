"""Tables of words: adjectives that exclude each other, and nouns that may name one thing; each in one string."""

FAMILIES = {
    "colour": "red blue green yellow black white brown gray grey orange purple pink silver gold golden beige tan cyan",
    "material": "wooden metal plastic glass brick stone concrete leather paper cloth",
    "size": "large big huge small little tiny",
    "length": "long short",
    "height": "tall low",
    "age": "old young new",
    "state": "open closed",
    "wetness": "wet dry",
    "fullness": "full empty",
    "light": "bright dark",
    "pattern": "striped plain checkered spotted",
}
"""Adjectives that answer one question; a thing has one of a family, unless they are in one group of `ALIKE`."""

ALIKE = (
    *({"gray", "grey", "silver"}, {"gold", "golden", "yellow", "tan", "beige"}, {"large", "big", "huge"}),
    *({"small", "little", "tiny"}, {"white", "beige", "silver"}, {"brown", "tan", "orange", "red"}, {"old", "new"}),
    *(
        {"purple", "pink", "red"},
        {"cyan", "blue"},
        {"plain", "spotted"},
        {"stone", "brick", "concrete"},
        {"black", "dark"},
    ),
)
"""Adjectives that people use for the same thing: none of a group is called false where another one is true."""

MIXED_UP = (
    "person people human man woman boy girl child kid baby lady guy male female adult player skater skateboarder "
    "surfer skier snowboarder rider worker driver men women children batter catcher pitcher umpire crowd couple "
    "group family toddler gentleman pedestrian passenger friend student officer policeman soldier chef someone "
    "spectator fan",
    "car truck van suv automobile taxi cab jeep minivan pickup trailer",
    "bike bicycle motorcycle motorbike scooter moped cycle",
    "plane airplane aircraft jet airliner aeroplane",
    "boat ship vessel canoe kayak sailboat raft",
    *("dog puppy", "cat kitten", "horse pony", "cow bull calf cattle", "sheep lamb goat", "duck goose swan"),
    *("couch sofa loveseat", "seat chair armchair stool bench couch sofa"),
    "table desk counter surface stand nightstand countertop",
    "street road pavement sidewalk path ground lane highway asphalt floor walkway crosswalk driveway",
    "grass field ground lawn pasture meadow land dirt sand",
    "tree trees bush bushes plant shrub foliage leaves branch forest wood palm",
    "shirt t-shirt tshirt top jacket coat sweater blouse vest suit hoodie sweatshirt dress",
    *("pants jeans trousers shorts skirt", "shoe shoes sneaker sneakers boot boots sandal sandals"),
    *("hat cap helmet headwear beanie", "glasses sunglasses goggles eyeglasses"),
    "bag backpack purse luggage suitcase handbag",
    "phone cellphone telephone mobile",
    "laptop computer monitor screen tv television display",
    *("cup mug glass drink beverage bottle", "plate dish bowl tray platter", "sandwich burger hotdog bread"),
    "building house home structure tower skyscraper church hotel store shop apartment barn",
    *("sky cloud clouds", "water ocean sea lake river pond wave waves pool"),
    *("sign signs board post pole", "wall fence railing barrier", "window windows glass pane"),
    *("mountain mountains hill hills", "racket racquet", "picture photo painting poster frame art"),
    *("box container basket crate package", "lamp light lights lantern streetlight", "hair head face"),
)
"""Names that people give to the same thing."""

BROADER = {
    "animal": "dog puppy cat kitten horse pony cow bull calf sheep lamb goat bird duck elephant bear zebra "
    "giraffe cattle",
    "pet": "dog puppy cat kitten bird rabbit",
    "bird": "duck seagull pigeon parrot goose swan chicken",
    "vehicle": "car truck van bus suv automobile taxi cab jeep minivan pickup trailer bike bicycle motorcycle "
    "motorbike scooter train boat plane airplane tractor",
    "furniture": "couch sofa chair armchair stool bench table desk bed cabinet shelf dresser bookcase nightstand",
    "food": "meal pizza sandwich burger hotdog cake bread meat vegetable fruit snack dessert salad apple banana orange "
    "carrot broccoli donut",
    "fruit": "apple banana orange lemon grape strawberry",
    "vegetable": "carrot broccoli tomato pepper onion lettuce",
    "clothes": "shirt t-shirt tshirt top jacket coat sweater blouse vest suit dress pants jeans trousers shorts skirt "
    "hat shoe shoes sock tie uniform outfit",
    "ball": "baseball football basketball soccerball frisbee",
    "toy": "bear doll ball kite frisbee car",
}
"""Names of kinds, and what belongs to each: a dog is an animal, and no cat."""

ALIASES = {"clothing": "clothes", "uniform": "clothes", "outfit": "clothes"}
"""Other names of kinds."""
ANYTHING = "thing object item something stuff it part piece side top bottom"
"""Names of whatever there is."""
