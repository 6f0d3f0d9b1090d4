"""Topics to write about, each with sentences that references are made of; none has a comma or a second clause mark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Topic of a text.

    Attributes:
        word: word that every text must contain.
        sentences: true sentences about it; the first contains the word.
        tempting: obvious words that occur in none of the sentences.
    """

    word: str
    sentences: tuple[str, ...]
    tempting: tuple[str, ...]


def _topic(line: str) -> Topic:
    word, sentences, tempting = (part.strip() for part in line.split("|"))
    return Topic(word, tuple(f"{s.strip()}." for s in sentences.split(".") if s.strip()), tuple(tempting.split()))


TOPICS = tuple(
    _topic(line)
    for line in """
bicycle | A bicycle needs no fuel. It keeps its rider fit and costs little. Two wheels are easy to park. Short trips through a town are often quicker this way. A good lock protects it from thieves. Many cities build new lanes for it | ride car pedal road
tea | A cup of tea warms the hands. Green leaves give a mild taste. Black leaves need hotter water. Many people drink it in the afternoon. Some add milk or lemon to it. It is grown in hills with much rain | coffee sugar hot leaf
rain | Steady rain fills the rivers. Farmers wait for it in dry summers. It cleans the dust from the streets. Children like to jump into the puddles. Dark clouds announce it early. Its sound helps some people to sleep | umbrella wet water drop
library | A library lends books to everyone. Students find a quiet desk there. Helpful staff know where everything stands. Newspapers lie ready in the hall. Children come for story hours. Its doors are open to all | read shelf study silence
garden | A small garden needs daily care. Tomatoes grow well along a warm wall. Bees visit the herbs in June. Weeds return after every shower. Compost makes the soil rich. An old bench stands under the tree | flower plant green grass
train | The night train leaves on time. Its windows show the hills at dawn. Travellers share their food with strangers. The restaurant serves soup and bread. Long tunnels make the children quiet. It arrives before the city wakes | station rail ticket fast
bread | Fresh bread smells wonderful. Bakers start their work at night. Flour and salt are all it takes. The dough must rest for hours. A thick crust keeps it soft inside. Old slices become toast | butter yeast oven eat
winter | A long winter slows the village down. Lakes freeze and skaters appear. Birds look for seeds near the houses. Evenings by the stove grow long. Thick coats hang in every hall. The first mild day feels like a gift | snow cold ice white
music | Good music brings people together. A choir needs many voices. Practice turns noise into melody. Old songs keep memories alive. Drums give the dancers a pulse. Silence is a part of it too | sound listen instrument song
coffee | Strong coffee starts the morning. Beans are roasted until they turn brown. The grinder wakes the whole house. Friends meet over a small cup. Some prefer it without milk. Its smell fills the kitchen | tea caffeine hot drink
forest | An old forest cools the valley. Mushrooms grow between the roots. Owls hunt there after sunset. A narrow path leads to a spring. Fallen trunks feed many insects. Deer hide in its shade | tree green wood leaf
market | The weekly market opens at seven. Growers sell what they picked at dawn. Buyers taste cheese before they pay. Prices fall shortly before noon. Neighbours stop there to talk. A violin player earns some coins | buy shop money fruit
ocean | The ocean covers most of our planet. Its currents carry warmth to distant coasts. Whales cross it twice a year. Many regions of the floor are unexplored. Sailors respect its storms. Tides follow the moon | water wave blue fish
chess | A game of chess begins with equal armies. The queen is the strongest piece. Beginners forget to protect the king. Openings have names from many countries. A clock limits the time for thinking. Patience wins more often than attack | board move checkmate strategy
school | The school stands near a park. Lessons begin at eight in the morning. Pupils learn to work in groups. A bell announces the break. Parents meet the staff in autumn. The gym is used by clubs in the evening | teacher student class homework
bridge | The stone bridge is very old. It joins two parts of the town. Fishermen sit below its arches. Heavy lorries must take another way. Lamps light it after dark. Engineers inspect it every spring | river cross water road
moon | The moon changes its shape every night. It reflects the light of the sun. Its gravity moves the sea. Twelve people have walked on it. Craters tell of early impacts. Wolves are said to howl at it | star planet space round
soup | A hot soup helps against a cold. Onions and carrots go in first. Beans make it more filling. It should simmer on a low flame. Fresh herbs are added at the end. The second day it tastes even better | bowl spoon salt eat
letter | A handwritten letter takes time. The paper shows the mood of its writer. Old ones are kept in boxes. A stamp pays for the journey. The answer may take weeks. Few people send one today | mail envelope pen post
mountain | The mountain rises behind our village. Snow stays on its top until July. Climbers begin before sunrise. A hut offers beds for the night. Goats find paths on steep rock. The view rewards every effort | climb high peak hike
cat | The cat sleeps most of the day. It hunts mice in the barn. Boxes attract it more than toys. Its tail shows its mood. It purrs when it feels safe. Closed doors annoy it | dog pet fur meow
theatre | The theatre opens its season in autumn. Actors learn their lines by heart. A painter prepares the scenery. The audience laughs at the right places. Costumes come from the old stock. After the last act there is applause | stage play drama ticket
island | The island has only one road. A ferry brings food twice a week. Sheep graze near the cliffs. Visitors count the seals. Storms cut it off in winter. Everybody knows everybody there | sea beach sand boat
clock | The old clock strikes every hour. Its hands are made of brass. A heavy weight drives the wheels. Someone must wind it on Sundays. It loses a minute each month. The grandchildren like its voice | time watch tick second
""".strip().splitlines()
)
