"""The words of the full world: three or more sentences for each fact, and ways to ask for it."""

from typing import Final

from agentgym_prm.envs.wiki_search.wording import Asked, Group, Wording

_PERSON: Final = (
    Group(
        ("occupation", "birthplace", "birth_year", "death_year"),
        (
            "{name} ({birth_year}–{death_year}) was {a_kind} from {birthplace}.",
            "{name} was {a_kind}, born in {birthplace} in {birth_year}, and died in {death_year}.",
            "Born in {birthplace} in {birth_year}, {name} was {a_kind} who remained active until shortly before {his} "
            "death in {death_year}.",
            "{name}, {a_kind} who lived from {birth_year} to {death_year}, came from {birthplace}.",
        ),
    ),
    Group(
        ("occupation", "birthplace", "birth_year"),
        (
            "{name} (born {birth_year}) is {a_kind} from {birthplace}.",
            "{name} is {a_kind}, born in {birthplace} in {birth_year}.",
            "Born in {birthplace} in {birth_year}, {name} is {a_kind}.",
        ),
        unless="death_year",
    ),
    Group(
        ("pen_name",),
        (
            "{S} published under the pen name {pen_name}.",
            "Readers knew {him} as {pen_name}.",
            "All of {his} early books appeared under the name {pen_name}.",
        ),
    ),
    Group(
        ("school",),
        (
            "{S} was educated at {school}.",
            "{S} studied at {school}, though without great zeal.",
            "At the age of eighteen {S} entered {school}.",
        ),
    ),
    Group(
        ("teacher",),
        (
            "{S} was a pupil of {teacher}.",
            "{S} learned the craft from {teacher}.",
            "{his} teacher was {teacher}, with whom {he} later quarrelled.",
            "It was {teacher} who taught {him}.",
        ),
    ),
    Group(
        ("masterpiece",),
        (
            "{S} is best known for {masterpiece}.",
            "{S} owes most to {masterpiece}, which is still remembered.",
            "{his} fame rests on {masterpiece}.",
            "Among {his} works, {masterpiece} is the one that is still remembered.",
        ),
    ),
    Group(
        ("spouse",),
        (
            "{S} was married to {spouse}.",
            "{S} married {spouse} against the advice of both families.",
            "{his} marriage to {spouse} was a happy one.",
        ),
    ),
    Group(
        ("deathplace",),
        (
            "{S} died in {deathplace}.",
            "{his} last years were spent in {deathplace}, where {he} died.",
            "{S} died after a short illness in {deathplace}.",
        ),
    ),
)
_WORK: Final = (
    Group(
        ("author", "year"),
        (
            "{name} is {a_kind} {made} by {author} in {year}.",
            "{name} is {a_kind} by {author}, first presented to the public in {year}.",
            "{name}, {made} by {author}, is {a_kind} of {year}.",
            "In {year} {author} completed {name}, {a_kind} that was long neglected.",
        ),
    ),
    Group(
        ("setting",),
        (
            "Its scene is {setting}.",
            "{S} takes us to {setting}, which is described with much affection.",
            "The town in it is {setting}.",
            "{S} is set in {setting}.",
        ),
    ),
    Group(
        ("source_work",),
        (
            "{S} is based on {source_work}.",
            "Its story was taken from {source_work}.",
            "{S} follows {source_work} closely up to its end.",
        ),
    ),
    Group(
        ("museum",),
        (
            "{S} now hangs in {museum}.",
            "Since the war {S} has belonged to {museum}.",
            "{S} can be seen in {museum}.",
        ),
    ),
    Group(
        ("dedicatee",),
        (
            "{S} is dedicated to {dedicatee}.",
            "Its dedication names {dedicatee}.",
            "The first page carries a dedication to {dedicatee}.",
        ),
    ),
)
_TOWN: Final = (
    Group(
        ("region", "town_river"),
        (
            "{name} is a town in {region}, on {town_river}.",
            "{name} lies on {town_river} in the region of {region}.",
            "The town of {name} stands on the banks of {town_river}, in {region}.",
        ),
    ),
    Group(
        ("former_name",),
        (
            "Until the last century {name} was called {former_name}.",
            "{name} was formerly known as {former_name}.",
            "Older maps show {name} under the name {former_name}.",
        ),
    ),
    Group(
        ("population",),
        (
            "{name} has {population} inhabitants.",
            "The last census counted {population} people in {name}.",
            "{population} people live in {name}.",
        ),
    ),
    Group(
        ("chartered",),
        (
            "{name} received its charter in {chartered}.",
            "{name} has been a chartered town since {chartered}.",
            "A charter of {chartered} made {name} a town.",
        ),
    ),
    Group(
        ("industry",),
        (
            "{name} is known for its {industry}.",
            "The wealth of {name} came from {industry}.",
            "The main trade of {name} has always been {industry}.",
        ),
    ),
)
_REGION: Final = (
    Group(
        ("country", "seat"),
        (
            "{name} is a region of {country}, governed from {seat}.",
            "{name} is one of the regions of {country}; its seat of government is {seat}.",
            "The region of {name} in {country} has its administrative seat in {seat}.",
        ),
    ),
    Group(
        ("area",),
        (
            "{name} covers an area of {area} square kilometres.",
            "The area of {name} is {area} square kilometres.",
            "The territory of {name} measures {area} square kilometres.",
        ),
    ),
    Group(
        ("emblem",),
        (
            "The coat of arms of {name} shows a figure on blue ground: the {emblem}.",
            "The emblem of {name} is the {emblem}.",
            "The {emblem} is the emblem of {name}.",
        ),
    ),
)
_COUNTRY: Final = (
    Group(
        ("capital",),
        (
            "{name} is a country whose capital is {capital}.",
            "{name} is a country governed from its capital, {capital}.",
            "The country of {name} has had its capital in {capital} for many years.",
        ),
    ),
    Group(
        ("independence",),
        (
            "{name} became independent in {independence}.",
            "The independence of {name} was declared in {independence}.",
            "{name} has been an independent state since {independence}.",
        ),
    ),
    Group(
        ("currency",),
        (
            "The currency of {name} is the {currency}.",
            "People in {name} pay with the {currency}.",
            "In {name} the {currency} was introduced as currency after a long debate.",
        ),
    ),
)
_RIVER: Final = (
    Group(
        ("source", "length"),
        (
            "{name} is a river of {length} kilometres that rises in {source}.",
            "{name} is a river that has its source in {source} and a length of {length} kilometres.",
            "Rising in the hills of {source}, {name} is a river {length} kilometres long.",
        ),
    ),
    Group(
        ("mouth",),
        (
            "{name} reaches the sea at {mouth}.",
            "The mouth of {name} is at {mouth}.",
            "At {mouth} {name} flows into the sea.",
        ),
    ),
)
_ORGANISATION: Final = (
    Group(
        ("home", "established"),
        (
            "{name} is {a_kind} in {home}, founded in {established}.",
            "{name} is {a_kind} that was established in {home} in {established}.",
            "Established in {established}, {name} is {a_kind} in {home}.",
        ),
    ),
    Group(
        ("founder",),
        (
            "Its founder was {founder}.",
            "{S} was founded by {founder}.",
            "{S} owes its existence to {founder}, who founded it with private money.",
        ),
    ),
    Group(
        ("head",),
        (
            "Its longest-serving director was {head}.",
            "For most of its recent history {head} was its director.",
            "It flourished when {head} was director.",
        ),
    ),
)
_LANDMARK: Final = (
    Group(
        ("site", "completed"),
        (
            "{name} is {a_kind} in {site}, completed in {completed}.",
            "{name} is {a_kind} that has stood in {site} since {completed}.",
            "Completed in {completed}, {name} is {a_kind} in {site}.",
        ),
    ),
    Group(
        ("architect",),
        (
            "{S} was designed by {architect}.",
            "The plans were drawn by {architect}.",
            "Its architect was {architect}.",
        ),
    ),
    Group(
        ("namesake",),
        (
            "{S} is named after {namesake}.",
            "The name honours {namesake}.",
            "{S} bears the name of {namesake}, who never saw it.",
        ),
    ),
)
_AWARD: Final = (
    Group(
        ("giver", "first_year"),
        (
            "{name} is {a_kind} that {giver} has given since {first_year}.",
            "{name} is {a_kind} awarded by {giver}; it was first given in {first_year}.",
            "{name}, first awarded in {first_year}, is {a_kind} of {giver}.",
        ),
    ),
    Group(
        ("honours",),
        (
            "{S} is named in honour of {honours}.",
            "Its name recalls {honours}.",
            "{S} was created in memory of {honours}.",
        ),
    ),
    Group(
        ("first_winner",),
        (
            "The first to receive {him} was {first_winner}.",
            "Its first winner was {first_winner}.",
            "{first_winner} was the first winner.",
        ),
    ),
)

FULL_WORDING: Final = Wording(
    groups={
        "person": _PERSON,
        "work": _WORK,
        "town": _TOWN,
        "region": _REGION,
        "country": _COUNTRY,
        "river": _RIVER,
        "organisation": _ORGANISATION,
        "landmark": _LANDMARK,
        "award": _AWARD,
    },
    asked={
        "occupation": Asked(
            ("What was the occupation of {x}?", "What was the profession of {x}?", "What did {x} do for a living?"),
            same=("Did {x} and {y} have the same occupation?", "Were {x} and {y} of the same profession?"),
        ),
        "birthplace": Asked(
            ("Where was {x} born?", "In which town was {x} born?", "What is the birthplace of {x}?"),
            ("the town where {x} was born", "the birthplace of {x}", "the town that {x} came from"),
            same=("Were {x} and {y} born in the same town?", "Did {x} and {y} come from the same town?"),
        ),
        "birth_year": Asked(
            ("When was {x} born?", "In which year was {x} born?", "What is the year of birth of {x}?"),
            compared=(
                ("lower", "Who was born first, {x} or {y}?"),
                ("lower", "Who is older, {x} or {y}?"),
                ("higher", "Who was born later, {x} or {y}?"),
            ),
        ),
        "death_year": Asked(
            ("When did {x} die?", "In which year did {x} die?", "What was the year in which {x} died?"),
            compared=(("lower", "Who died first, {x} or {y}?"), ("higher", "Who died later, {x} or {y}?")),
        ),
        "deathplace": Asked(
            ("Where did {x} die?", "In which town did {x} die?", "What was the place of death of {x}?"),
            ("the town where {x} died",),
        ),
        "pen_name": Asked(("Under which pen name did {x} publish?", "What was the pen name of {x}?")),
        "school": Asked(
            ("Where did {x} study?", "At which institution was {x} educated?", "What did {x} attend to study?"),
            ("the institution where {x} studied", "the school that {x} attended"),
        ),
        "teacher": Asked(
            ("Who was the teacher of {x}?", "Who taught {x}?", "Under whom did {x} study?"),
            ("the teacher of {x}", "the person who taught {x}"),
        ),
        "masterpiece": Asked(
            ("For which work is {x} best known?", "What is the best-known work of {x}?"),
            ("the best-known work of {x}", "the work for which {x} is best known"),
        ),
        "spouse": Asked(
            ("To whom was {x} married?", "Who was married to {x}?", "Whom did {x} marry?"),
            ("the person whom {x} married", "the spouse of {x}"),
        ),
        "author": Asked(
            ("By whom was {x} {made}?", "Who was the {maker} of {x}?", "Which person is the {maker} of {x}?"),
            ("the {maker} of {x}",),
            same=("Are {x} and {y} by the same person?", "Were {x} and {y} made by the same person?"),
        ),
        "year": Asked(
            ("When was {x} {made}?", "In which year was {x} {made}?", "From which year is {x}?"),
            compared=(
                ("lower", "Which is older, {x} or {y}?"),
                ("higher", "Which was made later, {x} or {y}?"),
                ("lower", "Which came first, {x} or {y}?"),
            ),
        ),
        "setting": Asked(
            ("Where is {x} set?", "In which town is {x} set?", "Which town is the scene of {x}?"),
            ("the town where {x} is set", "the scene of {x}"),
        ),
        "source_work": Asked(
            ("On what is {x} based?", "On which novel is {x} based?", "From which novel was the story of {x} taken?"),
            ("the novel that {x} is based on", "the source of {x}"),
        ),
        "museum": Asked(
            ("Where does {x} hang?", "In which museum can {x} be seen?", "Which museum owns {x}?"),
            ("the museum that owns {x}", "the museum where {x} can be seen"),
        ),
        "dedicatee": Asked(
            ("To whom is {x} dedicated?", "Who is the dedicatee of {x}?", "Which person is {x} dedicated to?"),
            ("the person to whom {x} is dedicated", "the dedicatee of {x}"),
        ),
        "region": Asked(
            ("In which region is {x}?", "What region does {x} belong to?", "Which region is {x} in?"),
            ("the region that {x} belongs to", "the region of {x}"),
            same=("Are {x} and {y} in the same region?", "Do {x} and {y} lie in the same region?"),
        ),
        "town_river": Asked(
            ("On which river is {x}?", "Which river runs through {x}?", "What river flows past {x}?"),
            ("the river that runs through {x}", "the river at {x}"),
            same=("Are {x} and {y} on the same river?",),
        ),
        "former_name": Asked(("What was the former name of {x}?", "How was {x} formerly called?")),
        "population": Asked(
            ("How many inhabitants does {x} have?", "What is the population of {x}?", "How many people live in {x}?"),
            compared=(
                ("higher", "Which has more inhabitants, {x} or {y}?"),
                ("lower", "Which is the smaller town by population, {x} or {y}?"),
            ),
        ),
        "chartered": Asked(
            (
                "When did {x} receive its charter?",
                "In which year was {x} chartered?",
                "Since when has {x} been a town?",
            ),
            compared=(
                ("lower", "Which town was chartered first, {x} or {y}?"),
                ("higher", "Which town received its charter later, {x} or {y}?"),
            ),
        ),
        "industry": Asked(
            (
                "For which industry is {x} known?",
                "What is the main trade of {x}?",
                "Where did the wealth of {x} come from?",
            )
        ),
        "country": Asked(
            ("In which country is {x}?", "Which country does {x} belong to?", "What country is {x} a part of?"),
            ("the country that {x} belongs to", "the country of {x}"),
            same=("Do {x} and {y} belong to the same country?",),
        ),
        "seat": Asked(
            (
                "What is the seat of government of {x}?",
                "From which town is {x} governed?",
                "Which town is the seat of {x}?",
            ),
            ("the seat of government of {x}", "the town from which {x} is governed"),
        ),
        "area": Asked(
            ("How many square kilometres does {x} cover?", "What is the area of {x} in square kilometres?"),
            compared=(
                ("higher", "Which is larger in area, {x} or {y}?"),
                ("lower", "Which is smaller in area, {x} or {y}?"),
            ),
        ),
        "emblem": Asked(("What is the emblem of {x}?", "What does the coat of arms of {x} show?")),
        "capital": Asked(
            ("What is the capital of {x}?", "Which town is the capital of {x}?", "From which capital is {x} governed?"),
            ("the capital of {x}",),
        ),
        "independence": Asked(
            ("When did {x} become independent?", "In which year did {x} become independent?"),
            compared=(("lower", "Which became independent first, {x} or {y}?"),),
        ),
        "currency": Asked(("What is the currency of {x}?", "With what do people in {x} pay?")),
        "source": Asked(
            ("In which region does {x} rise?", "Where is the source of {x}?", "In which region is the source of {x}?"),
            ("the region where {x} rises",),
        ),
        "mouth": Asked(
            ("Where does {x} flow into the sea?", "At which town is the mouth of {x}?", "At which town does {x} end?"),
            ("the town at the mouth of {x}",),
        ),
        "length": Asked(
            ("How many kilometres long is {x}?", "How long is {x} in kilometres?", "What is the length of {x}?"),
            compared=(("higher", "Which is longer, {x} or {y}?"), ("lower", "Which is shorter, {x} or {y}?")),
        ),
        "home": Asked(
            ("Where is {x}?", "In which town is {x}?", "Which town is home to {x}?"),
            ("the town that is home to {x}", "the town where {x} is"),
        ),
        "established": Asked(
            ("When was {x} founded?", "In which year was {x} established?", "What is the founding year of {x}?"),
            compared=(
                ("lower", "Which was founded first, {x} or {y}?"),
                ("higher", "Which was founded later, {x} or {y}?"),
            ),
        ),
        "founder": Asked(
            ("Who founded {x}?", "By whom was {x} founded?", "Which person was the founder of {x}?"),
            ("the founder of {x}", "the person who founded {x}"),
        ),
        "head": Asked(
            ("Who was the longest-serving director of {x}?", "Who was for most of its recent history director of {x}?"),
            ("the longest-serving director of {x}",),
        ),
        "site": Asked(
            ("Where does {x} stand?", "In which town is {x}?", "Which town has {x}?"),
            ("the town where {x} stands",),
        ),
        "architect": Asked(
            ("Who designed {x}?", "Who was the architect of {x}?", "By whom was {x} designed?"),
            ("the architect of {x}", "the person who designed {x}"),
        ),
        "completed": Asked(
            ("When was {x} completed?", "In which year was {x} completed?", "What year saw the completion of {x}?"),
            compared=(("lower", "Which was completed first, {x} or {y}?"),),
        ),
        "namesake": Asked(
            ("After whom is {x} named?", "Whose name does {x} bear?", "Who is honoured by the name of {x}?"),
            ("the person after whom {x} is named",),
        ),
        "giver": Asked(
            ("Who gives {x}?", "By which institution is {x} awarded?", "Which institution awards {x}?"),
            ("the institution that awards {x}",),
        ),
        "first_year": Asked(("When was {x} first awarded?", "In which year was {x} first given?")),
        "honours": Asked(
            ("In whose honour is {x} named?", "After whom is {x} named?", "In whose memory was {x} created?"),
            ("the person in whose honour {x} is named",),
        ),
        "first_winner": Asked(
            ("Who was the first winner of {x}?", "Who was the first to receive {x}?", "To whom was {x} given first?"),
            ("the first winner of {x}",),
        ),
    },
    fillers={
        "person": (
            "Several accounts give another year for {his} first journey.",
            "Letters from {his} youth were found in an attic and are now lost again.",
            "Where {he} met {his} publisher is not known.",
            "{S} is often confused with a relative of the same family name.",
            "Contemporaries praised {his} patience more than {his} talent.",
            "Rumour had it that {S} never answered letters.",
            "For some years {S} worked in a town on the coast.",
            "{S} travelled widely and wrote about what {he} saw.",
            "Whether {he} ever taught is a matter of dispute.",
        ),
        "work": (
            "Critics were divided when it first appeared.",
            "A later version, which is shorter, has become the usual one.",
            "For a generation nobody knew where it was.",
            "The title is said to go back to a proverb.",
            "Several scenes were changed on the advice of a friend.",
            "Its success surprised everybody.",
        ),
        "town": (
            "A great fire destroyed the older quarters.",
            "Every second summer a festival is held in the market square.",
            "The railway came late.",
            "Several painters and writers were born here.",
            "Its port has been silted up for a long time.",
            "The town hall was rebuilt twice.",
        ),
        "region": ("The east is hilly, the west is flat.", "Most of it is covered by forest.", "The winters are long."),
        "country": ("It has a long coast and few roads.", "Its first constitution was short."),
        "river": ("Floods are frequent in spring.", "Barges can go about half of the way up.", "Trout are plentiful."),
        "organisation": (
            "It moved into a larger building after a flood.",
            "Its archive is open to the public.",
            "For a time it was close to ruin.",
            "Several of its members became famous.",
        ),
        "landmark": (
            "It was damaged in a storm and repaired.",
            "Many thought that it was too expensive.",
            "Visitors can climb to the top.",
            "It appears on an old postage stamp.",
        ),
        "award": ("It comes with a medal and a small sum.", "In some years nobody was found worthy."),
    },
    filler_chance=0.35,
    alias_chance=0.12,
    described=0.25,
    named={"person": 3},
)
