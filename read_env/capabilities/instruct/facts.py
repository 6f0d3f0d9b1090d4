"""A small base of undisputed facts, the better known ones first; alternatives that are right too follow ``|``."""

from __future__ import annotations

#: (subject, accepted answers), the first of which is the usual one.
Fact = tuple[str, tuple[str, ...]]


def _facts(text: str) -> tuple[Fact, ...]:
    pairs = (entry.split(":") for entry in text.split(";"))
    return tuple((subject.strip(), tuple(answer.strip().split("|"))) for subject, answer in pairs)


CAPITALS = _facts("""
France: Paris; Italy: Rome; Spain: Madrid; Germany: Berlin; Japan: Tokyo; the United Kingdom: London; Russia: Moscow;
China: Beijing|Peking; Egypt: Cairo; Greece: Athens; Portugal: Lisbon; Ireland: Dublin; Austria: Vienna; Canada: Ottawa;
Australia: Canberra; Sweden: Stockholm; Norway: Oslo; Denmark: Copenhagen; Finland: Helsinki; Poland: Warsaw;
Hungary: Budapest; Belgium: Brussels; Turkey: Ankara; Iran: Tehran|Teheran; Iraq: Baghdad; Cuba: Havana;
Argentina: Buenos Aires; Brazil: Brasília|Brasilia; Peru: Lima; Chile: Santiago; Colombia: Bogotá|Bogota;
Kenya: Nairobi; Thailand: Bangkok; Vietnam: Hanoi|Ha Noi; South Korea: Seoul; India: New Delhi; Pakistan: Islamabad;
Afghanistan: Kabul; Nepal: Kathmandu; Romania: Bucharest; Bulgaria: Sofia; Serbia: Belgrade; Croatia: Zagreb;
Slovenia: Ljubljana; Slovakia: Bratislava; Iceland: Reykjavik|Reykjavík; Estonia: Tallinn; Latvia: Riga;
Lithuania: Vilnius; Ukraine: Kyiv|Kiev; Lebanon: Beirut; Syria: Damascus; Jordan: Amman; Saudi Arabia: Riyadh;
Qatar: Doha; Morocco: Rabat; Tunisia: Tunis; Algeria: Algiers; Ghana: Accra; Ethiopia: Addis Ababa; Uganda: Kampala;
Rwanda: Kigali; Senegal: Dakar; Zambia: Lusaka; Zimbabwe: Harare; Angola: Luanda; Mozambique: Maputo;
Uruguay: Montevideo; Paraguay: Asunción|Asuncion; Ecuador: Quito; Venezuela: Caracas; Jamaica: Kingston; Mali: Bamako;
Mongolia: Ulaanbaatar|Ulan Bator; Cambodia: Phnom Penh; Laos: Vientiane; Albania: Tirana; Malta: Valletta;
Armenia: Yerevan; Azerbaijan: Baku; Uzbekistan: Tashkent; Libya: Tripoli; Sudan: Khartoum; Somalia: Mogadishu;
Oman: Muscat; Bahrain: Manama; Namibia: Windhoek; Botswana: Gaborone; Madagascar: Antananarivo; Fiji: Suva;
Bhutan: Thimphu
""")

SYMBOLS = _facts("""
O: oxygen; H: hydrogen; C: carbon; N: nitrogen; Au: gold; Ag: silver; Fe: iron; He: helium; Cu: copper; Na: sodium;
Ca: calcium; Cl: chlorine; Al: aluminium|aluminum; Pb: lead; K: potassium; Mg: magnesium; Zn: zinc; Hg: mercury;
Ne: neon; Sn: tin; S: sulfur|sulphur; P: phosphorus; F: fluorine; I: iodine; Si: silicon; Ni: nickel; U: uranium;
Li: lithium; Pt: platinum; Ti: titanium; Ar: argon; Co: cobalt; Cr: chromium; Mn: manganese; Br: bromine;
W: tungsten|wolfram; As: arsenic; B: boron; Ba: barium; Be: beryllium; Kr: krypton; Xe: xenon; Rn: radon; Ra: radium;
Pu: plutonium; Cd: cadmium; Bi: bismuth; Sb: antimony; Pd: palladium; Sr: strontium; V: vanadium; Ga: gallium;
Ge: germanium; Se: selenium; Zr: zirconium; Rb: rubidium; Cs: caesium|cesium; Th: thorium; Ir: iridium; Os: osmium
""")

ATOMIC_NUMBERS = _facts("""
1: hydrogen; 2: helium; 6: carbon; 7: nitrogen; 8: oxygen; 3: lithium; 10: neon; 11: sodium; 79: gold; 26: iron;
12: magnesium; 13: aluminium|aluminum; 14: silicon; 17: chlorine; 20: calcium; 29: copper; 47: silver; 82: lead;
92: uranium; 9: fluorine; 4: beryllium; 5: boron; 15: phosphorus; 16: sulfur|sulphur; 18: argon; 19: potassium;
30: zinc; 50: tin; 53: iodine; 80: mercury; 21: scandium; 22: titanium; 23: vanadium; 24: chromium; 25: manganese;
27: cobalt; 28: nickel; 31: gallium; 32: germanium; 33: arsenic; 34: selenium; 35: bromine; 36: krypton; 78: platinum
""")

AUTHORS = _facts("""
Hamlet: William Shakespeare|Shakespeare; Don Quixote: Miguel de Cervantes|Cervantes; The Odyssey: Homer;
War and Peace: Leo Tolstoy|Tolstoy|Tolstoi; Pride and Prejudice: Jane Austen|Austen;
Oliver Twist: Charles Dickens|Dickens; Frankenstein: Mary Shelley|Shelley; Dracula: Bram Stoker|Stoker;
Crime and Punishment: Fyodor Dostoevsky|Dostoevsky|Dostoyevsky; The Hobbit: J. R. R. Tolkien|Tolkien;
Nineteen Eighty-Four: George Orwell|Orwell; The Little Prince: Antoine de Saint-Exupéry|Saint-Exupéry|Saint-Exupery;
Alice's Adventures in Wonderland: Lewis Carroll|Carroll; Moby-Dick: Herman Melville|Melville;
The Great Gatsby: F. Scott Fitzgerald|Fitzgerald; The Divine Comedy: Dante Alighieri|Dante;
Faust, the tragedy of 1808: Johann Wolfgang von Goethe|Goethe; The Metamorphosis, the novella of 1915: Franz Kafka|Kafka;
Les Misérables: Victor Hugo|Hugo; The Three Musketeers: Alexandre Dumas|Dumas;
To Kill a Mockingbird: Harper Lee; The Old Man and the Sea: Ernest Hemingway|Hemingway;
Treasure Island: Robert Louis Stevenson|Stevenson; Robinson Crusoe: Daniel Defoe|Defoe;
Gulliver's Travels: Jonathan Swift|Swift; The Picture of Dorian Gray: Oscar Wilde|Wilde;
The Catcher in the Rye: J. D. Salinger|Salinger; The Grapes of Wrath: John Steinbeck|Steinbeck;
Brave New World: Aldous Huxley|Huxley; Jane Eyre: Charlotte Brontë|Charlotte Bronte;
Ulysses, the novel of 1922: James Joyce|Joyce; Madame Bovary: Gustave Flaubert|Flaubert; Candide: Voltaire;
Lolita: Vladimir Nabokov|Nabokov; The Canterbury Tales: Geoffrey Chaucer|Chaucer; Paradise Lost: John Milton|Milton;
One Hundred Years of Solitude: Gabriel García Márquez|García Márquez|Garcia Marquez;
Lord of the Flies: William Golding|Golding; The Stranger, the novel of 1942: Albert Camus|Camus;
A Doll's House: Henrik Ibsen|Ibsen; The Aeneid: Virgil|Vergil; Heart of Darkness: Joseph Conrad|Conrad;
Waiting for Godot: Samuel Beckett|Beckett; The Cherry Orchard: Anton Chekhov|Chekhov;
Mrs Dalloway: Virginia Woolf|Woolf; Things Fall Apart: Chinua Achebe|Achebe; Beloved: Toni Morrison|Morrison;
Eugene Onegin: Alexander Pushkin|Pushkin; Dead Souls: Nikolai Gogol|Gogol; The Name of the Rose: Umberto Eco|Eco
""")

YEARS = _facts("""
did the Second World War end: 1945; did the First World War begin: 1914; did humans first land on the Moon: 1969;
did the Berlin Wall fall: 1989; did Columbus first reach the Americas: 1492; was the Bastille stormed: 1789;
was the American Declaration of Independence adopted: 1776; did the Titanic sink: 1912;
was the Battle of Hastings fought: 1066; did the First World War end: 1918;
did the Second World War begin in Europe: 1939; was the Soviet Union dissolved: 1991;
was John F. Kennedy assassinated: 1963; was the Battle of Waterloo fought: 1815; was Magna Carta first sealed: 1215;
was Pearl Harbor attacked: 1941; did Constantinople fall to the Ottomans: 1453; did London's Great Fire happen: 1666;
did the October Revolution take place in Russia: 1917; was Sputnik 1 launched: 1957;
did Yuri Gagarin fly into space: 1961; did the Chernobyl disaster happen: 1986; did the D-Day landings take place: 1944;
did Nelson Mandela become president of South Africa: 1994; was Mount Everest first climbed: 1953;
did Wall Street crash and the Great Depression set in: 1929; did the Wright brothers first fly with an engine: 1903;
did Martin Luther publish the Ninety-five Theses: 1517; was the Battle of Trafalgar fought: 1805;
did the American Civil War end: 1865; was Darwin's On the Origin of Species published: 1859;
were the first modern Olympic Games held: 1896; was the Eiffel Tower opened: 1889; did Queen Victoria die: 1901;
did the Spanish Armada sail against England: 1588; did Hong Kong return to China: 1997;
did the Cuban Missile Crisis happen: 1962; was the Suez Canal opened: 1869; was NATO founded: 1949;
was penicillin discovered by Alexander Fleming: 1928; did an earthquake destroy much of Lisbon: 1755;
was the Peace of Westphalia concluded: 1648; was Charlemagne crowned emperor: 800; was Dolly the sheep born: 1996;
were euro coins and notes introduced: 2002
""")

YOUNG = _facts("""
a dog: puppy|pup; a cat: kitten; a cow: calf; a sheep: lamb; a pig: piglet; a horse: foal; a duck: duckling;
a hen: chick; a bear: cub; a goat: kid; a deer: fawn; a kangaroo: joey; a frog: tadpole; a goose: gosling;
a swan: cygnet; a butterfly: caterpillar; an owl: owlet; an eagle: eaglet; a spider: spiderling; a hare: leveret;
a seal: pup; a hedgehog: hoglet; a pigeon: squab; a turkey: poult; a llama: cria; an eel: elver;
a porcupine: porcupette; a fish: fry
""")

UNITS = _facts("""
length: metre|meter; time: second; mass: kilogram; temperature: kelvin; electric current: ampere|amp; force: newton;
energy: joule; power: watt; pressure: pascal; frequency: hertz; voltage: volt; electrical resistance: ohm;
electric charge: coulomb; amount of substance: mole; luminous intensity: candela; capacitance: farad;
inductance: henry; magnetic flux density: tesla; magnetic flux: weber; radioactivity: becquerel;
absorbed radiation dose: gray; equivalent radiation dose: sievert; luminous flux: lumen; illuminance: lux;
electrical conductance: siemens; plane angle: radian; solid angle: steradian; catalytic activity: katal
""")

COUNTS = _facts("""
sides does a triangle have: 3; legs does a spider have: 8; legs does an insect have: 6;
days are there in a leap year: 366; letters are there in the English alphabet: 26;
minutes are there in an hour: 60; years are there in a century: 100;
planets are there in the Solar System: 8; players of one football team are on the pitch: 11;
degrees does a right angle have: 90; cards are there in a deck without jokers: 52;
squares are there on a chessboard: 64; sides does an octagon have: 8; strings does a violin have: 4;
rings are there on the Olympic flag: 5; stars are there on the flag of the United States: 50;
stripes are there on the flag of the United States: 13; keys does a modern piano have: 88;
inches are there in a foot: 12; degrees do the angles of a triangle add up to: 180;
seconds are there in an hour: 3600; hours are there in a week: 168; bones does an adult human have: 206;
minutes are there in a day: 1440; edges does a cube have: 12; months have 31 days: 7;
moons does Mars have: 2; ounces are there in a pound: 16; metres are there in a kilometre: 1000;
dots are there on a die: 21; dark squares are there on a chessboard: 32;
black keys does a modern piano have: 36; faces does an icosahedron have: 20;
sides does a decagon have: 10; degrees are there in a full circle: 360; sides does a nonagon have: 9;
hours are there in a leap year: 8784; degrees do the angles of a pentagon add up to: 540
""")
