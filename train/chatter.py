"""What people say to an assistant that no tool is for: greetings, thanks, opinions, questions of knowledge."""

from __future__ import annotations

import random
from collections.abc import Sequence

_SAID = """
hello|hi|hey there|good morning|good evening|hi, how are you?|how are you doing today?|what's up|nice to meet you
thanks|thank you so much|that was great, thanks|ok|okay, got it|never mind|forget it|no, that's all|bye|see you later
goodbye|you are funny|I love you|who are you?|what is your name?|who made you?|are you a robot?|how old are you?
what can you do?|can you help me?|I need help|tell me a joke|tell me a story|sing me a song|I'm bored
I am so tired today|I had a bad day|what should I do with my life?|do you like music?|what's your favorite color?
do you sleep?|can you keep a secret?|say something nice|what do you think about it?
that is wrong|you misunderstood me|why?|really?|are you sure?
I don't know|maybe later|let me think about it|stop|wait a moment|good job|well done|you are the best
I feel lonely|I am happy today|it's my birthday|happy new year|congratulations|is there life after death?|what is love?
what is the meaning of life?|do you believe in ghosts?|why is the sky blue?|who would win, a lion or a tiger?
tell me something interesting|give me some advice|what makes you happy?|repeat after me
""".strip().replace("\n", "|").split("|")  # fmt: skip
_ABOUT = (
    "what does {a} mean?", "what is a {a}?", "how do you spell {a}?", "what do you think of {a}?", "do you like {a}?",
    "why do people like {a}?", "tell me about {a} and {b}", "write a poem about {a}", "I was thinking about {a}",
    "write a short story about {a} and {b}", "explain {a} to me", "what is the difference between {a} and {b}?",
    "my {a} is broken", "is {a} better than {b}?", "how does {a} work?", "who invented the {a}?",
    "give me three reasons for {a}", "what rhymes with {a}?", "summarize the history of {a}",
    "my friend told me about {a} yesterday",
)  # fmt: skip


def chatter(rng: random.Random, words: Sequence[str]) -> str:
    """Something that calls nothing; `words` are what some of it is about."""
    if rng.random() < 0.5:
        text = rng.choice(_SAID)
    else:
        text = rng.choice(_ABOUT).format(a=rng.choice(words).lower(), b=rng.choice(words).lower())
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text
