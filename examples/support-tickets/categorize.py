"""Says of a ticket what it is about and how urgent it is, by the words in it (rules.json).

The same as categorize.mjs, to the letter; the tests compare the two.
"""

import json
import os
import re
import unicodedata

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "rules.json"), encoding="utf-8") as file:
    RULES = json.load(file)

# What counts as a space differs between languages, so it is spelt out.
SPACES = re.compile("[\\s\x00-\x1f\x85\ufeff]+")
WORD = re.compile(r"[^\W_]+")
SENTENCE = re.compile(r"^.*?(?:[.!?](?= |$)|[。！？])")


def words(text):
    """' the words of a text ', in lower case and without accents."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(char for char in plain if unicodedata.category(char) != "Mn")
    return " " + " ".join(WORD.findall(plain)) + " "


def pattern(entry):
    """What to look for in the words: a whole phrase, a beginning (x*), or a piece (*x*)."""
    if entry.startswith("*"):
        return words(entry).strip()
    if entry.endswith("*"):
        return words(entry).rstrip()
    return words(entry)


def matches(entries, subject, message):
    """[(entry, points)] of all that occur; what stands in the subject counts twice."""
    found = []
    for entry, weight in entries.items():
        wanted = pattern(entry)
        if wanted in subject:
            found.append((entry, weight * 2))
        elif wanted in message:
            found.append((entry, weight))
    return found


def is_shouting(text):
    """Three exclamation marks in a row, or mostly capitals."""
    letters = [char for char in text if "a" <= char <= "z" or "A" <= char <= "Z"]
    capitals = [char for char in letters if char <= "Z"]
    return "!!!" in text or (len(letters) >= 20 and len(capitals) * 10 >= len(letters) * 7)


def shorten(text, length):
    return text if len(text) <= length else text[: length - 1].rstrip(" ") + "…"


def summarize(subject, message):
    """The subject and the first sentence."""
    subject, message = (SPACES.sub(" ", text).strip(" ") for text in (subject, message))
    sentence = SENTENCE.match(message)
    first = sentence.group() if sentence else message
    return shorten(" – ".join(part for part in (subject, first) if part), RULES["summary_length"])


def text_of(value):
    return value if isinstance(value, str) else ""


def categorize(ticket):
    """{"category", "priority", "summary", "reasons"} of a row of support_tickets."""
    subject, message = text_of(ticket.get("subject")), text_of(ticket.get("message"))
    in_subject, in_message = words(subject), words(message)

    category, best, reasons = "general", RULES["threshold"] - 1, []
    for name, entries in RULES["categories"].items():
        found = matches(entries, in_subject, in_message)
        points = sum(points for _, points in found)
        if points > best:
            category, best = name, points
            reasons = [f"{name}: {entry} +{points}" for entry, points in found]

    found = matches(RULES["priority"]["words"], in_subject, in_message)
    if is_shouting(subject + "\n" + message):
        found.append(("shouting", RULES["priority"]["shouting"]))
    points = sum(points for _, points in found)
    reasons += [f"priority: {entry} {points:+d}" for entry, points in found]
    if points >= RULES["priority"]["high_from"]:
        priority = "high"
    elif points <= RULES["priority"]["low_to"]:
        priority = "low"
    else:
        priority = "medium"

    return {
        "category": category,
        "priority": priority,
        "summary": summarize(subject, message),
        "reasons": reasons,
    }
