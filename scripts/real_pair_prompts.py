"""Prompts of scripts/real_pair.py: lines of one kind with a question and its answer, the last without the answer.

A pretrained model goes on as such a list shows, and needs no instructions. Exemplars and questions are drawn anew for every
prompt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from read_env.capabilities.instruct import facts

#: Exemplars before the question.
EXEMPLARS = 4
#: Lines of a capability's file.
PROMPTS = 600

Item = tuple[str, str]


def pairs(text: str) -> tuple[Item, ...]:
    """Questions and answers of a text ``question:answer; question:answer``."""
    found = (entry.strip().split(":") for entry in text.split(";"))
    return tuple((question, answer) for question, answer in found)


FRENCH = pairs("""
dog:chien; cat:chat; horse:cheval; cow:vache; bird:oiseau; fish:poisson; house:maison; door:porte; window:fenêtre; bed:lit;
chair:chaise; garden:jardin; street:rue; city:ville; country:pays; school:école; church:église; water:eau; bread:pain; milk:lait;
cheese:fromage; wine:vin; apple:pomme; egg:oeuf; meat:viande; salt:sel; sugar:sucre; tree:arbre; flower:fleur; sun:soleil;
moon:lune; star:étoile; sky:ciel; sea:mer; river:rivière; mountain:montagne; forest:forêt; fire:feu; snow:neige; rain:pluie;
wind:vent; day:jour; night:nuit; morning:matin; evening:soir; week:semaine; month:mois; year:année; spring:printemps; summer:été;
winter:hiver; hand:main; head:tête; eye:oeil; ear:oreille; mouth:bouche; foot:pied; heart:coeur; blood:sang; man:homme;
woman:femme; child:enfant; mother:mère; father:père; brother:frère; sister:soeur; friend:ami; king:roi; queen:reine; book:livre;
paper:papier; letter:lettre; word:mot; car:voiture; boat:bateau; bridge:pont; key:clé; knife:couteau; hat:chapeau; shoe:chaussure;
red:rouge; blue:bleu; green:vert; black:noir; white:blanc; yellow:jaune; one:un; two:deux; three:trois; four:quatre; five:cinq;
ten:dix; big:grand; small:petit; old:vieux; young:jeune; good:bon; bad:mauvais; hot:chaud; cold:froid; life:vie; death:mort;
love:amour; peace:paix; war:guerre; world:monde; time:temps
""")
OPPOSITES = pairs("""
hot:cold; big:small; up:down; left:right; black:white; good:bad; old:young; rich:poor; open:closed; early:late; fast:slow;
strong:weak; wet:dry; hard:soft; dark:light; happy:sad; high:low; long:short; true:false; day:night; full:empty; near:far;
first:last; inside:outside; before:after; always:never; love:hate; friend:enemy; war:peace; life:death; male:female; north:south;
east:west; buy:sell; push:pull; win:lose; begin:end; question:answer; clean:dirty; cheap:expensive; easy:difficult; thick:thin;
wide:narrow; deep:shallow; loud:quiet; sharp:blunt; sweet:bitter; alive:dead; asleep:awake; top:bottom; front:back; husband:wife;
summer:winter; sunrise:sunset; arrive:depart; remember:forget; accept:reject; increase:decrease; victory:defeat; success:failure
""")
PAST = pairs("""
go:went; see:saw; take:took; come:came; give:gave; find:found; think:thought; tell:told; become:became; leave:left; feel:felt;
bring:brought; begin:began; keep:kept; hold:held; write:wrote; stand:stood; hear:heard; mean:meant; meet:met; run:ran; pay:paid;
sit:sat; speak:spoke; lead:led; grow:grew; lose:lost; fall:fell; send:sent; build:built; understand:understood; draw:drew;
break:broke; spend:spent; rise:rose; drive:drove; buy:bought; wear:wore; choose:chose; eat:ate; drink:drank; fly:flew;
forget:forgot; sing:sang; swim:swam; teach:taught; throw:threw; win:won; catch:caught; steal:stole; wake:woke; sell:sold;
shake:shook; hide:hid; ride:rode; ring:rang; sleep:slept; sweep:swept; tear:tore; freeze:froze; bite:bit; blow:blew; dig:dug
""")


def usual(known: tuple[facts.Fact, ...]) -> tuple[Item, ...]:
    """Subjects with their usual answers."""
    return tuple((subject, answers[0]) for subject, answers in known)


def drawn(items: tuple[Item, ...], line: str = "{} ->") -> Callable[[random.Random], list[Item]]:
    """Draw of different items, each question put into ``line``."""
    return lambda rng: [(line.format(question), answer) for question, answer in rng.sample(items, EXEMPLARS + 1)]


#: Sums of two numbers of one digit.
SUMS = tuple((f"{a} + {b}", str(a + b)) for a in range(1, 10) for b in range(1, 10))

#: Capability -> draw of the lines of a prompt, the question last.
CAPABILITIES: Mapping[str, Callable[[random.Random], list[Item]]] = {
    "capitals": drawn(usual(facts.CAPITALS)),
    "symbols": drawn(usual(facts.SYMBOLS)),
    "authors": drawn(usual(facts.AUTHORS)),
    "french": drawn(FRENCH, "English: {} French:"),
    "opposites": drawn(OPPOSITES),
    "past": drawn(PAST),
    "sums": drawn(SUMS, "{} ="),
}


def write_prompts(folder: Path) -> str:
    """Write the files of all capabilities; the suite that reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in CAPABILITIES.items():
        rng, prompts = random.Random(f"real pair/{name}"), dict[str, str]()
        while len(prompts) < PROMPTS:
            *shown, (question, answer) = draw(rng)
            prompts["\n".join([*(f"{q} {a}" for q, a in shown), question])] = answer
        lines = [json.dumps({"prompt": prompt, "completion": f" {a}", "answer": a}) for prompt, a in prompts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return ",".join(f"{name}={folder / name}.jsonl" for name in CAPABILITIES)
