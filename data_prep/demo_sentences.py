"""The sentences of the demo corpus, written for this project."""

import random

# All speakers read these two, like the SA sentences of TIMIT.
SHARED = (
    "Just before noon the harbour bell rang twice, and every gull on the pier took off.",
    "Please measure the blue thread again, because Judith thought the edge was far too rough.",
)

# Some of the speakers read each of these, like the SX sentences of TIMIT.
COMMON = (
    "The kettle whistled while nobody was in the kitchen.",
    "Seven small boats drifted past the old stone bridge.",
    "Could you lend me your umbrella until Thursday?",
    "A thin layer of ice covered the garden pond.",
    "My uncle repairs clocks in a shop behind the station.",
    "They planted pear trees along the southern wall.",
    "Who left the cellar door open all night?",
    "The recipe asks for two cups of barley and a pinch of salt.",
    "Every window in the tower faces the sea.",
    "He whispered the answer so that only she could hear.",
    "Fresh snow makes the whole valley sound quieter.",
    "The judge put on her glasses and read the letter twice.",
    "Wool socks dry slowly in this weather.",
    "I would rather walk than wait for another bus.",
    "The orchestra tuned while the audience found its seats.",
    "Bring a lantern, the path through the woods is steep.",
    "Her voice carried clearly across the empty hall.",
    "The baker opens at five and sells out by nine.",
    "Two foxes crossed the railway line at dawn.",
    "Nothing in the drawer belonged to either of us.",
    "Choose a pebble that fits inside your hand.",
    "The engine coughed, shook, and finally caught.",
    "Our neighbours keep bees on the roof of their garage.",
    "Is the museum closed on the first Monday of the month?",
    "She folded the map the wrong way, as usual.",
    "A long shadow moved over the wheat.",
    "The plumber charged us less than we had feared.",
    "Turn left at the chapel and follow the river.",
    "He drew a perfect circle without lifting the chalk.",
    "Thunder rolled somewhere beyond the hills.",
    "The youngest of the three brothers became a pilot.",
    "We measured the depth of the well with a rope.",
    "Oranges were stacked in pyramids beside the door.",
    "That joke was funnier the first time you told it.",
    "The ferry leaves whether or not you are on it.",
    "Both of the wheels need a little more air.",
    "Please write your name at the bottom of each page.",
    "An owl has moved into the abandoned mill.",
    "The children counted backwards from twenty.",
    "Vinegar will clean the copper better than soap.",
    "Why does the ceiling fan make that noise?",
    "They danced until the band refused to play on.",
    "The cheese was wrapped in leaves and tied with string.",
    "Half of the village came to watch the launch.",
    "A good carpenter wastes very little wood.",
    "The telegram arrived a week after the wedding.",
    "Mix the yellow paint until no streaks are left.",
    "Several pages had been torn from the diary.",
    "The goat chewed calmly on the edge of the tablecloth.",
    "I heard the front gate, then footsteps on gravel.",
    "You can see five counties from the top of that ridge.",
    "The doctor asked him to breathe in and hold it.",
    "Moss grows thick on the north side of the barn.",
    "Her suitcase was heavier than the child who carried it.",
    "The choir rehearses in a room above the library.",
    "Sharpen the pencil before you draw the finer lines.",
    "Gulls followed the plough across the brown field.",
    "What did the sailor trade for his brass telescope?",
    "The lift was stuck between the third and fourth floors.",
    "Old photographs curl when they are kept near a stove.",
    "There was just enough flour for one more loaf.",
    "The referee looked at his watch and blew the whistle.",
    "A few of the coins were older than the castle.",
    "Nobody noticed that the piano had been moved.",
    "The puppy fell asleep with its nose in a shoe.",
    "Rain drummed on the tin roof all through the lesson.",
    "We had to guess the ending of the story.",
    "The vase was mended with a thin seam of gold.",
    "Hang the wet coats over the chairs by the fire.",
    "The view was worth each one of those steps.",
    "They argued cheerfully about the rules of the game.",
    "A cyclist waved as she overtook the tractor.",
)

# Parts of the sentences that only one speaker reads, like the SI sentences of TIMIT.
WHO = (
    "the night watchman", "a retired teacher", "my cousin Gwen", "the tallest of the dancers", "an honest broker",
    "the boy with the trumpet", "our landlady", "the ship's cook", "a visitor from Bergen", "the postmaster",
    "the woman in the green coat", "an impatient driver", "the beekeeper's daughter", "young Theo", "the choir master",
)  # fmt: skip
DID = (
    "hid the silver key", "painted over the sign", "lost a bet about the weather", "carved a small wooden horse",
    "asked for the bill", "photographed the oldest oak", "found a letter in French", "forgot the name of the street",
    "bought eleven jars of honey", "measured the distance twice", "sang the chorus alone", "dropped a tray of glasses",
    "sold the last ticket", "untied the wrong boat", "noticed a strange smell of cloves",
)  # fmt: skip
WHERE = (
    "under the stairs", "at the edge of the market", "behind the ruined abbey", "on the upper deck",
    "in a corner of the vineyard", "beside the frozen canal", "near the quarry", "outside the town hall",
    "on the way to Vauxhall", "between two tall hedges", "at the far end of the platform",
    "in the shade of a walnut tree",
)  # fmt: skip
WHEN = (
    "long before sunrise", "during the second half", "shortly after the storm", "on the last day of August",
    "when everybody else was asleep", "while the soup was getting cold", "as the curtain rose", "a year too late",
    "just in time for supper", "without telling anyone why", "for the third time that week", "in spite of the fog",
)  # fmt: skip


def compose(rng: random.Random) -> str:
    """Compose one of 32,400 sentences of who did what, where and when."""
    who, did, where, when = (rng.choice(part) for part in (WHO, DID, WHERE, WHEN))
    return f"{who[0].upper()}{who[1:]} {did} {where} {when}."
